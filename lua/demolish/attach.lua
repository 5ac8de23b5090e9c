--- What happens when our server attaches to a buffer: inline completion is switched on, and the keys of the option
--- `editor.keys` are mapped in that buffer.

local api = vim.api

local M = {}
local H = {}

--- Set by `:Demolish toggle`, over the option `editor.auto`.
M.auto = nil ---@type boolean?

--- What a key did before it was ours, between the key and the call.
M.held = nil ---@type fun()?

---@param client vim.lsp.Client
---@param bufnr integer
function M.attach(client, bufnr)
  H.map_keys(bufnr)
  H.apply(client, bufnr)
  -- Neovim makes its object anew where the buffer was read anew (`:edit!`) or somebody has switched inline completion off
  -- and on; whatever happened, insert mode is where it matters.
  api.nvim_create_autocmd('InsertEnter', {
    group = api.nvim_create_augroup(('demolish.attach:%d'):format(bufnr), {}),
    buffer = bufnr,
    callback = function()
      require('demolish.inline').adopt(bufnr)
    end,
  })
end

--- Are suggestions shown while typing in this buffer?
---@param bufnr integer
---@return boolean
function M.is_auto(bufnr)
  local config = require('demolish.config').get()
  if vim.tbl_contains(config.auto_exclude, vim.bo[bufnr].filetype) then
    return false
  elseif M.auto ~= nil then
    return M.auto
  end
  return config.auto
end

--- Switches suggestions while typing on or off, and returns the new state.
---@param on? boolean nil switches to the other state
---@return boolean
function M.toggle(on)
  if on == nil then
    local now = M.auto
    if now == nil then
      now = require('demolish.config').get().auto
    end
    on = not now
  end
  M.auto = on
  for _, client in ipairs(vim.lsp.get_clients({ name = require('demolish.server').NAME })) do
    for bufnr in pairs(client.attached_buffers) do
      if not on and package.loaded['demolish.inline'] then
        require('demolish.inline').hide(bufnr)
      end
      H.apply(client, bufnr)
    end
  end
  return on
end

--- Inline completion is enabled wherever it can be asked for. Without our own methods Neovim always asks while typing,
--- so that there it is enabled only where that is wanted.
---@param client vim.lsp.Client
---@param bufnr integer
function H.apply(client, bufnr)
  if not client:supports_method('textDocument/inlineCompletion', bufnr) then
    return
  end
  vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
  if not require('demolish.inline').adopt(bufnr) and not M.is_auto(bufnr) then
    vim.lsp.inline_completion.enable(false, { bufnr = bufnr })
  end
end

---@param bufnr integer
function H.map_keys(bufnr)
  local parts = { accept = 'all', accept_word = 'word', accept_line = 'line' }
  for action, keys in pairs(require('demolish.config').get().keys) do
    local function typed()
      if parts[action] then
        return require('demolish.inline').keys(parts[action])
      elseif action ~= 'trigger' and not require('demolish.inline').is_visible() then
        return ''
      end
      return ('<Cmd>lua require("demolish.inline").%s()<CR>'):format(action)
    end
    for _, key in ipairs(keys) do
      H.map(bufnr, key, 'Demolish: ' .. action:gsub('_', ' '), typed)
    end
  end
end

--- Maps a key in a buffer; where `keys` answers '', the key does what it did before.
---@param bufnr integer
---@param key string
---@param desc string
---@param keys fun(): string
function H.map(bufnr, key, desc, keys)
  local before = api.nvim_buf_call(bufnr, function()
    return vim.fn.maparg(key, 'i', false, true)
  end)
  if before.desc == desc then
    return
  end
  vim.keymap.set('i', key, function()
    local typed = keys()
    return typed ~= '' and typed or H.fall_through(key, before)
  end, { buffer = bufnr, expr = true, replace_keycodes = true, desc = desc })
end

--- The keys that a mapping stood for before ours took its place.
---@param key string
---@param before table<string, any> as |maparg()| returns it
---@return string
function H.fall_through(key, before)
  if vim.tbl_isempty(before) then
    return key
  end
  if before.callback then
    if before.expr == 1 then
      local typed = before.callback()
      return type(typed) == 'string' and typed or ''
    end
    -- An expression mapping may not change text, so the function runs after this one.
    M.held = before.callback
    return '<Cmd>lua require("demolish.attach").held()<CR>'
  end
  local rhs = before.expr == 1 and api.nvim_eval(before.rhs) or before.rhs
  local raw = api.nvim_replace_termcodes(rhs, true, true, true)
  api.nvim_feedkeys(raw, before.noremap == 1 and 'n' or 'm', false)
  return ''
end

return M
