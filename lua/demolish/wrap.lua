--- Wrapper mode: a language server with the command `{ 'ty', 'server' }` is started as `{ 'demolish', 'lsp', '--', 'ty',
--- 'server' }`. The one place through which every client starts, by `vim.lsp.enable()` or by hand, is `vim.lsp.start()`;
--- it is wrapped there, so that the order of loading does not matter, the user's configuration stays as it was written,
--- and Neovim has checked before that the real server exists.

local M = {}
local H = {}

---@class demolish.wrap.Decision
---@field wrapped boolean
---@field reason string Why, for people.

--- What was decided for each client name, for `:checkhealth` and `:Demolish status`.
---@type table<string, demolish.wrap.Decision>
M.decisions = {}

--- Set by `:Demolish stop`: servers start unwrapped until `:Demolish restart`.
M.stopped = false

--- Hooks `vim.lsp.start()`. Idempotent.
function M.install()
  if H.start then
    return
  end
  H.start = vim.lsp.start
  ---@diagnostic disable-next-line: duplicate-set-field
  vim.lsp.start = function(config, opts)
    local ok, wrapped = pcall(M.config, config)
    return H.start(ok and wrapped or config, opts)
  end
end

--- The same client configuration with its command wrapped, or the very table that came in.
---@param config vim.lsp.ClientConfig
---@return vim.lsp.ClientConfig
function M.config(config)
  if type(config) ~= 'table' then
    return config
  end
  local name = config.name or (type(config.cmd) == 'table' and vim.fs.basename(config.cmd[1])) or 'unnamed'
  local cmd, reason = M.command(name, config.cmd)
  M.decisions[name] = { wrapped = M.is_wrapped(cmd or config.cmd), reason = reason }
  if not cmd then
    return config
  end
  return vim.tbl_extend('force', config, { cmd = cmd }) --[[@as vim.lsp.ClientConfig]]
end

--- The wrapped command, or nil and the reason why it stays as it is.
---@param name string
---@param cmd any
---@return string[]?
---@return string reason
function M.command(name, cmd)
  local config = require('demolish.config').get()
  if type(cmd) == 'function' then
    return nil, 'its command is a Lua function'
  elseif type(cmd) ~= 'table' or type(cmd[1]) ~= 'string' then
    return nil, 'it has no command'
  elseif M.is_wrapped(cmd) then
    return nil, 'started through Demolish'
  elseif name == 'demolish' or vim.fs.basename(cmd[1]) == 'demolish' then
    return nil, "Demolish's own server"
  elseif M.stopped then
    return nil, 'Demolish is stopped'
  elseif not config.wrap then
    return nil, 'the option "wrap" is off'
  elseif vim.tbl_contains(config.wrap_exclude, name) then
    return nil, 'excluded by the option "wrap_exclude"'
  elseif #config.wrap_only > 0 and not vim.tbl_contains(config.wrap_only, name) then
    return nil, 'not in the option "wrap_only"'
  end
  local ours, found = require('demolish.config').cmd()
  if not found then
    return nil, ('%s was not found'):format(ours[1])
  end
  vim.list_extend(ours, { 'lsp', '--' })
  return vim.list_extend(ours, cmd), 'started through Demolish'
end

--- Does this command already go through Demolish?
---@param cmd any
---@return boolean
function M.is_wrapped(cmd)
  return type(cmd) == 'table' and H.server_at(cmd) ~= nil
end

--- The command without the wrapper.
---@param cmd string[]
---@return string[]
function M.unwrapped(cmd)
  local at = H.server_at(cmd)
  return at and vim.list_slice(cmd, at) or cmd
end

--- Where the real server's command begins in a wrapped one.
---@param cmd string[]
---@return integer?
function H.server_at(cmd)
  local ours = require('demolish.config').cmd()
  for i = 2, #cmd - 2 do
    if cmd[i] == 'lsp' and cmd[i + 1] == '--' and (vim.fs.basename(cmd[1]) == 'demolish' or cmd[1] == ours[1]) then
      return i + 2
    end
  end
end

return M
