-- The sub-commands of :Demolish, their completion, and the windows that they open.

local MiniTest = require('mini.test')
local helpers = require('helpers')
local eq, item = MiniTest.expect.equality, helpers.item
local child = helpers.new_child()

local T = MiniTest.new_set({
  hooks = {
    pre_case = function()
      child.start_attached({ text = 'def add(a: int) -> int:\n    return a\n\nadd("1")\nadd("2")' })
    end,
    post_once = child.stop,
  },
})

local NAMES = { 'fix', 'log', 'restart', 'status', 'stop', 'toggle', 'trace', 'why' }

T['sub-commands complete'] = MiniTest.new_set({
  parametrize = {
    { 'Demolish ', NAMES },
    { 'Demolish st', { 'status', 'stop' } },
    { 'Demolish! f', { 'fix' } },
    { '%Demolish f', { 'fix' } },
    { 'Demolish toggle ', { 'off', 'on' } },
    { 'Demolish toggle of', { 'off' } },
    { 'Demolish fix ', {} },
    { 'Demolish nonsense ', {} },
  },
}, {
  test = function(line, expected)
    local got = child.fn.getcompletion(line, 'cmdline')
    table.sort(got)
    eq(got, expected)
  end,
})

T['bad use is one clear notification'] = MiniTest.new_set({
  parametrize = {
    { 'Demolish', 'demolish: which? fix, log, restart, status, stop, toggle, trace, why (:help :Demolish)' },
    {
      'Demolish nonsense',
      'demolish: no sub-command "nonsense"; there are fix, log, restart, status, stop, toggle, trace, why',
    },
    { 'Demolish fix now', 'demolish: `:Demolish fix` takes no argument "now"' },
    { 'Demolish toggle maybe', 'demolish: `:Demolish toggle` takes on or off' },
    { '1Demolish status', 'demolish: `:Demolish status` takes no range' },
    { 'Demolish status!', 'demolish: `:Demolish status` takes no !' },
    { 'Demolish why', 'demolish: no suggestion yet' },
  },
}, {
  test = function(command, note)
    child.cmd(command)
    child.wait('#notes > 0')
    eq(child.notes(), { note })
  end,
})

local DIAGNOSTIC = {
  range = { start = { line = 3, character = 4 }, ['end'] = { line = 3, character = 7 } },
  severity = 1,
  code = 'invalid-argument-type',
  source = 'ty',
  message = 'Expected `int`, found `Literal["1"]`',
}

--- Answers demolish/fix with a change of `"1"` to `1`.
local function answer_fix(change)
  child.lua('fake.answers["demolish/fix"] = ...', {
    vim.tbl_extend('force', {
      proposal = { origin = 'replacement', edits = { { range = DIAGNOSTIC.range, newText = '1' } } },
      before = { DIAGNOSTIC },
      after = {},
      candidates = 5,
      refused = { { text = 'add("1".x)', diagnostic = DIAGNOSTIC } },
      timings_ms = { total = 812.4 },
    }, change or {}),
  })
end

local FIXED = 'def add(a: int) -> int:\n    return a\n\nadd(1)\nadd("2")'

T['fix asks for the cursor line'] = function()
  answer_fix()
  child.type_keys('4G')
  child.cmd('Demolish fix')
  child.wait('fake.count("demolish/fix") == 1')
  eq(child.lua_get('fake.last("demolish/fix").range'), {
    start = { line = 3, character = 0 },
    ['end'] = { line = 3, character = 8 },
  })
end

T['fix asks for a range'] = function()
  answer_fix()
  child.cmd('4,5Demolish fix!')
  local params = child.lua_get('fake.last("demolish/fix")')
  eq(params.range['start'].line, 3)
  eq(params.range['end'].line, 4)
  eq(type(params.workDoneToken), 'string')
end

T['fix shows a preview; a accepts as one undo step'] = function()
  answer_fix()
  local before = child.text()
  child.type_keys('4G')
  child.cmd('Demolish fix')
  child.wait('vim.api.nvim_win_get_config(0).relative ~= ""')
  MiniTest.expect.reference_screenshot(child.get_screenshot(), 'tests/nvim/screenshots/fix')
  child.type_keys('a')
  child.lua('vim.wait(20)')
  eq(child.api.nvim_win_get_config(0).relative, '')
  eq(child.text(), FIXED)
  eq(child.notes(), { 'demolish: fixed: 1 diagnostic before, none after' })
  child.type_keys('u')
  eq(child.text(), before)
end

T['q rejects a fix'] = function()
  answer_fix()
  local before = child.text()
  child.cmd('Demolish fix')
  child.wait('vim.api.nvim_win_get_config(0).relative ~= ""')
  child.type_keys('q')
  eq(child.text(), before)
  eq(child.api.nvim_win_get_config(0).relative, '')
end

T['fix! applies at once'] = function()
  answer_fix()
  child.cmd('4Demolish fix!')
  eq(child.text(), FIXED)
end

T['no fix is a clear message'] = MiniTest.new_set({
  parametrize = {
    { { proposal = vim.NIL, before = {} }, 'demolish: no fix: there is no diagnostic on these lines' },
    { { proposal = vim.NIL, candidates = 7 }, 'demolish: no fix: none of 7 candidates satisfies the language server' },
    { { proposal = vim.NIL, reason = 'ty is starting' }, 'demolish: no fix: ty is starting' },
  },
}, {
  test = function(change, note)
    answer_fix(change)
    child.cmd('4Demolish fix!')
    eq(child.notes(), { note })
  end,
})

T['an error of the daemon is a clear message'] = function()
  child.lua('fake.answers["demolish/fix"] = { fail = { code = -32603, message = "no language server for this file" } }')
  child.cmd('Demolish fix!')
  eq(child.notes(), { 'demolish: no language server for this file' })
end

T['a fix for a text that has changed since is not applied'] = function()
  answer_fix()
  child.lua('fake.delay_ms["demolish/fix"] = 50')
  child.cmd('4Demolish fix')
  child.api.nvim_buf_set_lines(0, 0, 0, false, { '# new' })
  child.wait('#notes > 0')
  eq(child.notes(), { 'demolish: the text has changed since; ask again' })
end

T['asking again replaces the request on its way'] = function()
  answer_fix()
  child.lua('fake.delay_ms["demolish/fix"] = 300')
  child.cmd('4Demolish fix')
  child.lua('fake.delay_ms["demolish/fix"] = 0')
  child.cmd('4Demolish fix!')
  child.wait('fake.count("$/cancelRequest") == 1')
  eq(child.text(), FIXED)
end

T['fix shows its progress'] = function()
  answer_fix()
  child.lua('fake.delay_ms["demolish/fix"] = 200')
  child.lua([[
    _G.progress = {}
    vim.api.nvim_create_autocmd('Progress', { callback = function(e) table.insert(progress, e.data.text[1]) end })
  ]])
  child.cmd('4Demolish fix')
  child.lua([[
    fake.dispatchers.notification('$/progress', { token = fake.last('demolish/fix').workDoneToken,
      value = { kind = 'begin', title = 'fix', message = 'checking candidate 2' } })
  ]])
  child.wait('vim.tbl_contains(progress, "checking candidate 2")')
  child.wait('progress[#progress] == "done"')
end

T['why shows what was refused'] = function()
  child.suggest({
    item('add(total)', {
      refused = {
        { text = 'add("total")', diagnostic = DIAGNOSTIC },
        {
          text = 'add(totl)',
          diagnostic = { code = 'unresolved-reference', source = 'ty', message = 'Name `totl` used when not defined' },
        },
      },
    }),
  })
  child.type_keys('G', 'o')
  child.expect_ghost('add(total)', '✓ checked by ty, 2 refused')
  MiniTest.expect.reference_screenshot(child.get_screenshot(), 'tests/nvim/screenshots/ghost')
  child.type_keys('<Esc>')
  child.cmd('Demolish why')
  MiniTest.expect.reference_screenshot(child.get_screenshot(), 'tests/nvim/screenshots/why')
  child.type_keys('q')
  eq(#child.api.nvim_list_wins(), 1)
end

T['why says so when everything was refused'] = function()
  child.lua('fake.answers["textDocument/inlineCompletion"] = { items = {}, demolish = ... }', {
    { verdict = { kind = 'findings', server = 'ty' }, refused = { { text = 'add("a")', diagnostic = DIAGNOSTIC } } },
  })
  child.type_keys('G', 'o', 'add')
  child.wait('require("demolish.inline").last ~= nil')
  child.type_keys('<Esc>')
  child.cmd('Demolish why')
  local lines = child.api.nvim_buf_get_lines(0, 0, -1, false)
  eq(lines[1], 'Nothing suggested')
  eq(vim.tbl_contains(lines, '  add("a")'), true)
end

T['why says why there could be no suggestion'] = function()
  child.lua(
    'fake.answers["textDocument/inlineCompletion"] = { items = {}, demolish = { error = "there is no model" } }'
  )
  child.type_keys('G', 'o', 'add')
  child.wait('require("demolish.inline").last ~= nil')
  child.type_keys('<Esc>')
  child.cmd('Demolish why')
  eq(child.api.nvim_buf_get_lines(0, 0, 2, false), { 'Nothing suggested', '  there is no model' })
end

T['status shows daemon, model and clients'] = function()
  child.lua('fake.answers["demolish/status"] = ...', {
    {
      version = '0.1.0',
      pid = 4711,
      uptimeS = 12.5,
      model = { name = 'demolish-nano', state = 'ready' },
      links = {
        {
          link = 1,
          mode = 'wrap',
          server = {
            command = { 'ty', 'server' },
            state = 'running',
            rssBytes = 2 ^ 25,
            pending = 1,
            latency = { p50Ms = 4.12, p95Ms = 38 },
          },
        },
        { link = 2, mode = 'own' },
      },
      twins = { { command = { 'ty', 'server' }, checks = 41, checkMs = 13.2 } },
    },
  })
  child.cmd('Demolish status')
  child.wait('vim.api.nvim_win_get_config(0).relative ~= ""')
  MiniTest.expect.reference_screenshot(child.get_screenshot(), 'tests/nvim/screenshots/status')
end

T['log opens the log that the daemon names, at its end'] = function()
  local path = child.dir() .. '/some.log'
  child.lua('fake.answers["demolish/status"] = { version = "0.1.0", pid = 1, log = ... }', { path })
  child.cmd('Demolish log')
  child.wait('#notes > 0')
  eq(child.notes(), { ('demolish: no log: %s does not exist'):format(path) })
  child.fn.writefile({ 'first', 'last' }, path)
  child.cmd('Demolish log')
  child.wait('vim.bo.readonly')
  eq(child.api.nvim_get_current_line(), 'last')
end

T['trace follows in a terminal, and its process ends with the window'] = function()
  local program = child.dir() .. '/demolish'
  child.fn.writefile({ '#!/bin/sh', 'echo "$1 follows"', 'exec sleep 60' }, program)
  child.fn.setfperm(program, 'rwx------')
  child.lua('require("demolish.config").get().cmd = { ... }', { program })
  child.cmd('Demolish trace')
  child.wait('vim.bo.buftype == "terminal"')
  child.wait('vim.api.nvim_buf_get_lines(0, 0, 1, false)[1] == "trace follows"')
  local job = child.lua_get('vim.b.terminal_job_id')
  child.cmd('close!')
  child.wait(('vim.fn.jobwait({ %d }, 0)[1] ~= -1'):format(job))
end

return T
