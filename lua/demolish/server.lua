--- Demolish's own language server (`demolish lsp`): its configuration, and the client that runs it for a buffer.

local api = vim.api

local M = {}
local H = {}

--- The name of the client; also the name under which `vim.lsp.config()` takes what the user wants changed.
M.NAME = 'demolish'

--- A server that ends by itself is started again this often within `RESTART_WINDOW_MS`.
local RESTARTS_MAX = 3
local RESTART_WINDOW_MS = 60 * 1000
local RESTART_DELAY_MS = 500

--- Wraps the other servers and enables our own. Idempotent.
---@param event? { event: string, buf: integer } the autocommand that woke us
function M.install(event)
  if H.installed then
    return
  end
  H.installed = true
  require('demolish.wrap').install()
  local group = api.nvim_create_augroup('demolish', {})
  api.nvim_create_autocmd('LspAttach', {
    group = group,
    callback = function(attach)
      local client = vim.lsp.get_client_by_id(attach.data.client_id)
      if client and client.name == M.NAME then
        require('demolish.attach').attach(client, attach.buf)
      end
    end,
  })
  api.nvim_create_autocmd('FileType', {
    group = group,
    callback = function(filetype)
      H.on_filetype(filetype.buf, filetype.match)
    end,
  })
  if event and event.event == 'FileType' then
    H.on_filetype(event.buf, vim.bo[event.buf].filetype)
  elseif not event then
    M.configure()
  end
end

--- Registers the server with Neovim. What the user has set by `vim.lsp.config('demolish', …)` wins.
function M.configure()
  if not H.installed then
    return
  end
  local config = require('demolish.config').get()
  local user = H.user or vim.lsp.config[M.NAME] or {}
  H.user = user
  vim.lsp.config(M.NAME, vim.tbl_extend('keep', user, H.config(config)))
  if require('demolish.wrap').stopped then
    return
  end
  if not vim.lsp.is_enabled(M.NAME) or H.filetypes ~= table.concat(config.filetypes, ',') then
    H.filetypes = table.concat(config.filetypes, ',')
    vim.lsp.enable(M.NAME)
  end
end

--- The client that serves a buffer, or nil and a sentence that says why there is none.
---@param bufnr integer
---@return vim.lsp.Client?
---@return string reason
function M.client(bufnr)
  local client = vim.lsp.get_clients({ name = M.NAME, bufnr = bufnr })[1]
  if client then
    return client, ''
  end
  local config = require('demolish.config')
  local cmd, found = config.cmd()
  local filetype = vim.bo[bufnr].filetype
  if not found then
    return nil, ('%s was not found: install it or set the option "editor.cmd"'):format(cmd[1])
  elseif require('demolish.wrap').stopped then
    return nil, 'stopped; `:Demolish restart` starts it again'
  elseif not vim.tbl_contains(config.get().filetypes, filetype) then
    return nil, ('no support for the file type "%s"'):format(filetype)
  elseif vim.bo[bufnr].buftype ~= '' then
    return nil, 'this buffer is not a file'
  end
  return nil, 'the server is not running for this buffer; `:checkhealth demolish` says more'
end

---@param config demolish.Config.Editor
---@return vim.lsp.Config
function H.config(config)
  ---@type vim.lsp.Config
  return {
    cmd = vim.list_extend(require('demolish.config').cmd(), { 'lsp' }),
    filetypes = config.filetypes,
    root_markers = H.root_markers(config.root_markers),
    init_options = require('demolish.config').daemon(),
    exit_timeout = 2000,
    on_exit = H.on_exit,
  }
end

--- The nearest marker counts, whichever it is; a repository is a project only where nothing else says so.
---@param markers string[]
---@return (string|string[])[]
function H.root_markers(markers)
  local projects = vim.tbl_filter(function(marker)
    return marker ~= '.git'
  end, markers)
  local groups = {} ---@type (string|string[])[]
  if #projects > 0 then
    groups[1] = projects
  end
  if #projects < #markers then
    groups[#groups + 1] = '.git'
  end
  return groups
end

--- Runs in a fast context; a server that nobody has stopped comes back, but not for ever.
---@param code integer
---@param signal integer
---@param client_id integer
function H.on_exit(code, signal, client_id)
  local now = vim.uv.now()
  H.exits = vim.tbl_filter(function(time)
    return now - time < RESTART_WINDOW_MS
  end, H.exits or {})
  vim.schedule(function()
    local client = vim.lsp.get_client_by_id(client_id)
    local asked = vim.v.exiting ~= vim.NIL or (client and client._is_stopping) or (code == 0 and signal == 0)
    if asked or #H.exits >= RESTARTS_MAX then
      return
    end
    H.exits[#H.exits + 1] = now
    vim.defer_fn(function()
      if vim.lsp.is_enabled(M.NAME) then
        vim.lsp.enable(M.NAME)
      end
    end, RESTART_DELAY_MS)
  end)
end

--- The first file of a supported type enables the server; a missing program is said once.
---@param bufnr integer
---@param filetype string
function H.on_filetype(bufnr, filetype)
  local config = require('demolish.config')
  if vim.bo[bufnr].buftype ~= '' or not vim.tbl_contains(config.get().filetypes, filetype) then
    return
  end
  local cmd, found = config.cmd()
  if found then
    M.configure()
  elseif not H.warned then
    H.warned = true
    vim.notify(
      ('demolish: %s was not found, so language servers run without it (:checkhealth demolish)'):format(cmd[1]),
      vim.log.levels.WARN
    )
  end
end

return M
