-- The Neovim of the tests: this checkout, mini.test, and nothing of the user's.
local root = vim.fs.dirname(vim.fs.dirname(vim.fs.dirname(vim.fs.abspath(debug.getinfo(1, 'S').source:sub(2)))))
local mini_test = vim.env.MINI_TEST or root .. '/.tools/nvim/usr/share/neovim-mini.test'

vim.opt.runtimepath:prepend(mini_test)
vim.opt.runtimepath:prepend(root)
package.path = root .. '/tests/nvim/?.lua;' .. package.path

vim.o.swapfile = false
vim.o.shadafile = 'NONE'
vim.env.DEMOLISH_ROOT = root
