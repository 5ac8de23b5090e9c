-- Loading, mappings, :checkhealth and the help file.

local MiniTest = require('mini.test')
local helpers = require('helpers')
local eq, item = MiniTest.expect.equality, helpers.item
local child = helpers.new_child()

local T = MiniTest.new_set({ hooks = { post_once = child.stop } })

--- How long the load script may take.
local LOAD_MS_MAX = 2

T['loading takes less than 2 ms and loads nothing'] = function()
  child.start_with([[_G.before = vim.tbl_keys(package.loaded)]])
  eq(
    child.lua_get([[vim.tbl_filter(function(name)
    return name:find('^demolish') ~= nil or name == 'vim.lsp'
  end, vim.tbl_keys(package.loaded))]]),
    { 'demolish.plugin' }
  )
  -- The best of ten, so that a busy machine fails no test.
  local best = child.lua([[
    local best = math.huge
    for _ = 1, 10 do
      vim.g.loaded_demolish = nil
      package.loaded['demolish.plugin'] = nil
      local start = vim.uv.hrtime()
      vim.cmd.source(vim.env.DEMOLISH_ROOT .. '/plugin/demolish.lua')
      best = math.min(best, (vim.uv.hrtime() - start) / 1e6)
    end
    return best
  ]])
  eq({ best, best < LOAD_MS_MAX }, { best, true })
end

T['nothing is mapped but <Plug>'] = function()
  child.start_with('_G.mapped = #vim.api.nvim_get_keymap("i")')
  local maps = child.lua_get([[vim.tbl_filter(function(map)
    return (map.desc or ''):find('Demolish') ~= nil and not map.lhs:find('^<Plug>%(demolish%-')
  end, vim.iter({ 'i', 'n', 'x', 'v', 's', 'o', 'c', 't' }):map(vim.api.nvim_get_keymap):flatten():totable())]])
  eq(maps, {})
end

T['the option keys maps a key that falls through'] = MiniTest.new_set({
  parametrize = {
    { '', '\t' },
    { [[vim.keymap.set('i', '<Tab>', 'tab')]], 'tab' },
    { [[vim.keymap.set('i', '<Tab>', function() return 'fn' end, { expr = true })]], 'fn' },
    { [[vim.keymap.set('i', '<Tab>', function() vim.api.nvim_put({ 'put' }, 'c', false, true) end)]], 'put' },
    { [[vim.cmd('inoremap <expr> <Tab> "e" .. "xpr"')]], 'expr' },
  },
}, {
  test = function(map, expected)
    child.start_with(map .. [[
      vim.g.demolish = { editor = { keys = { accept = '<Tab>' }, debounce_ms = 40 } }
      vim.lsp.config('demolish', { cmd = function(d) return require('fake_server').cmd(d) end })
      vim.o.expandtab = false
    ]])
    child.cmd('edit ' .. child.dir() .. '/a.py')
    child.wait('#vim.lsp.get_clients({ bufnr = 0 }) == 1 and vim.lsp.get_clients()[1].initialized')
    child.lua('vim.wait(30); vim.bo.expandtab = false')
    child.type_keys('i', 'x', '<Tab>')
    eq(child.text(), 'x' .. expected)
    child.suggest({ item('sum(a)') })
    child.type_keys(' ')
    child.expect_ghost('sum(a)')
    child.type_keys('<Tab>')
    eq(child.text(), 'x' .. expected .. ' sum(a)')
  end,
})

--- The report of `:checkhealth demolish`.
local function health()
  child.cmd('checkhealth demolish')
  return child.text()
end

local function expect_lines(text, lines)
  for _, line in ipairs(lines) do
    eq({ line, text:find(line, 1, true) ~= nil }, { line, true })
  end
end

T['checkhealth says what is well'] = function()
  child.start_with([[
    vim.lsp.config('ls', { cmd = { 'fake-ls' }, filetypes = { 'python' } })
    vim.lsp.config('gone', { cmd = { 'no-such-server' }, filetypes = { 'python' } })
    vim.lsp.enable({ 'ls', 'gone' })
  ]])
  child.cmd('edit ' .. child.dir() .. '/a.py')
  child.lua('vim.wait(100)')
  expect_lines(health(), {
    'version 0.1.0 fits this plugin',
    'the daemon does not run; the first file of a supported type starts it',
    'ls: started through Demolish',
    'gone is enabled, but no-such-server was not found',
    "Neovim's inline completion is as expected",
  })
end

T['checkhealth says that the program is missing'] = function()
  child.start_with([[vim.g.demolish = { editor = { cmd = { '/no/such/demolish' } } }]])
  expect_lines(health(), { '/no/such/demolish was not found', 'Build it with `cargo build --release`' })
end

T['checkhealth says that the versions differ'] = function()
  local bin = child.fn and vim.fn.tempname() .. '-demolish'
  vim.fn.writefile({ '#!/bin/sh', '[ "$1" = --version ] && echo demolish 9.1.0 || exit 1' }, bin)
  vim.uv.fs_chmod(bin, 493)
  child.start_with(('vim.g.demolish = { editor = { cmd = { %q } } }'):format(bin))
  expect_lines(health(), { 'the program is version 9.1.0, this plugin is made for 0.1.0' })
end

T['the help file has every command, mapping and option'] = function()
  child.start_with()
  child.cmd('helptags ' .. vim.env.DEMOLISH_ROOT .. '/doc')
  local tags = {}
  for name in pairs(require('demolish.commands').commands) do
    tags[#tags + 1] = ':Demolish-' .. name
  end
  for _, name in ipairs({ 'accept', 'accept-word', 'accept-line', 'next', 'prev', 'dismiss', 'trigger', 'fix' }) do
    tags[#tags + 1] = ('<Plug>(demolish-%s)'):format(name)
  end
  for name in pairs(require('demolish.defaults').editor) do
    tags[#tags + 1] = 'demolish.editor.' .. name
  end
  local written = child.lua_get([[table.concat(vim.fn.readfile(vim.env.DEMOLISH_ROOT .. '/doc/tags'), '\n')]])
  vim.fn.delete(vim.env.DEMOLISH_ROOT .. '/doc/tags')
  expect_lines(
    '\n' .. written,
    vim.tbl_map(function(tag)
      return '\n' .. tag .. '\t'
    end, tags)
  )
end

T['a Neovim whose inline completion is not as we know it keeps its own'] = function()
  child.start_attached()
  child.lua([[require('vim.lsp._capability').all.inline_completion.show = nil]])
  eq(child.lua_get('require("demolish.inline").is_visible()'), false)
  eq(child.lua_get('require("demolish.inline").adopt(0)'), false)
end

return T
