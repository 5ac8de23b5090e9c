--- A floating window with text to read: the preview of a fix, `:Demolish why` and `:Demolish status` are all one of these.

local api = vim.api

local M = {}
local H = {}

local namespace = api.nvim_create_namespace('demolish.float')

--- One line: text, or pieces of text with a highlight group.
---@alias demolish.Line string | [string, string?][]

---@class demolish.float.Opts
---@field title string
---@field footer? string
---@field keys? table<string, fun()> What a key does; the window is closed before.

--- Opens the window over the current one. `q` and `<Esc>` close it, as does leaving it.
---@param lines demolish.Line[]
---@param opts demolish.float.Opts
---@return integer window
function M.open(lines, opts)
  local bufnr = api.nvim_create_buf(false, true)
  local width = H.fill(bufnr, lines)
  width = math.max(width, vim.fn.strdisplaywidth(opts.title) + 4, vim.fn.strdisplaywidth(opts.footer or '') + 4)
  width = math.max(1, math.min(width, vim.o.columns - 4))
  local height = math.max(1, math.min(#lines, vim.o.lines - 6))
  local window = api.nvim_open_win(bufnr, true, {
    relative = 'editor',
    row = math.max(0, math.floor((vim.o.lines - height) / 2) - 2),
    col = math.max(0, math.floor((vim.o.columns - width) / 2) - 1),
    width = width,
    height = height,
    style = 'minimal',
    border = vim.o.winborder ~= '' and vim.o.winborder or 'rounded',
    title = (' %s '):format(opts.title),
    footer = opts.footer and (' %s '):format(opts.footer) or nil,
    footer_pos = opts.footer and 'right' or nil,
  })
  vim.wo[window].wrap, vim.wo[window].linebreak = true, true
  local wrapped = api.nvim_win_text_height(window, {}).all
  if wrapped > height then
    api.nvim_win_set_height(window, math.min(wrapped, vim.o.lines - 6))
  end
  vim.bo[bufnr].modifiable = false
  vim.bo[bufnr].bufhidden = 'wipe'
  local close = H.closer(window)
  for key, run in pairs(vim.tbl_extend('keep', opts.keys or {}, { q = function() end, ['<Esc>'] = function() end })) do
    vim.keymap.set('n', key, function()
      close()
      run()
    end, { buffer = bufnr, nowait = true })
  end
  api.nvim_create_autocmd('WinLeave', { buffer = bufnr, once = true, callback = vim.schedule_wrap(close) })
  return window
end

---@param window integer
---@return fun()
function H.closer(window)
  return function()
    if api.nvim_win_is_valid(window) then
      api.nvim_win_close(window, true)
    end
  end
end

--- Writes the lines and their highlights, and returns the width of the widest.
---@param bufnr integer
---@param lines demolish.Line[]
---@return integer
function H.fill(bufnr, lines)
  local width = 1
  for i, line in ipairs(lines) do
    local pieces = type(line) == 'string' and { { line } } or line --[=[@as [string, string?][]]=]
    local text = ''
    local marks = {} ---@type [integer, integer, string][]
    for _, piece in ipairs(pieces) do
      local clean = piece[1]:gsub('[\n\r]', ' ')
      if piece[2] then
        marks[#marks + 1] = { #text, #text + #clean, piece[2] }
      end
      text = text .. clean
    end
    api.nvim_buf_set_lines(bufnr, i - 1, i, false, { text })
    for _, mark in ipairs(marks) do
      api.nvim_buf_set_extmark(bufnr, namespace, i - 1, mark[1], { end_col = mark[2], hl_group = mark[3] })
    end
    width = math.max(width, vim.fn.strdisplaywidth(text))
  end
  return width
end

--- A diagnostic in one line.
---@param diagnostic { severity?: any, code?: any, source?: string, message: string, range?: table }
---@return demolish.Line
function M.diagnostic(diagnostic)
  local is_error = diagnostic.severity == nil or diagnostic.severity == 1 or diagnostic.severity == 'error'
  local code = type(diagnostic.code) == 'table' and diagnostic.code.value or diagnostic.code
  local source = type(diagnostic.source) == 'string' and diagnostic.source or nil
  local name = table.concat(
    vim.tbl_filter(function(part)
      return part ~= nil and part ~= '' and part ~= vim.NIL
    end, { source or '', code and code ~= vim.NIL and tostring(code) or '' }),
    ' '
  )
  local line = vim.tbl_get(diagnostic, 'range', 'start', 'line')
  return {
    { '  ✗ ', is_error and 'DiagnosticError' or 'DiagnosticWarn' },
    { line and ('%d: '):format(line + 1) or '' },
    { diagnostic.message:match('[^\n]*') },
    { name ~= '' and (' [%s]'):format(name) or '', 'Comment' },
  }
end

return M
