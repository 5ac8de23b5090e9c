--- `:Demolish why`: what the checker said about the last suggestion, and the candidates that it refused.

local M = {}
local H = {}

--- How many lines of a text are shown.
local LINES_MAX = 6

--- Opens a window about the last suggestion.
function M.open()
  local last = require('demolish.inline').last
  if not last or type(last.note) ~= 'table' then
    vim.notify(last and 'demolish: the last suggestion came without a verdict' or 'demolish: no suggestion yet')
    return
  end
  local note = last.note
  local lines = {} ---@type demolish.Line[]
  if last.text then
    lines[#lines + 1] = { { 'Suggested', 'Title' } }
    H.text(lines, last.text, 'ComplHint')
  else
    lines[#lines + 1] = { { 'Nothing suggested', 'Title' } }
  end
  if type(note.error) == 'string' then
    lines[#lines + 1] = { { '  ' .. note.error, 'DiagnosticWarn' } }
  end
  local mark = require('demolish.ghost').mark(note)
  if mark then
    lines[#lines + 1] = { { '  ' .. mark[1], mark[2] } }
  end
  for _, finding in ipairs(vim.tbl_get(note, 'verdict', 'findings') or {}) do
    lines[#lines + 1] = require('demolish.float').diagnostic(finding)
  end
  local refused = type(note.refused) == 'table' and note.refused or {}
  lines[#lines + 1] = ''
  lines[#lines + 1] = { { #refused == 0 and 'Nothing was refused' or 'Refused', 'Title' } }
  for _, candidate in ipairs(refused) do
    H.text(lines, candidate.text, 'Removed')
    if type(candidate.diagnostic) == 'table' then
      lines[#lines + 1] = require('demolish.float').diagnostic(candidate.diagnostic)
    end
  end
  local footer = H.footer(note)
  if footer ~= '' then
    vim.list_extend(lines, { '', { { footer, 'Comment' } } })
  end
  require('demolish.float').open(lines, { title = 'Demolish: why', footer = 'q close' })
end

---@param lines demolish.Line[]
---@param text string
---@param group string
function H.text(lines, text, group)
  local all = vim.split(text, '\n', { plain = true })
  for i, line in ipairs(all) do
    if i > LINES_MAX then
      lines[#lines + 1] = { { ('  … %d more lines'):format(#all - LINES_MAX), 'Comment' } }
      return
    end
    lines[#lines + 1] = { { '  ' .. line:gsub('\t', '    '), group } }
  end
end

---@param note table
---@return string
function H.footer(note)
  local parts = {} ---@type string[]
  if type(note.model) == 'string' then
    parts[#parts + 1] = note.model
  end
  local total = vim.tbl_get(note, 'timings_ms', 'total')
  if type(total) == 'number' then
    parts[#parts + 1] = ('%.0f ms'):format(total)
  end
  return table.concat(parts, ' · ')
end

return M
