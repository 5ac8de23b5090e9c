--- Shows a proposed fix: the diagnostics before and after, and the change. `a` or <CR> accepts it, `q` rejects it.

local api = vim.api

local M = {}
local H = {}

--- Words for where a fix comes from.
local ORIGINS = {
  quick_fix = "the language server's own quick fix",
  regenerated = 'written anew by the model',
  replacement = "a name from the language server's completion",
  repair = 'a known way to repair this',
}

---@param bufnr integer
---@param client vim.lsp.Client
---@param fix demolish.Fix
---@param accept fun()
function M.open(bufnr, client, fix, accept)
  local lines = {} ---@type demolish.Line[]
  H.section(lines, 'Before', fix.before)
  H.section(lines, 'After', fix.after)
  lines[#lines + 1] = ''
  vim.list_extend(lines, H.diff(bufnr, client, fix.proposal.edits))
  lines[#lines + 1] = ''
  lines[#lines + 1] = { { H.origin(fix), 'Comment' } }
  require('demolish.float').open(lines, {
    title = 'Demolish: fix',
    footer = 'a accept · q reject',
    keys = { a = accept, ['<CR>'] = accept },
  })
end

---@param lines demolish.Line[]
---@param title string
---@param diagnostics? lsp.Diagnostic[]
function H.section(lines, title, diagnostics)
  lines[#lines + 1] = { { title, 'Title' } }
  for _, diagnostic in ipairs(diagnostics or {}) do
    lines[#lines + 1] = require('demolish.float').diagnostic(diagnostic)
  end
  if #(diagnostics or {}) == 0 then
    lines[#lines + 1] = { { '  ✓ ', 'DiagnosticOk' }, { 'no findings' } }
  end
end

--- The change, as the editor would make it.
---@param bufnr integer
---@param client vim.lsp.Client
---@param edits lsp.TextEdit[]
---@return demolish.Line[]
function H.diff(bufnr, client, edits)
  local before = api.nvim_buf_get_lines(bufnr, 0, -1, false)
  local scratch = api.nvim_create_buf(false, true)
  api.nvim_buf_set_lines(scratch, 0, -1, false, before)
  vim.lsp.util.apply_text_edits(vim.deepcopy(edits), scratch, client.offset_encoding)
  local after = api.nvim_buf_get_lines(scratch, 0, -1, false)
  api.nvim_buf_delete(scratch, { force = true })
  return H.hunks(before, after)
end

---@param before string[]
---@param after string[]
---@return demolish.Line[]
function H.hunks(before, after)
  local function join(lines)
    return table.concat(lines, '\n') .. '\n'
  end
  local text = vim.text.diff(join(before), join(after), { ctxlen = 2 }) --[[@as string]]
  local lines = {} ---@type demolish.Line[]
  for line in vim.gsplit(vim.trim(text), '\n', { plain = true }) do
    local first = line:sub(1, 1)
    local group = first == '+' and 'Added' or first == '-' and 'Removed' or first == '@' and 'Comment' or nil
    lines[#lines + 1] = { { line:gsub('\t', '    '), group } }
  end
  return lines
end

--- One line about how the fix was found.
---@param fix demolish.Fix
---@return string
function H.origin(fix)
  local parts = { ORIGINS[fix.proposal.origin] or fix.proposal.origin or 'found by search' }
  if type(fix.candidates) == 'number' then
    parts[#parts + 1] = ('%d candidates checked'):format(fix.candidates)
  end
  if type(fix.refused) == 'table' and #fix.refused > 0 then
    parts[#parts + 1] = ('%d refused'):format(#fix.refused)
  end
  local total = vim.tbl_get(fix, 'timings_ms', 'total')
  if type(total) == 'number' then
    parts[#parts + 1] = ('%.0f ms'):format(total)
  end
  return table.concat(parts, ' · ')
end

return M
