--- `:Demolish stop` and `:Demolish restart`: the daemon ends, and the language servers start again without it or behind it.

local M = {}
local H = {}

--- How long a language server may take to shut down, and the daemon to end.
local STOP_MS = 3000

--- The editor is as if Demolish were not installed, until `restart()`.
function M.stop()
  require('demolish.server').install()
  local wrap = require('demolish.wrap')
  wrap.stopped = true
  vim.lsp.enable(require('demolish.server').NAME, false)
  for _, client in ipairs(H.others()) do
    if wrap.is_wrapped(client.config.cmd) then
      H.start_again(client, wrap.unwrapped(client.config.cmd --[=[@as string[]]=]))
    end
  end
  H.end_daemon(function(problem)
    if problem then
      vim.notify('demolish: ' .. problem, vim.log.levels.WARN)
    else
      vim.notify('demolish: stopped; the language servers go on without it')
    end
  end)
end

--- Ends the daemon and starts everything again behind a new one.
function M.restart()
  local server, wrap = require('demolish.server'), require('demolish.wrap')
  server.install()
  wrap.stopped = false
  vim.lsp.enable(server.NAME, false)
  H.end_daemon(function(problem)
    if problem then
      vim.notify('demolish: ' .. problem, vim.log.levels.WARN)
      return
    end
    for _, client in ipairs(H.others()) do
      local cmd = client.config.cmd
      local wrapped = wrap.command(client.name, cmd)
      if wrapped or wrap.is_wrapped(cmd) then
        H.start_again(client, wrapped or cmd --[=[@as string[]]=])
      end
    end
    vim.wait(STOP_MS, function()
      return #vim.lsp.get_clients({ name = server.NAME }) == 0
    end, 20)
    server.configure()
    vim.notify('demolish: restarted')
  end)
end

--- The clients that are not our own.
---@return vim.lsp.Client[]
function H.others()
  return vim.tbl_filter(function(client)
    return client.name ~= require('demolish.server').NAME
  end, vim.lsp.get_clients())
end

--- Neovim's own `:lsp restart`, with another command.
---@param client vim.lsp.Client
---@param cmd string[]
function H.start_again(client, cmd)
  client.config.cmd = cmd
  client.exit_timeout = client.exit_timeout or STOP_MS
  local ok, problem = pcall(vim.cmd.lsp, { args = { 'restart', client.name } })
  if not ok then
    vim.notify(('demolish: %s did not restart: %s'):format(client.name, problem), vim.log.levels.WARN)
  end
end

---@param done fun(problem?: string)
function H.end_daemon(done)
  local cmd, found = require('demolish.config').cmd()
  if not found then
    done(('%s was not found'):format(cmd[1]))
    return
  end
  vim.system(vim.list_extend(cmd, { 'stop' }), { text = true, timeout = STOP_MS }, function(run)
    vim.schedule(function()
      -- 1 is the answer "no": there was none to stop.
      local problem = vim.trim(run.stderr or '')
      done(run.code > 1 and (problem ~= '' and problem or 'the daemon did not stop in time') or nil)
    end)
  end)
end

return M
