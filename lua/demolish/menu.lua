--- Ghost text and a completion menu want the same place. Who gives way is the option `editor.hide_behind_menu`.

local M = {}
local H = {}

--- Must the suggestion stay hidden now?
---@return boolean
function M.in_the_way()
  return require('demolish.config').get().hide_behind_menu and H.selecting()
end

--- Is an entry of a completion menu selected? Knows Neovim's menu and those of blink.cmp and nvim-cmp.
---@return boolean
function H.selecting()
  if vim.fn.pumvisible() == 1 then
    return vim.fn.complete_info({ 'selected' }).selected ~= -1
  end
  local blink = package.loaded['blink.cmp']
  if blink and H.ask(blink.is_menu_visible) then
    return H.ask(blink.get_selected_item) ~= nil
  end
  local cmp = package.loaded['cmp']
  if cmp and H.ask(cmp.visible) then
    return H.ask(cmp.get_active_entry) ~= nil
  end
  return false
end

--- Somebody else's function must not cost us ours.
---@param ask? fun(): any
---@return any
function H.ask(ask)
  if type(ask) ~= 'function' then
    return nil
  end
  local ok, answer = pcall(ask)
  return ok and answer or nil
end

return M
