-- Suggestions: drawing, taking, dropping, and what is asked of the server.

local MiniTest = require('mini.test')
local helpers = require('helpers')
local eq, item = MiniTest.expect.equality, helpers.item
local child = helpers.new_child()

local T = MiniTest.new_set({
  hooks = {
    pre_case = function()
      child.start_attached()
    end,
    post_once = child.stop,
  },
})

local function press(name)
  child.lua('vim.api.nvim_feedkeys(vim.keycode(...), "m", false)', { ('<Plug>(demolish-%s)'):format(name) })
  child.lua('vim.wait(20)')
end

T['a suggestion is drawn with its verdict'] = function()
  child.suggest({ item('sum(prices)') })
  child.type_keys('i', 'total = ')
  child.expect_ghost('sum(prices)', '✓ checked by ty')
end

T['every verdict has its mark'] = MiniTest.new_set({
  parametrize = {
    { { kind = 'clean', server = 'ty' }, {}, '✓ checked by ty' },
    { { kind = 'clean', server = 'ty' }, { { text = 'a' }, { text = 'b' } }, '✓ checked by ty, 2 refused' },
    { { kind = 'unknown', reason = 'no language server' }, {}, '? unchecked: no language server' },
    { { kind = 'unknown' }, {}, '? unchecked' },
    { { kind = 'findings', findings = { { message = 'bad\ntype' } } }, {}, '✗ bad type' },
    { { kind = 'findings', findings = { { message = 'no return' } }, deferred = { {} } }, {}, '◌ no return' },
  },
}, {
  test = function(verdict, refused, mark)
    child.suggest({ item('x', { verdict = verdict, refused = refused }) })
    child.type_keys('i', 'a = ')
    child.expect_ghost('x', mark)
  end,
})

T['without a verdict there is no mark'] = function()
  child.suggest({ { insertText = 'x' } })
  child.type_keys('i', 'a = ')
  child.expect_ghost('x', vim.NIL)
end

T['accept takes all of it, and undo brings back what was typed'] = function()
  child.suggest({ item('sum(\n    prices\n)') })
  child.type_keys('i', 'total = ')
  child.expect_ghost('sum(\n    prices\n)')
  child.suggest({})
  press('accept')
  eq(child.text(), 'total = sum(\n    prices\n)')
  eq(child.api.nvim_win_get_cursor(0), { 3, 1 })
  eq(child.lua_get('fake.last("demolish/didAccept").text'), 'sum(\n    prices\n)')
  child.type_keys('!', '<Esc>', 'u')
  eq(child.text(), 'total = sum(\n    prices\n)')
  child.type_keys('u')
  eq(child.text(), 'total = ')
end

T['accept word keeps the rest and is one undo step'] = function()
  child.suggest({ item('sum(prices)\nreturn total') })
  child.type_keys('i', 'total = ')
  child.expect_ghost('sum(prices)\nreturn total')
  local asked = child.lua_get('fake.count("textDocument/inlineCompletion")')
  press('accept-word')
  eq(child.text(), 'total = sum')
  child.expect_ghost('(prices)\nreturn total', '✓ checked by ty')
  press('accept-word')
  press('accept-word')
  eq(child.text(), 'total = sum(prices')
  child.expect_ghost(')\nreturn total')
  eq(child.lua_get('fake.count("textDocument/inlineCompletion")'), asked)
  child.type_keys('<Esc>', 'u')
  eq(child.text(), 'total = sum(')
end

T['accept line keeps the rest'] = function()
  child.suggest({ item('sum(prices)\n    return total\n\nprint(1)') })
  child.type_keys('i', 'total = ')
  child.expect_ghost('sum(prices)\n    return total\n\nprint(1)')
  press('accept-line')
  eq(child.text(), 'total = sum(prices)')
  child.expect_ghost('\n    return total\n\nprint(1)')
  press('accept-line')
  eq(child.text(), 'total = sum(prices)\n    return total')
  child.expect_ghost('\n\nprint(1)')
  child.type_keys('<Esc>', 'u')
  eq(child.text(), 'total = sum(prices)')
end

T['typing what is suggested shortens it and asks nobody'] = function()
  child.suggest({ item('sum(prices)'), item('sorted(prices)') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('sum(prices)')
  local asked = child.lua_get('fake.count("textDocument/inlineCompletion")')
  child.type_keys('s')
  child.expect_ghost('um(prices)')
  child.type_keys('o')
  child.expect_ghost('rted(prices)')
  eq(child.lua_get('fake.count("textDocument/inlineCompletion")'), asked)
  child.suggest({ item('other') })
  child.type_keys('x')
  child.expect_ghost('other')
end

T['Neovim’s own get() accepts the shortened suggestion'] = function()
  child.suggest({ item('sum(prices)') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('sum(prices)')
  child.type_keys('su')
  child.expect_ghost('m(prices)')
  child.suggest({})
  child.lua('vim.lsp.inline_completion.get()')
  child.lua('vim.wait(20)')
  eq(child.text(), 'x = sum(prices)')
end

T['an answer for another place is not shown'] = function()
  child.suggest({ item('sum(prices)') }, 60)
  child.type_keys('i', 'x = ')
  child.wait('fake.count("textDocument/inlineCompletion") >= 1')
  child.suggest({}, 0)
  child.type_keys('y')
  child.lua('vim.wait(120)')
  child.expect_ghost(nil)
end

T['an answer that was typed through is shown shortened'] = function()
  child.lua('require("demolish").setup({ editor = { debounce_ms = 200 } })')
  child.suggest({ item('sum(prices)') }, 60)
  child.type_keys('i', 'x = ')
  child.lua('require("demolish.inline").trigger()')
  child.type_keys('s')
  child.suggest({}, 0)
  child.lua('vim.wait(20)')
  -- The keystroke has cancelled the request: nothing is shown until the next one is answered.
  child.expect_ghost(nil)
end

T['a keystroke cancels the request on its way'] = function()
  child.suggest({ item('x') }, 500)
  child.type_keys('i', 'a')
  child.wait('vim.tbl_get(fake.last("textDocument/inlineCompletion") or {}, "position", "character") == 1')
  local cancelled = child.lua_get('fake.count("$/cancelRequest")')
  child.type_keys('b')
  child.wait(('fake.count("$/cancelRequest") == %d'):format(cancelled + 1))
  eq(child.notes(), {})
end

T['a range may cover what was typed and what follows'] = function()
  child.type_keys('i', 'print()', '<Left>')
  child.suggest({
    item('print(total)', { range = { start = { line = 0, character = 0 }, ['end'] = { line = 0, character = 8 } } }),
  })
  child.type_keys('t')
  child.expect_ghost('otal)')
  child.suggest({})
  press('accept')
  eq(child.text(), 'print(total)')
end

T['positions count in UTF-16 before the server and in bytes before the buffer'] = function()
  child.suggest({
    item('"🦀é" + x', { range = { start = { line = 0, character = 4 }, ['end'] = { line = 0, character = 9 } } }),
  })
  child.type_keys('i', 'a = "🦀é"')
  child.expect_ghost(' + x')
  child.suggest({})
  press('accept')
  eq(child.text(), 'a = "🦀é" + x')
end

T['next and prev go round, with a count'] = function()
  child.suggest({ item('one'), item('two'), item('three') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('one')
  press('next')
  child.expect_ghost('two (2/3)')
  press('prev')
  press('prev')
  child.expect_ghost('three (3/3)')
  press('accept')
  eq(child.text(), 'x = three')
end

T['dismiss hides it, and it stays away until asked for'] = function()
  child.suggest({ item('one') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('one')
  press('dismiss')
  child.expect_ghost(nil)
  child.type_keys('<Esc>', 'a')
  child.lua('vim.wait(150)')
  child.expect_ghost(nil)
  press('trigger')
  child.expect_ghost('one')
end

T['leaving insert mode hides it'] = function()
  child.suggest({ item('one') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('one')
  child.type_keys('<Esc>')
  child.expect_ghost(nil)
end

T['the <Plug> mappings do nothing without a suggestion'] = function()
  child.suggest({})
  child.type_keys('i', 'abc')
  for _, name in ipairs({ 'accept', 'accept-word', 'accept-line', 'next', 'prev', 'dismiss' }) do
    press(name)
  end
  eq(child.text(), 'abc')
  eq(child.notes(), {})
end

T['a menu with a selected entry hides it'] = function()
  child.suggest({ item('lpha') })
  child.api.nvim_buf_set_lines(0, 0, -1, false, { 'apple', 'apricot', '' })
  child.type_keys('G', 'i', 'ap', '<C-n>')
  child.lua('vim.wait(150)')
  eq(child.fn.pumvisible(), 1)
  child.expect_ghost(nil)
end

T['an error of the server is said once'] = function()
  child.lua(
    'fake.answers["textDocument/inlineCompletion"] = { fail = { code = -32603, message = "the model is gone" } }'
  )
  child.type_keys('i', 'a')
  child.wait('#notes > 0')
  eq(child.notes(), { 'demolish: no suggestion: the model is gone' })
end

T['toggle switches suggestions off and on'] = function()
  child.suggest({ item('one') })
  child.cmd('Demolish toggle')
  child.type_keys('i', 'x = ')
  child.lua('vim.wait(150)')
  child.expect_ghost(nil)
  child.type_keys('<Esc>')
  child.cmd('Demolish toggle on')
  child.type_keys('a')
  child.expect_ghost('one', '✓ checked by ty')
  eq(child.notes(), { 'demolish: suggestions are off', 'demolish: suggestions are on' })
end

T['without auto a suggestion comes when it is asked for'] = function()
  child.start_attached({ editor = { auto = false } })
  child.suggest({ item('sum(a)') })
  child.type_keys('i', 'x = ')
  child.lua('vim.wait(100)')
  child.expect_ghost(nil)
  press('trigger')
  child.expect_ghost('sum(a)')
  child.type_keys('s')
  child.expect_ghost('um(a)')
end

T['a buffer that is read anew keeps its suggestions'] = function()
  child.cmd('write')
  child.cmd('edit!')
  child.lua('vim.wait(150)')
  child.suggest({ item('sum(a)') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('sum(a)', '✓ checked by ty')
end

T['the mark can be left out'] = function()
  child.start_attached({ editor = { debounce_ms = 40, mark = false } })
  child.suggest({ item('sum(a)') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('sum(a)', vim.NIL)
end

T['the status line says what is shown'] = function()
  eq(child.lua_get('require("demolish").statusline()'), 'demolish')
  child.suggest({ item('one') })
  child.type_keys('i', 'x = ')
  child.expect_ghost('one')
  eq(child.lua_get('require("demolish").statusline()'), 'demolish ✓ checked by ty')
end

T['no timer is left when the buffer goes'] = function()
  child.suggest({ item('one') }, 200)
  child.type_keys('i', 'x = ')
  child.lua('vim.wait(5)')
  child.type_keys('<Esc>')
  child.cmd('bwipeout!')
  child.lua('vim.wait(300)')
  eq(child.notes(), {})
  eq(child.lua_get('vim.v.errmsg'), '')
end

return T
