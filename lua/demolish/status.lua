--- `:Demolish status`, `:Demolish log`, `:Demolish trace` and the words for a status line.

local M = {}
local H = {}

--- How long the daemon may take to say how it is.
local STATUS_MS = 2000

--- Opens a window that says what runs.
function M.open()
  H.ask(function(status, problem)
    require('demolish.float').open(H.lines(status, problem), { title = 'Demolish: status', footer = 'q close' })
  end)
end

--- Opens the daemon's log, read-only, at its end. The daemon says where it is; if none runs, the command line does.
function M.log()
  H.ask(function(status, problem)
    if status and type(status.log) == 'string' then
      H.open_log(status.log)
      return
    end
    local cmd, found = require('demolish.config').cmd()
    if not found then
      vim.notify(('demolish: no log: %s'):format(problem or 'the daemon does not run'), vim.log.levels.WARN)
      return
    end
    vim.system(vim.list_extend(cmd, { 'logs', '--path' }), { text = true, timeout = STATUS_MS }, function(run)
      vim.schedule(function()
        H.open_log(vim.trim(run.stdout or ''))
      end)
    end)
  end)
end

--- Follows the messages that pass, in a terminal of its own.
function M.trace()
  local cmd, found = require('demolish.config').cmd()
  if not found then
    vim.notify(('demolish: %s was not found'):format(cmd[1]), vim.log.levels.ERROR)
    return
  end
  vim.cmd('botright 15new')
  vim.fn.jobstart(vim.list_extend(cmd, { 'trace' }), { term = true })
  -- Whoever closes the window has seen enough: the process ends with the buffer.
  vim.bo.bufhidden = 'wipe'
  vim.cmd.normal({ 'G', bang = true })
end

---@param path string
function H.open_log(path)
  if vim.fn.filereadable(path) == 0 then
    vim.notify(('demolish: no log: %s does not exist'):format(path), vim.log.levels.WARN)
    return
  end
  vim.cmd.split({ args = { vim.fn.fnameescape(path) }, mods = { keepalt = true } })
  vim.bo.readonly, vim.bo.modifiable, vim.bo.autoread = true, false, true
  vim.cmd.normal({ 'G', bang = true })
end

--- A few words for the status line of the current buffer.
---@return string
function M.line()
  local bufnr = vim.api.nvim_get_current_buf()
  if not vim.tbl_contains(require('demolish.config').get().filetypes, vim.bo[bufnr].filetype) then
    return ''
  end
  if #vim.lsp.get_clients({ name = require('demolish.server').NAME, bufnr = bufnr }) == 0 then
    return 'demolish –'
  elseif not require('demolish.attach').is_auto(bufnr) then
    return 'demolish off'
  end
  local item = require('demolish.inline').current(bufnr)
  local mark = item and require('demolish.ghost').mark(vim.tbl_get(item.lsp, 'data', 'demolish'))
  return mark and ('demolish ' .. mark[1]) or 'demolish'
end

--- The state of the daemon, from our client or, without one, from the command line.
---@param done fun(status?: table, problem?: string)
function H.ask(done)
  local server = require('demolish.server')
  local client = vim.lsp.get_clients({ name = server.NAME })[1]
  if client then
    local answered = false
    local function answer(status, problem)
      if not answered then
        answered = true
        done(status, problem)
      end
    end
    client:request('demolish/status', nil, function(err, result)
      answer(type(result) == 'table' and result or nil, err and err.message or nil)
    end)
    vim.defer_fn(function()
      answer(nil, 'the daemon does not answer')
    end, STATUS_MS)
    return
  end
  local cmd, found = require('demolish.config').cmd()
  if not found then
    done(nil, ('%s was not found'):format(cmd[1]))
    return
  end
  vim.system(vim.list_extend(cmd, { 'status', '--json' }), { text = true, timeout = STATUS_MS }, function(run)
    vim.schedule(function()
      local ok, status = pcall(vim.json.decode, run.stdout or '')
      local problem = vim.trim(run.stderr or '')
      done(ok and type(status) == 'table' and status or nil, problem ~= '' and problem or 'the daemon does not run')
    end)
  end)
end

---@param status? table
---@param problem? string
---@return demolish.Line[]
function H.lines(status, problem)
  local lines = {} ---@type demolish.Line[]
  local function add(name, value, group)
    lines[#lines + 1] = { { ('%-12s'):format(name), 'Title' }, { value, group } }
  end
  if status then
    add('daemon', ('%s, process %s'):format(status.version or '?', tostring(status.pid or '?')))
    local model, trouble = M.model(status)
    add('model', model, trouble and 'DiagnosticWarn' or nil)
    if type(status.agentModel) == 'table' then
      local agent, lacks = M.model(status, status.agentModel)
      add('agent', agent, lacks and 'DiagnosticWarn' or nil)
    end
    for _, link in ipairs(type(status.links) == 'table' and status.links or {}) do
      if type(link.server) == 'table' then
        add('server', H.server(link.server), link.server.state == 'stopped' and 'DiagnosticWarn' or nil)
      end
    end
    for _, twin in ipairs(type(status.twins) == 'table' and status.twins or {}) do
      local median = type(twin.checkMs) == 'number' and (', %.0f ms each'):format(twin.checkMs) or ''
      add('twin', ('%s: %d checks%s'):format(table.concat(twin.command, ' '), twin.checks or 0, median))
    end
  else
    add('daemon', problem or 'does not run', 'DiagnosticWarn')
  end
  add('suggestions', require('demolish.attach').is_auto(vim.api.nvim_get_current_buf()) and 'on' or 'off')
  for _, entry in ipairs(M.clients()) do
    add('client', ('%s: %s'):format(entry.name, entry.text))
  end
  return lines
end

--- A server in words: what it does, what it takes, how fast it is.
---@param server table
---@return string
function H.server(server)
  local words = { server.state }
  if type(server.rssBytes) == 'number' and server.rssBytes > 0 then
    words[#words + 1] = ('%.0f MiB'):format(server.rssBytes / 1024 / 1024)
  end
  if type(server.latency) == 'table' then
    words[#words + 1] = ('%.1f ms (95 %%: %.1f)'):format(server.latency.p50Ms, server.latency.p95Ms)
  end
  for _, entry in ipairs({ { 'waiting', server.pending }, { 'restarts', server.restarts } }) do
    if type(entry[2]) == 'number' and entry[2] > 0 then
      words[#words + 1] = ('%d %s'):format(entry[2], entry[1])
    end
  end
  return ('%s: %s'):format(table.concat(server.command, ' '), table.concat(words, ', '))
end

--- The model in words, and whether that is bad news.
---@param status table
---@param of? table the agent's model; without it, the one for typing
---@return string words
---@return boolean trouble
function M.model(status, of)
  local model = of or status.model
  if type(model) ~= 'table' then
    return 'none', true
  elseif type(model.error) == 'string' then
    return model.error, true
  end
  local name = type(model.name) == 'string' and model.name ~= '' and model.name or nil
  return name and ('%s, %s'):format(name, model.state or '?') or 'not loaded yet; the first suggestion loads it', false
end

--- The language clients of this editor and how each was started.
---@return { name: string, wrapped: boolean, text: string }[]
function M.clients()
  local wrap = require('demolish.wrap')
  local entries = {} ---@type { name: string, wrapped: boolean, text: string }[]
  for _, client in ipairs(vim.lsp.get_clients({ _uninitialized = true })) do
    local cmd = client.config.cmd
    local decision = wrap.decisions[client.name]
    local own = client.name == require('demolish.server').NAME
    local text = own and "Demolish's own server"
      or decision and decision.reason
      or 'started before Demolish; `:Demolish restart` wraps it'
    text = client.initialized and text or (text .. ', has not answered yet')
    entries[#entries + 1] = { name = client.name, wrapped = wrap.is_wrapped(cmd), text = text }
  end
  return entries
end

return M
