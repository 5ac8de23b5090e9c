--- mini.test with one closing line for people and for CI, `N passed, N failed`, and an exit status that says the same.

local M = {}

--- Which files are run; DEMOLISH_NVIM_TESTS chooses others.
local TESTS = 'tests/nvim/test_*.lua'

--- Makes `MiniTest.run()` run our tests.
function M.setup()
  local MiniTest = require('mini.test')
  local reporter = MiniTest.gen_reporter.stdout({ group_depth = 1, quit_on_finish = false })
  local finish = reporter.finish
  reporter.finish = function()
    finish()
    local failed = #vim.tbl_filter(function(case)
      return #case.exec.fails > 0
    end, MiniTest.current.all_cases)
    io.stdout:write(('\n%d passed, %d failed\n'):format(#MiniTest.current.all_cases - failed, failed))
    io.stdout:flush()
    vim.cmd(failed > 0 and 'cquit 1' or 'qall!')
  end
  MiniTest.setup({
    collect = {
      find_files = function()
        return vim.fn.glob(vim.env.DEMOLISH_NVIM_TESTS or TESTS, true, true)
      end,
    },
    execute = { reporter = reporter },
  })
end

return M
