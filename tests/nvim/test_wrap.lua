-- Which language servers are started through Demolish, and with what options.

local MiniTest = require('mini.test')
local helpers = require('helpers')
local eq = MiniTest.expect.equality
local child = helpers.new_child()

--- Records with which commands Neovim starts processes, and starts none.
local RECORD = [[
  _G.started = {}
  vim.lsp.rpc.start = function(cmd, dispatchers)
    table.insert(_G.started, cmd)
    return require('fake_server').cmd(dispatchers)
  end
]]

local CONFIG = [[vim.lsp.config('ls', { cmd = { 'fake-ls', '--stdio' }, filetypes = { 'python' } })]]

local function open(name)
  child.cmd('edit ' .. child.dir() .. '/' .. (name or 'sample.py'))
  child.lua('vim.wait(50)')
end

--- The commands started, without the directories of their programs, sorted.
local function started()
  local lines = child.lua_get([[vim.tbl_map(function(cmd)
    return table.concat(vim.tbl_map(vim.fs.basename, cmd), ' ')
  end, started)]])
  table.sort(lines)
  return lines
end

local function check(lua, expected)
  child.start_with(RECORD .. CONFIG .. '\n' .. lua)
  open()
  eq(started(), expected)
end

local T = MiniTest.new_set({ hooks = { post_once = child.stop } })

local WRAPPED = { 'demolish lsp', 'demolish lsp -- fake-ls --stdio' }

T['an enabled server is wrapped, and our own runs beside it'] = function()
  check([[vim.lsp.enable('ls')]], WRAPPED)
end

T['a server that is enabled after the plugin was loaded is wrapped'] = function()
  child.start_with(RECORD)
  open()
  child.lua(CONFIG)
  child.lua([[vim.lsp.enable('ls')]])
  child.lua('vim.wait(50)')
  eq(started(), WRAPPED)
end

T['a server that is started by hand is wrapped'] = function()
  check(
    [[vim.api.nvim_create_autocmd('FileType', { pattern = 'python', callback = function()
        vim.lsp.start({ name = 'by-hand', cmd = { 'fake-ls' }, root_dir = vim.fn.getcwd() })
      end })]],
    { 'demolish lsp', 'demolish lsp -- fake-ls' }
  )
end

T['a file type that is set by hand counts too'] = function()
  child.start_with(RECORD .. CONFIG .. '\n' .. [[vim.lsp.enable('ls')]])
  child.lua([[vim.bo.filetype = 'python'; vim.wait(50)]])
  eq(started(), WRAPPED)
end

T['a function as command is left alone'] = function()
  check(
    [[vim.lsp.config('ls', { cmd = function(d) _G.called = true; return require('fake_server').cmd(d) end })
      vim.lsp.enable('ls')]],
    { 'demolish lsp' }
  )
  eq(child.lua_get('called'), true)
  eq(
    child.lua_get('require("demolish.wrap").decisions.ls'),
    { wrapped = false, reason = 'its command is a Lua function' }
  )
end

T['a wrapped command is not wrapped again'] = function()
  check([[vim.lsp.config('ls', { cmd = { 'demolish', 'lsp', '--', 'fake-ls' } }); vim.lsp.enable('ls')]], {
    'demolish lsp',
    'demolish lsp -- fake-ls',
  })
end

T['options choose'] = MiniTest.new_set({
  parametrize = {
    { { wrap_exclude = { 'ls' } }, { 'demolish lsp', 'fake-ls --stdio' } },
    { { wrap = false }, { 'demolish lsp', 'fake-ls --stdio' } },
    { { wrap_only = { 'other' } }, { 'demolish lsp', 'fake-ls --stdio' } },
    { { wrap_only = { 'ls' } }, WRAPPED },
    { { filetypes = { 'go' } }, { 'demolish lsp -- fake-ls --stdio' } },
    { { cmd = { 'other-ls', '--deep' } }, { 'other-ls --deep lsp', 'other-ls --deep lsp -- fake-ls --stdio' } },
  },
}, {
  ['in vim.g.demolish'] = function(options, expected)
    check(('vim.g.demolish = { editor = %s }; vim.lsp.enable("ls")'):format(vim.inspect(options)), expected)
  end,
  ['in setup()'] = function(options, expected)
    check(('require("demolish").setup({ editor = %s }); vim.lsp.enable("ls")'):format(vim.inspect(options)), expected)
  end,
})

T['setup() may be called twice, and late'] = function()
  check(
    [[require('demolish').setup({ editor = { wrap = false } }); require('demolish').setup(); vim.lsp.enable('ls')]],
    WRAPPED
  )
  child.lua([[require('demolish').setup({ editor = { filetypes = { 'lua' } } })]])
  child.cmd('edit ' .. child.dir() .. '/x.lua')
  child.wait('#vim.lsp.get_clients({ name = "demolish", bufnr = 0 }) == 1')
end

T['the daemon gets what the user has set, and nothing else'] = function()
  child.start_with(RECORD .. [[
    vim.g.demolish = { complete = { candidates = 2 }, editor = { wrap = false } }
    require('demolish').setup({ complete = { lines_max = 1 } })
  ]])
  open()
  eq(child.lua_get('fake.last("initialize").initializationOptions'), { complete = { candidates = 2, lines_max = 1 } })
end

T['the nearest project counts, and a repository only without one'] = function()
  child.start_with(RECORD)
  local dir = child.dir()
  child.fn.mkdir(dir .. '/.git')
  child.fn.mkdir(dir .. '/a/b', 'p')
  child.fn.writefile({}, dir .. '/a/pyproject.toml')
  child.fn.mkdir(dir .. '/c')
  for _, case in ipairs({ { 'a/b/x.py', 'a' }, { 'c/x.py', '' } }) do
    child.cmd('edit ' .. dir .. '/' .. case[1])
    child.lua('vim.wait(50)')
    local root = child.lua_get('vim.lsp.get_clients({ name = "demolish", bufnr = 0 })[1].config.root_dir')
    eq(root:gsub('/$', ''), (dir .. '/' .. case[2]):gsub('/$', ''))
  end
end

T['the user’s configuration of our server wins'] = function()
  check([[vim.lsp.config('demolish', { cmd = { 'other-ls' } }); vim.lsp.enable('ls')]], {
    'demolish lsp -- fake-ls --stdio',
    'other-ls',
  })
end

T['a server that is not installed is not started'] = function()
  check([[vim.lsp.config('ls', { cmd = { 'no-such-server' } }); vim.lsp.enable('ls')]], { 'demolish lsp' })
end

T['without the program one warning is given and servers start as they are'] = function()
  check(
    [[vim.g.demolish = { editor = { cmd = { '/no/such/demolish' } } }; vim.lsp.enable('ls')]],
    { 'fake-ls --stdio' }
  )
  open('second.py')
  eq(child.notes(), {
    'demolish: /no/such/demolish was not found, so language servers run without it (:checkhealth demolish)',
  })
  child.cmd('Demolish fix')
  eq(child.notes()[2], 'demolish: /no/such/demolish was not found: install it or set the option "editor.cmd"')
end

T['a bad option is said once, and its default is used'] = function()
  child.start_with(RECORD)
  child.lua([[require('demolish').setup({
    wrap = false,
    edtor = {},
    complete = 3,
    editor = { wrp = true, wrap = 'yes', debounce = 3, keys = { acept = '<Tab>' } },
  })]])
  open()
  eq(started(), { 'demolish lsp' })
  local notes = child.notes()
  eq(#notes, 1)
  for _, part in ipairs({
    'unknown option "wrap", it belongs into "editor"',
    'unknown option "edtor", did you mean "editor"?',
    'option "complete" must be a table, not a number',
    'unknown option "editor.wrp", did you mean "wrap"?',
    'option "editor.wrap" must be a boolean, not a string',
    'unknown option "editor.debounce", did you mean "debounce_ms"?',
    'unknown option "editor.keys.acept", did you mean "accept"?',
  }) do
    eq({ part, notes[1]:find(part, 1, true) ~= nil }, { part, true })
  end
end

T['stop starts servers again without us, restart with us'] = function()
  child.start_with(RECORD .. CONFIG .. [[
    vim.lsp.enable('ls')
  ]])
  open()
  eq(started(), WRAPPED)
  child.lua('started = {}')
  child.cmd('Demolish stop')
  child.wait('#started == 1')
  eq(started(), { 'fake-ls --stdio' })
  child.wait('#notes == 1')
  eq(child.notes()[1], 'demolish: stopped; the language servers go on without it')
  child.lua('started = {}')
  child.cmd('Demolish restart')
  child.wait('#started == 2', 5000)
  eq(started(), WRAPPED)
  child.wait('#vim.lsp.get_clients({ bufnr = 0 }) == 2')
end

T['our own server comes back when it ends by itself, three times'] = function()
  child.start_with(RECORD)
  open()
  child.lua('vim.lsp._original_notify = vim.notify')
  for i = 1, 3 do
    child.lua('fake.dispatchers.on_exit(1, 0)')
    child.wait(('#started == %d'):format(i + 1), 3000)
  end
  child.lua('fake.dispatchers.on_exit(1, 0)')
  child.lua('vim.wait(800)')
  eq(#started(), 4)
end

return T
