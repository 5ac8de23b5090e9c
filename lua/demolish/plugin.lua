--- The load script. It registers the command, the `<Plug>` mappings and the moments at which Demolish wakes up, and
--- loads nothing: Neovim's own LSP module costs 3 ms, so it is touched only where somebody else has loaded it already,
--- and otherwise with the first file. Read `server.lua` next.

local api = vim.api

if vim.fn.has('nvim-0.12') == 0 then
  vim.notify_once('demolish: needs Neovim 0.12 or newer', vim.log.levels.WARN)
  return
end

api.nvim_create_user_command('Demolish', function(call)
  require('demolish.commands').run(call)
end, {
  nargs = '*',
  bang = true,
  range = true,
  desc = 'Demolish: fix, status, why, log, toggle, restart, stop',
  complete = function(lead, line)
    return require('demolish.commands').complete(lead, line)
  end,
})

-- Taking a suggestion is an expression mapping: the `<C-g>u` around it makes it one undo step.
for name, part in pairs({ ['accept'] = 'all', ['accept-word'] = 'word', ['accept-line'] = 'line' }) do
  vim.keymap.set('i', ('<Plug>(demolish-%s)'):format(name), function()
    return require('demolish.inline').keys(part)
  end, { expr = true, desc = ('Demolish: %s'):format((name:gsub('-', ' '))) })
end

for _, name in ipairs({ 'next', 'prev', 'dismiss', 'trigger' }) do
  vim.keymap.set('i', ('<Plug>(demolish-%s)'):format(name), function()
    require('demolish.inline')[name]()
  end, { desc = ('Demolish: %s suggestion'):format(name) })
end

vim.keymap.set({ 'n', 'x' }, '<Plug>(demolish-fix)', ':Demolish fix<CR>', { silent = true, desc = 'Demolish: fix' })

-- Language servers start on FileType. A file's BufReadPre comes before that, and so the wrapper is in place whatever
-- the order in which the user's configuration and this plugin were loaded.
if package.loaded['vim.lsp'] then
  require('demolish.server').install()
else
  api.nvim_create_autocmd({ 'BufReadPre', 'BufNewFile', 'FileType' }, {
    group = api.nvim_create_augroup('demolish.load', {}),
    once = true,
    callback = function(event)
      -- A `once` autocommand of several events runs once for each.
      pcall(api.nvim_del_augroup_by_name, 'demolish.load')
      require('demolish.server').install(event)
    end,
  })
end
