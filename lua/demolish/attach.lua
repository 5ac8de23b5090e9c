--- What happens when our server attaches to a buffer: inline completion is switched on, and the keys of the option
--- `keys` are mapped in that buffer.

local api = vim.api

local M = {}
local H = {}

--- Off after `:Demolish toggle`.
M.enabled = nil ---@type boolean?

--- What a key did before it was ours, between the key and the call.
M.held = nil ---@type fun()?

---@param client vim.lsp.Client
---@param bufnr integer
function M.attach(client, bufnr)
  H.map_keys(bufnr)
  H.apply(client, bufnr)
end

--- Are suggestions shown in this buffer?
---@param bufnr integer
---@return boolean
function M.is_enabled(bufnr)
  local config = require('demolish.config').get().inline_completion
  if vim.tbl_contains(config.disable_filetypes, vim.bo[bufnr].filetype) then
    return false
  end
  if M.enabled ~= nil then
    return M.enabled
  end
  return config.enable
end

--- Switches the suggestions of all buffers on or off, and returns the new state.
---@param on? boolean nil switches to the other state
---@return boolean
function M.toggle(on)
  if on == nil then
    local now = M.enabled
    if now == nil then
      now = require('demolish.config').get().inline_completion.enable
    end
    on = not now
  end
  M.enabled = on
  for _, client in ipairs(vim.lsp.get_clients({ name = require('demolish.server').NAME })) do
    for bufnr in pairs(client.attached_buffers) do
      H.apply(client, bufnr)
    end
  end
  return on
end

---@param client vim.lsp.Client
---@param bufnr integer
function H.apply(client, bufnr)
  local on = M.is_enabled(bufnr)
  if on and not client:supports_method('textDocument/inlineCompletion', bufnr) then
    return
  end
  if vim.lsp.inline_completion.is_enabled({ bufnr = bufnr, client_id = client.id }) ~= on then
    vim.lsp.inline_completion.enable(on, { bufnr = bufnr })
  end
  if on then
    require('demolish.inline').adopt(bufnr)
  end
end

---@param bufnr integer
function H.map_keys(bufnr)
  local keys = require('demolish.config').get().keys
  for name, part in pairs({ accept = 'all', accept_word = 'word', accept_line = 'line' }) do
    H.map(bufnr, keys[name], 'Demolish: ' .. name:gsub('_', ' '), function()
      return require('demolish.inline').keys(part)
    end)
  end
  for _, name in ipairs({ 'next', 'prev', 'dismiss', 'trigger' }) do
    H.map(bufnr, keys[name], ('Demolish: %s suggestion'):format(name), function()
      if name ~= 'trigger' and not require('demolish.inline').is_visible() then
        return ''
      end
      return ('<Cmd>lua require("demolish.inline").%s()<CR>'):format(name)
    end)
  end
end

--- Maps a key in a buffer; where `keys` answers '', the key does what it did before.
---@param bufnr integer
---@param key string
---@param desc string
---@param keys fun(): string
function H.map(bufnr, key, desc, keys)
  if key == '' then
    return
  end
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
