-- What testkit::nvim calls. A global, because it stands in for a person and not for a plugin.
_G.testkit = { said = {} }

--- Runs statements with one argument; both the argument and what they return are JSON.
function testkit.call(lua, argument)
  local run = assert(loadstring(lua))
  local value = vim.json.decode(argument, { luanil = { object = true, array = true } })
  local result = run(value)
  return vim.json.encode(result == nil and vim.NIL or result)
end

--- The suggestion on the screen: the virtual text at the cursor, and the mark at the end of the line.
function testkit.ghost()
  local space = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
  local function text_of(chunks)
    return table.concat(vim.tbl_map(function(chunk)
      return chunk[1]
    end, chunks or {}))
  end
  local ghost = {}
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })) do
    local details = mark[4]
    if details.virt_text_pos == 'eol' then
      ghost.mark = vim.trim(text_of(details.virt_text))
    else
      local lines = vim.tbl_map(text_of, details.virt_lines or {})
      table.insert(lines, 1, text_of(details.virt_text))
      ghost.text = table.concat(lines, '\n')
    end
  end
  return ghost.text and ghost or nil
end

function testkit.diagnostics()
  local shown = vim.diagnostic.get(0)
  table.sort(shown, function(a, b)
    return a.lnum ~= b.lnum and a.lnum < b.lnum or a.lnum == b.lnum and a.col < b.col
  end)
  return vim.tbl_map(function(diagnostic)
    return {
      line = diagnostic.lnum + 1,
      column = diagnostic.col + 1,
      severity = diagnostic.severity,
      source = diagnostic.source,
      code = diagnostic.code and tostring(diagnostic.code),
      message = diagnostic.message,
    }
  end, shown)
end

function testkit.messages()
  local said = vim.deepcopy(testkit.said)
  for line in vim.gsplit(vim.api.nvim_exec2('messages', { output = true }).output, '\n') do
    if line ~= '' then
      table.insert(said, line)
    end
  end
  return said
end

function testkit.screen()
  vim.cmd.redraw()
  local lines = {}
  for row = 1, vim.o.lines do
    local cells = {}
    for column = 1, vim.o.columns do
      cells[column] = vim.fn.screenstring(row, column)
    end
    lines[row] = (table.concat(cells):gsub('%s+$', ''))
  end
  return lines
end

-- Notifications are kept: what a user has seen for a moment, a test may ask about later.
local notify = vim.notify
vim.notify = function(text, level, opts)
  table.insert(testkit.said, text)
  return notify(text, level, opts)
end
