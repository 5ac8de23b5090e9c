-- Runs every tests/nvim/test_*.lua, prints one summary line and ends with 1 if anything failed.
-- nvim --headless --clean -u tests/nvim/minimal_init.lua -c 'luafile tests/nvim/run.lua'

local root = vim.env.DEMOLISH_ROOT
vim.cmd.cd(root)
local MiniTest = require('mini.test')
MiniTest.setup({})

local reporter = MiniTest.gen_reporter.stdout({ group_depth = 1, quit_on_finish = false })
local finish = reporter.finish
reporter.finish = function()
  finish()
  local passed, failed = 0, 0
  for _, case in ipairs(MiniTest.current.all_cases or {}) do
    if #case.exec.fails > 0 then
      failed = failed + 1
    else
      passed = passed + 1
    end
  end
  io.stdout:write(('\nnvim tests: %d passed, %d failed\n'):format(passed, failed))
  io.stdout:flush()
  vim.cmd(failed > 0 and 'cquit 1' or 'qall!')
end

MiniTest.run({
  collect = {
    find_files = function()
      local only = vim.env.DEMOLISH_NVIM_TESTS
      return vim.fn.glob(only and only ~= '' and only or 'tests/nvim/test_*.lua', true, true)
    end,
  },
  execute = { reporter = reporter },
})
