-- Runs in every Neovim: it registers names and loads nothing. lua/demolish/plugin.lua has the reasons.
if not vim.g.loaded_demolish then
  vim.g.loaded_demolish = true
  require('demolish.plugin')
end
