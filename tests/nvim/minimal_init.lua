-- The Neovim of the tests: this checkout, mini.test, and nothing of the user's.
-- nvim --headless --clean -u tests/nvim/minimal_init.lua -c 'lua MiniTest.run()' -c qa
local root = vim.fs.dirname(vim.fs.dirname(vim.fs.dirname(vim.fs.abspath(debug.getinfo(1, 'S').source:sub(2)))))

-- mini.test is installed beside Neovim: usr/bin/nvim, usr/share/neovim-mini.test.
local prefix = vim.fs.dirname(vim.fs.dirname(vim.fn.resolve(vim.v.progpath)))
vim.opt.runtimepath:prepend(vim.env.MINI_TEST or prefix .. '/share/neovim-mini.test')
vim.opt.runtimepath:prepend(root)
package.path = root .. '/tests/nvim/?.lua;' .. package.path

vim.o.swapfile = false
vim.o.shadafile = 'NONE'

-- The children load this file too (see helpers.lua); only the Neovim that runs the tests needs the rest.
if not vim.env.DEMOLISH_ROOT then
  vim.env.DEMOLISH_ROOT = root
  vim.cmd.cd(root)
  require('runner').setup()
end
