-- The configuration of the demo: what a user of two language servers would write, and keys for suggestions.
vim.g.demolish = {
  editor = { keys = { accept = '<Tab>', accept_word = '<C-Right>', next = '<M-n>', prev = '<M-p>' } },
}

vim.lsp.config('ty', { cmd = { 'ty', 'server' }, filetypes = { 'python' }, root_markers = { 'pyproject.toml' } })
vim.lsp.config('tsc', {
  cmd = { 'tsc', '--lsp', '--stdio' },
  filetypes = { 'typescript' },
  root_markers = { 'tsconfig.json' },
})
vim.lsp.enable({ 'ty', 'tsc' })

vim.diagnostic.config({ virtual_text = true, severity_sort = true })
vim.o.number = true
vim.o.signcolumn = 'yes'
vim.o.expandtab = true
vim.o.shiftwidth = 4
