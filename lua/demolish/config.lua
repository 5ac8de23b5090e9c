--- Options: `vim.g.demolish`, then the argument of `setup()`, over `defaults.lua`. A bad option is reported once and
--- its default is used, so that a typing error never costs the user their language server.

local M = {}
local H = {}

---@class demolish.Opts Any part of |demolish.Config|.
---@field binary? string
---@field wrap? boolean
---@field servers? string[]|'*'
---@field exclude? string[]
---@field filetypes? string[]
---@field root_markers? (string|string[])[]
---@field inline_completion? demolish.Opts.InlineCompletion
---@field keys? demolish.Opts.Keys
---@field settings? table<string, any>

---@class demolish.Opts.InlineCompletion
---@field enable? boolean
---@field debounce_ms? integer
---@field mark? boolean
---@field menu? 'hide'|'show'
---@field disable_filetypes? string[]

---@class demolish.Opts.Keys
---@field accept? string
---@field accept_word? string
---@field accept_line? string
---@field next? string
---@field prev? string
---@field dismiss? string
---@field trigger? string

---@type demolish.Config?
local merged

--- The options in force.
---@return demolish.Config
function M.get()
  if not merged then
    merged = H.merge(vim.g.demolish)
  end
  return merged
end

--- Replaces the options by the defaults, `vim.g.demolish` and `opts`, in this order.
---@param opts? demolish.Opts
function M.set(opts)
  merged = H.merge(vim.g.demolish, opts)
end

--- The program to run, and whether it is there. Looks on PATH first, then in the plugin's own checkout.
---@return string path
---@return boolean found
function M.binary()
  local binary = M.get().binary
  local path = vim.fn.expand(binary)
  if vim.fn.executable(path) == 1 then
    return path, true
  end
  if binary == require('demolish.defaults').binary then
    local root = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h:h:h')
    local built = root .. '/target/release/demolish'
    if vim.fn.executable(built) == 1 then
      return built, true
    end
  end
  return path, false
end

---@param ... any
---@return demolish.Config
function H.merge(...)
  local config = vim.deepcopy(require('demolish.defaults'))
  local complaints = {} ---@type string[]
  for i = 1, select('#', ...) do
    local opts = select(i, ...)
    if type(opts) == 'table' then
      H.take(config, opts, '', complaints)
    elseif opts ~= nil then
      complaints[#complaints + 1] = ('options must be a table, not a %s'):format(type(opts))
    end
  end
  if #complaints > 0 then
    vim.notify('demolish: ' .. table.concat(complaints, '; '), vim.log.levels.WARN)
  end
  return config
end

--- Copies every option of `from` that is known and of the right type into `into`.
---@param into table<string, any>
---@param from table<string, any>
---@param path string
---@param complaints string[]
function H.take(into, from, path, complaints)
  for key, value in pairs(from) do
    local name = path .. tostring(key)
    local default = into[key]
    local choices = H.choices[name]
    if default == nil and path ~= 'settings.' then
      complaints[#complaints + 1] = ('unknown option "%s"%s'):format(name, H.did_you_mean(tostring(key), into))
    elseif choices and not vim.tbl_contains(choices, value) then
      complaints[#complaints + 1] = ('option "%s" must be one of %s'):format(name, table.concat(choices, ', '))
    elseif name == 'servers' and (value == '*' or type(value) == 'table') then
      into[key] = vim.deepcopy(value)
    elseif type(value) ~= type(default) or name == 'servers' then
      complaints[#complaints + 1] = ('option "%s" must be a %s, not a %s'):format(name, type(default), type(value))
    elseif type(default) == 'table' and not vim.islist(default) then
      H.take(into[key], value, name .. '.', complaints)
    else
      into[key] = vim.deepcopy(value)
    end
  end
end

H.choices = { ['inline_completion.menu'] = { 'hide', 'show' } }

---@param word string
---@param known table<string, any>
---@return string
function H.did_you_mean(word, known)
  local near = vim.fn.matchfuzzy(vim.tbl_keys(known), word)[1]
  for key in pairs(known) do
    -- An edit distance of one third of the word is a typing error.
    if not near and H.distance(word, key) <= math.max(1, math.floor(#word / 3)) then
      near = key
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
