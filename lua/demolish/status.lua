--- `:Demolish status`, `:Demolish log` and the words for a status line.

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

--- Opens the daemon's log, read-only, at its end.
function M.log()
  H.ask(function(status, problem)
    local path = status and status.log
    if type(path) ~= 'string' or vim.fn.filereadable(path) == 0 then
      vim.notify('demolish: no log: ' .. (problem or 'the daemon names none'), vim.log.levels.WARN)
      return
    end
    vim.cmd.split({ args = { vim.fn.fnameescape(path) }, mods = { keepalt = true } })
    vim.bo.readonly, vim.bo.modifiable, vim.bo.autoread = true, false, true
    vim.cmd.normal({ 'G', bang = true })
  end)
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
  elseif not require('demolish.attach').is_enabled(bufnr) then
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
    client:request('demolish/status', vim.empty_dict(), function(err, result)
      answer(type(result) == 'table' and result or nil, err and err.message or nil)
    end)
    vim.defer_fn(function()
      answer(nil, 'the daemon does not answer')
    end, STATUS_MS)
    return
  end
  local binary, found = require('demolish.config').binary()
  if not found then
    done(nil, ('%s was not found'):format(binary))
    return
  end
  vim.system({ binary, 'status', '--json' }, { text = true, timeout = STATUS_MS }, function(run)
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
    local model = type(status.model) == 'table' and (status.model.name or status.model.path) or status.model
    if type(model) == 'string' then
      add('model', model)
    else
      local why = type(status.model_error) == 'string' and status.model_error or nil
      add('model', why or 'none', why and 'DiagnosticWarn' or nil)
    end
    for _, server in ipairs(type(status.servers) == 'table' and status.servers or {}) do
      local name = server.name
        or (type(server.command) == 'table' and table.concat(server.command, ' '))
        or server.command
      add('server', ('%s %s'):format(tostring(name), type(server.state) == 'string' and server.state or ''))
    end
  else
    add('daemon', problem or 'does not run', 'DiagnosticWarn')
  end
  add('suggestions', require('demolish.attach').is_enabled(vim.api.nvim_get_current_buf()) and 'on' or 'off')
  for _, entry in ipairs(M.clients()) do
    add('client', ('%s: %s'):format(entry.name, entry.text))
  end
  return lines
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
