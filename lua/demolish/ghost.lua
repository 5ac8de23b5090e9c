--- Draws a suggestion as virtual text: the text at the cursor, and at the end of its first line a mark that says what the
--- language server thinks of it.

local api = vim.api

local M = {}
local H = {}

-- Neovim's own namespace, so that whatever hides its suggestions hides ours.
local namespace = api.nvim_create_namespace('nvim.lsp.inline_completion')

--- What a reason may take of the screen.
local REASON_LEN_MAX = 60

---@alias demolish.Verdict { kind: 'clean'|'findings'|'unknown', server?: string, reason?: string, findings?: table[], deferred?: table[] }

---@param bufnr integer
---@param row integer
---@param col integer
---@param item demolish.inline.Item
---@param count? string such as ' (2/3)'
function M.draw(bufnr, row, col, item, count)
  local column = vim.fn.virtcol('.') - 1
  local lines = {} ---@type [string, string][][]
  for i, line in ipairs(vim.split(item.text, '\n', { plain = true })) do
    lines[i] = { { H.expand(line, i == 1 and column or 0, vim.bo[bufnr].tabstop), 'ComplHint' } }
  end
  if count then
    table.insert(lines[#lines], { count, 'ComplHintMore' })
  end
  api.nvim_buf_set_extmark(bufnr, namespace, row, col, {
    virt_text = lines[1],
    virt_lines = vim.list_slice(lines, 2),
    virt_text_pos = item.after > 0 and 'overlay' or 'inline',
    hl_mode = 'combine',
  })
  local mark = require('demolish.config').get().mark and M.mark(vim.tbl_get(item.lsp, 'data', 'demolish'))
  if mark then
    api.nvim_buf_set_extmark(bufnr, namespace, row, col, {
      virt_text = { { '  ' .. mark[1], mark[2] } },
      virt_text_pos = 'eol',
      hl_mode = 'combine',
    })
  end
end

--- A verdict in a few words, and their highlight group.
---@param note? { verdict?: demolish.Verdict, refused?: table[] }
---@return [string, string]?
function M.mark(note)
  local verdict = note and note.verdict
  if not note or type(verdict) ~= 'table' then
    return nil
  end
  H.highlights()
  local by = type(verdict.server) == 'string' and verdict.server or 'the language server'
  if verdict.kind == 'clean' then
    local refused = type(note.refused) == 'table' and #note.refused or 0
    return {
      ('✓ checked by %s%s'):format(by, refused > 0 and (', %d refused'):format(refused) or ''),
      'DemolishClean',
    }
  elseif verdict.kind == 'findings' then
    local first = verdict.findings and verdict.findings[1]
    -- What usually goes away as one writes on is told with another sign than what is wrong.
    local open = #(verdict.deferred or {}) > 0
    return { (open and '◌ ' or '✗ ') .. H.short(first and first.message or (by .. ' objects')), 'DemolishFindings' }
  end
  local reason = type(verdict.reason) == 'string' and verdict.reason or nil
  return { '? unchecked' .. (reason and ': ' .. H.short(reason) or ''), 'DemolishUnknown' }
end

--- Users may set these groups; ours are links that give way.
function H.highlights()
  api.nvim_set_hl(0, 'DemolishClean', { link = 'DiagnosticOk', default = true })
  api.nvim_set_hl(0, 'DemolishFindings', { link = 'DiagnosticWarn', default = true })
  api.nvim_set_hl(0, 'DemolishUnknown', { link = 'NonText', default = true })
end

---@param reason string
---@return string
function H.short(reason)
  reason = reason:gsub('%s+', ' ')
  return vim.fn.strchars(reason) > REASON_LEN_MAX and vim.fn.strcharpart(reason, 0, REASON_LEN_MAX - 1) .. '…'
    or reason
end

--- Virtual text does not know tabs.
---@param text string
---@param column integer
---@param tabstop integer
---@return string
function H.expand(text, column, tabstop)
  return (
    text:gsub('([^\t]*)\t', function(before)
      column = column + vim.fn.strdisplaywidth(before)
      local width = tabstop - column % tabstop
      column = column + width
      return before .. (' '):rep(width)
    end)
  )
end

return M
