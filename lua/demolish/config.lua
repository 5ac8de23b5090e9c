--- Options: `vim.g.demolish`, then the argument of `setup()`, over `defaults.lua`. The section `editor` is the plugin's
--- own and is checked here; the other sections are the daemon's, which gets what the user has set and checks it itself.
--- A bad option is reported once and its default is used, so that a typing error never costs a language server.

local M = {}
local H = {}

---@type demolish.Config.Editor?
local editor
---@type demolish.Opts?
local given

--- The plugin's own options.
---@return demolish.Config.Editor
function M.get()
  if not editor then
    M.set()
  end
  return editor --[[@as demolish.Config.Editor]]
end

--- What the user has set of the daemon's options.
---@return demolish.Opts
function M.daemon()
  M.get()
  local opts = vim.tbl_extend('force', {}, given)
  opts.editor = nil
  return next(opts) and opts or vim.empty_dict()
end

--- Takes `vim.g.demolish` and then `opts`.
---@param opts? demolish.Opts
function M.set(opts)
  local complaints = {} ---@type string[]
  given = vim.tbl_deep_extend('force', H.table(vim.g.demolish, complaints), H.table(opts, complaints))
  local defaults = require('demolish.defaults')
  for section in pairs(given) do
    if defaults[section] == nil then
      local home = defaults.editor[section] ~= nil and ', it belongs into "editor"'
      complaints[#complaints + 1] = ('unknown option "%s"%s'):format(section, home or H.did_you_mean(section, defaults))
    elseif type(given[section]) ~= 'table' then
      complaints[#complaints + 1] = ('option "%s" must be a table, not a %s'):format(section, type(given[section]))
      given[section] = nil
    end
  end
  for section in pairs(given) do
    given[section] = defaults[section] ~= nil and given[section] or nil
  end
  editor = vim.deepcopy(defaults.editor)
  H.take(editor, given.editor or {}, complaints)
  if #complaints > 0 then
    vim.notify('demolish: ' .. table.concat(complaints, '; '), vim.log.levels.WARN)
  end
end

--- The command of the program, and whether it is there. Looks on PATH first, then in the plugin's own checkout.
---@return string[] cmd
---@return boolean found
function M.cmd()
  local cmd = vim.deepcopy(M.get().cmd)
  cmd[1] = vim.fn.expand(cmd[1])
  if vim.fn.executable(cmd[1]) == 1 then
    return cmd, true
  end
  if M.get().cmd[1] == require('demolish.defaults').editor.cmd[1] then
    local root = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h:h:h')
    local built = root .. '/target/release/demolish'
    if vim.fn.executable(built) == 1 then
      cmd[1] = built
      return cmd, true
    end
  end
  return cmd, false
end

---@param opts any
---@param complaints string[]
---@return table
function H.table(opts, complaints)
  if opts ~= nil and type(opts) ~= 'table' then
    complaints[#complaints + 1] = ('options must be a table, not a %s'):format(type(opts))
  end
  return type(opts) == 'table' and opts or {}
end

--- Copies every option that is known and of the right type.
---@param into table<string, any>
---@param from table<string, any>
---@param complaints string[]
function H.take(into, from, complaints)
  for key, value in pairs(from) do
    local default = into[key]
    local name = 'editor.' .. tostring(key)
    if default == nil then
      complaints[#complaints + 1] = ('unknown option "%s"%s'):format(name, H.did_you_mean(tostring(key), into))
    elseif type(value) ~= type(default) then
      complaints[#complaints + 1] = ('option "%s" must be a %s, not a %s'):format(name, type(default), type(value))
    elseif key == 'keys' then
      into.keys = H.keys(value, complaints)
    elseif key == 'cmd' and type(value[1]) ~= 'string' then
      complaints[#complaints + 1] = 'option "editor.cmd" must name a program'
    else
      into[key] = vim.deepcopy(value)
    end
  end
end

--- The actions that a key can be given to.
M.ACTIONS = { 'accept', 'accept_word', 'accept_line', 'next', 'prev', 'dismiss', 'trigger' }

--- A single key may be written without its list.
---@param keys table<string, string|string[]>
---@param complaints string[]
---@return table<string, string[]>
function H.keys(keys, complaints)
  local taken = {} ---@type table<string, string[]>
  for action, list in pairs(keys) do
    if not vim.tbl_contains(M.ACTIONS, action) then
      local known = {} ---@type table<string, boolean>
      for _, name in ipairs(M.ACTIONS) do
        known[name] = true
      end
      complaints[#complaints + 1] = ('unknown option "editor.keys.%s"%s'):format(action, H.did_you_mean(action, known))
    else
      taken[action] = type(list) == 'table' and list or { list }
    end
  end
  return taken
end

---@param word string
---@param known table<string, any>
---@return string
function H.did_you_mean(word, known)
  local near, least = nil, math.huge
  for key in pairs(known) do
    -- An edit distance of one third of the word is a typing error, and so is a name that was not written to its end.
    local distance = vim.startswith(key, word) and 1 or H.distance(word, key)
    if distance < least and distance <= math.max(1, math.floor(#word / 3)) then
      near, least = key, distance
    end
  end
  return near and (', did you mean "%s"?'):format(near) or ''
end

--- Levenshtein's distance.
---@param a string
---@param b string
---@return integer
function H.distance(a, b)
  local row = {} ---@type integer[]
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      diagonal, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
    end
  end
  return row[#b]
end

return M
