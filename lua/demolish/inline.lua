--- Suggestions: Neovim's own `vim.lsp.inline_completion`, with what it leaves to be wished for. Neovim keeps one object
--- for each buffer with the state of its suggestions; `adopt()` replaces five of that object's methods, for that buffer
--- alone, so that
---  * a suggestion is shown only where the text around it is the text it was made for, or was typed through;
---  * typing what is suggested shortens the suggestion and asks nobody again;
---  * a newer request cancels the older one, after a delay that can be chosen;
---  * a part of a suggestion can be taken, and the rest stays.
--- The object is not a public interface. Where it looks different from what we know, Neovim's own behaviour stays.
--- Must not: draw (see ghost.lua), or decide what a suggestion says.

local api = vim.api

local M = {}
local H = {}

---@class demolish.inline.Item One suggestion, reduced to what is to come after the cursor.
---@field text string
---@field after integer How many bytes behind the cursor it replaces.
---@field lsp lsp.InlineCompletionItem As the server sent it; `data.demolish` has the verdict.

---@class demolish.inline.Answer One server's answer, tied to the text around the place it was asked for.
---@field row integer 0-based.
---@field col integer In bytes.
---@field prefix string The line up to the place.
---@field suffix string The line behind the place.
---@field items demolish.inline.Item[]
---@field note? table What the server says of the whole answer, with or without items.

---@class demolish.inline.State
---@field answers table<integer, demolish.inline.Answer> By client id.
---@field requests table<integer, integer> The request on its way, by client id.
---@field live demolish.inline.Item[] What can be shown now, in the order of `vim.lsp.inline_completion`.
---@field dismissed? { row: integer, text: string } Not shown again.

---@type table<integer, demolish.inline.State>
local states = {}

--- The answer that `:Demolish why` tells about.
---@type { bufnr: integer, text?: string, note?: table }?
M.last = nil

--- Replaces the methods of the buffer's inline-completion object. Idempotent; false if Neovim's object is not as we know it.
---@param bufnr integer
---@return boolean
function M.adopt(bufnr)
  local c = H.completor(bufnr)
  if not c then
    return false
  end
  if rawget(c, 'demolish') then
    return true
  end
  states[bufnr] = { answers = {}, requests = {}, live = {} }
  c.demolish = true
  c.automatic_request = H.automatic_request
  c.request = H.request
  c.show = H.show
  c.abort = H.abort(c.abort)
  c.destroy = H.destroy(c.destroy)
  return true
end

--- Is a suggestion on the screen?
---@param bufnr? integer
---@return boolean
function M.is_visible(bufnr)
  local c = H.completor(bufnr or api.nvim_get_current_buf())
  return c ~= nil and c.current ~= nil
end

--- The suggestion on the screen.
---@param bufnr? integer
---@return demolish.inline.Item?
function M.current(bufnr)
  bufnr = bufnr or api.nvim_get_current_buf()
  local c, state = H.completor(bufnr), states[bufnr]
  return c and state and c.current and state.live[c.current._index] or nil
end

--- The keys that take a part of the suggestion as one undo step; none while there is no suggestion.
---@param part 'all'|'word'|'line'
---@return string
function M.keys(part)
  if not M.is_visible() then
    return ''
  end
  return ('<C-g>u<Cmd>lua require("demolish.inline").accept("%s")<CR><C-g>u'):format(part)
end

--- Takes the suggestion, its next word or its next line; the rest stays on the screen.
---@param part? 'all'|'word'|'line'
---@return boolean taken
function M.accept(part)
  local bufnr = api.nvim_get_current_buf()
  local c, state = H.completor(bufnr), states[bufnr]
  if not c or not state then
    return false
  end
  H.advance(c, c.current and c.current._index)
  local item = M.current(bufnr)
  if not item then
    return false
  end
  local text = H.cut(item.text, part or 'all')
  local rest = item.text:sub(#text + 1)
  local row, col = H.cursor()
  local index = c.current._index
  local client_id = c.current.client_id
  local lines = vim.split(text, '\n', { plain = true })
  api.nvim_buf_set_text(bufnr, row, col, row, col + (rest == '' and item.after or 0), lines)
  api.nvim_win_set_cursor(0, { row + #lines, (#lines == 1 and col or 0) + #lines[#lines] })
  H.tell_accepted(client_id, bufnr, text)
  if rest ~= '' then
    H.advance(c, index)
    return true
  end
  c:abort()
  local command = item.lsp.command
  local client = vim.lsp.get_client_by_id(client_id)
  if command and client then
    client:exec_cmd(command, { bufnr = bufnr })
  end
  return true
end

--- What was taken goes into the journal, which only our own server's shim keeps.
---@param client_id integer
---@param bufnr integer
---@param text string
function H.tell_accepted(client_id, bufnr, text)
  local client = vim.lsp.get_client_by_id(client_id)
  if client and client.name == require('demolish.server').NAME then
    local document = { uri = vim.uri_from_bufnr(bufnr) }
    client:notify('demolish/didAccept', { textDocument = document, text = text })
  end
end

--- Shows the next suggestion.
function M.next()
  vim.lsp.inline_completion.select({ count = 1 })
end

--- Shows the suggestion before this one.
function M.prev()
  vim.lsp.inline_completion.select({ count = -1 })
end

--- Hides the suggestion, and does not show it here again.
function M.dismiss()
  local bufnr = api.nvim_get_current_buf()
  local c, state, item = H.completor(bufnr), states[bufnr], M.current()
  if c then
    c:abort()
  end
  if state and item then
    state.dismissed = { row = (H.cursor()), text = item.text }
  end
end

--- Hides the suggestion of a buffer and forgets it.
---@param bufnr integer
function M.hide(bufnr)
  local c = H.completor(bufnr)
  if c then
    c:abort()
  end
end

--- Asks for a suggestion now.
function M.trigger()
  local bufnr = api.nvim_get_current_buf()
  local c, state = H.completor(bufnr), states[bufnr]
  if not c then
    local _, reason = require('demolish.server').client(bufnr)
    vim.notify('demolish: no suggestions here: ' .. (reason ~= '' and reason or 'the daemon offers none'))
    return
  end
  if state then
    state.dismissed = nil
  end
  c:request(vim.lsp.protocol.InlineCompletionTriggerKind.Invoked)
end

--- Neovim's object for a buffer, if it is as we know it.
---@param bufnr integer
---@return table?
function H.completor(bufnr)
  local ok, capability = pcall(require, 'vim.lsp._capability')
  local class = ok and capability.all and capability.all.inline_completion
  local c = class and class.active and class.active[bufnr]
  if not c then
    return nil
  end
  for _, method in ipairs({
    'automatic_request',
    'request',
    'show',
    'hide',
    'select',
    'abort',
    'destroy',
    'reset_timer',
  }) do
    if type(c[method]) ~= 'function' then
      return nil
    end
  end
  return type(c.client_state) == 'table' and c or nil
end

---@return integer row 0-based
---@return integer col in bytes
function H.cursor()
  local cursor = api.nvim_win_get_cursor(0)
  return cursor[1] - 1, cursor[2]
end

---@return boolean
function H.inserting()
  return vim.startswith(api.nvim_get_mode().mode, 'i')
end

--- Every keystroke and every move of the cursor ends here.
---@param c table
function H.automatic_request(c)
  c:reset_timer()
  if vim.fn.reg_executing() ~= '' or api.nvim_get_current_buf() ~= c.bufnr then
    return
  end
  if H.advance(c, c.current and c.current._index or 1) then
    return
  end
  H.cancel(c)
  if not require('demolish.attach').is_auto(c.bufnr) then
    return
  end
  c.timer = vim.defer_fn(function()
    if api.nvim_buf_is_valid(c.bufnr) and H.inserting() and api.nvim_get_current_buf() == c.bufnr then
      c:request(vim.lsp.protocol.InlineCompletionTriggerKind.Automatic)
    end
  end, require('demolish.config').get().debounce_ms)
end

--- Asks every server of the buffer.
---@param c table
---@param kind lsp.InlineCompletionTriggerKind
function H.request(c, kind)
  H.cancel(c)
  local state = states[c.bufnr]
  local row, col = H.cursor()
  local line = api.nvim_get_current_line()
  for client_id in pairs(c.client_state) do
    local client = vim.lsp.get_client_by_id(client_id)
    if client then
      local params = vim.lsp.util.make_position_params(0, client.offset_encoding) --[[@as lsp.InlineCompletionParams]]
      params.context = { triggerKind = kind }
      local ok, id = client:request('textDocument/inlineCompletion', params, function(err, result)
        state.requests[client_id] = nil
        if err or not result then
          H.on_error(err)
          return
        end
        state.answers[client_id] = H.answer(client, { row = row, col = col, line = line }, result)
        H.on_answer(c, client_id)
      end, c.bufnr)
      state.requests[client_id] = ok and id or nil
    end
  end
end

---@param c table
---@param client_id integer
function H.on_answer(c, client_id)
  local answer = states[c.bufnr].answers[client_id]
  local item = answer.items[1]
  local note = item and vim.tbl_get(item.lsp, 'data', 'demolish') or answer.note
  -- An answer without any news (nothing to add here) does not take the place of the last suggestion.
  if item or note and (note.error or #(note.refused or {}) > 0) then
    M.last = { bufnr = c.bufnr, text = item and item.text, note = note }
  end
  if rawget(c, 'demolish') and H.inserting() and api.nvim_get_current_buf() == c.bufnr then
    H.advance(c, 1)
  end
end

--- A suggestion that could not be made is no event for somebody who types; what is new is said once.
---@param err? lsp.ResponseError
function H.on_error(err)
  local codes = vim.lsp.protocol.ErrorCodes
  local quiet = { [codes.RequestCancelled] = true, [codes.ContentModified] = true, [codes.ServerCancelled] = true }
  if not err or quiet[err.code] then
    return
  end
  vim.notify_once('demolish: no suggestion: ' .. err.message, vim.log.levels.WARN)
end

--- Cancels the requests on their way, down to the model.
---@param c table
function H.cancel(c)
  local state = states[c.bufnr]
  for client_id, id in pairs(state.requests) do
    local client = vim.lsp.get_client_by_id(client_id)
    if client then
      client:cancel_request(id)
    end
    state.requests[client_id] = nil
  end
end

--- Reduces an answer to what comes after the cursor. What cannot be shown as such is left out.
---@param client vim.lsp.Client
---@param at { row: integer, col: integer, line: string }
---@param result lsp.InlineCompletionItem[]|lsp.InlineCompletionList
---@return demolish.inline.Answer
function H.answer(client, at, result)
  ---@type demolish.inline.Answer
  local answer = {
    row = at.row,
    col = at.col,
    prefix = at.line:sub(1, at.col),
    suffix = at.line:sub(at.col + 1),
    items = {},
    note = result.demolish,
  }
  for _, item in ipairs(result.items or result) do
    local text = type(item.insertText) == 'table' and item.insertText.value or item.insertText
    local start, stop = at.col, at.col
    local range = item.range
    local fits = type(text) == 'string'
    if fits and range then
      fits = range.start.line == at.row and range['end'].line == at.row
      start = vim.str_byteindex(at.line, client.offset_encoding, range.start.character, false)
      stop = vim.str_byteindex(at.line, client.offset_encoding, range['end'].character, false)
    end
    local typed = at.line:sub(start + 1, at.col)
    if fits and stop >= at.col and vim.startswith(text, typed) and #text > #typed then
      text = text:gsub('\r\n', '\n')
      answer.items[#answer.items + 1] = { text = text:sub(#typed + 1), after = stop - at.col, lsp = item }
    end
  end
  return answer
end

--- Brings the suggestions up to the cursor: what was typed since is cut off, and what does not fit any more is dropped.
--- Shows what is left, and says whether there is any.
---@param c table
---@param index? integer which to show
---@return boolean
function H.advance(c, index)
  local state = states[c.bufnr]
  state.live = {}
  for client_id, answer in pairs(state.answers) do
    if not H.bring_up(c, client_id, answer, state) then
      state.answers[client_id] = nil
      if c.client_state[client_id] then
        c.client_state[client_id].items = nil
      end
    end
  end
  local client_ids = vim.tbl_keys(state.answers)
  table.sort(client_ids)
  for _, client_id in ipairs(client_ids) do
    vim.list_extend(state.live, state.answers[client_id].items)
  end
  if #state.live == 0 then
    c.current = nil
    c:hide()
    return false
  end
  c:select(math.min(index or 1, #state.live))
  return true
end

--- Moves one answer to the cursor.
---@param c table
---@param client_id integer
---@param answer demolish.inline.Answer
---@param state demolish.inline.State
---@return boolean fits
function H.bring_up(c, client_id, answer, state)
  local row, col = H.cursor()
  local client = vim.lsp.get_client_by_id(client_id)
  local line = api.nvim_get_current_line()
  local ahead = row > answer.row or (row == answer.row and col >= answer.col)
  if not client or not c.client_state[client_id] or not ahead or line:sub(col + 1) ~= answer.suffix then
    return false
  end
  local first = row == answer.row and line or api.nvim_buf_get_lines(c.bufnr, answer.row, answer.row + 1, false)[1]
  if first:sub(1, answer.col) ~= answer.prefix then
    return false
  end
  local typed = table.concat(api.nvim_buf_get_text(c.bufnr, answer.row, answer.col, row, col, {}), '\n')
  local dismissed = state.dismissed
  local items = {} ---@type demolish.inline.Item[]
  for _, item in ipairs(answer.items) do
    local rest = item.text:sub(#typed + 1)
    local unwanted = dismissed and dismissed.row == row and dismissed.text == rest
    if vim.startswith(item.text, typed) and rest ~= '' and not unwanted then
      items[#items + 1] = { text = rest, after = item.after, lsp = item.lsp }
    end
  end
  answer.row, answer.col, answer.prefix, answer.items = row, col, line:sub(1, col), items
  c.client_state[client_id].items = vim.tbl_map(function(item)
    return H.to_lsp(client, c.bufnr, row, col, item)
  end, items)
  return #items > 0
end

--- The item as the server would have sent it for the cursor's place, so that `vim.lsp.inline_completion.get()` is right too.
---@param client vim.lsp.Client
---@param bufnr integer
---@param row integer
---@param col integer
---@param item demolish.inline.Item
---@return lsp.InlineCompletionItem
function H.to_lsp(client, bufnr, row, col, item)
  local line = api.nvim_buf_get_lines(bufnr, row, row + 1, false)[1]
  local function position(byte)
    return { line = row, character = vim.str_utfindex(line, client.offset_encoding, byte, false) }
  end
  return vim.tbl_extend('force', item.lsp, {
    insertText = item.text,
    range = { start = position(col), ['end'] = position(col + item.after) },
  })
end

--- Draws the selected suggestion, unless it has to give way to a menu.
---@param c table
---@param count? string
function H.show(c, count)
  c:hide()
  if not c.current or api.nvim_get_current_buf() ~= c.bufnr or not H.inserting() then
    return
  end
  local item = states[c.bufnr].live[c.current._index]
  if not item or require('demolish.menu').in_the_way() then
    c.current = nil
    return
  end
  local row, col = H.cursor()
  require('demolish.ghost').draw(c.bufnr, row, col, item, count)
end

---@param before fun(c: table)
---@return fun(c: table)
function H.abort(before)
  return function(c)
    local state = states[c.bufnr]
    H.cancel(c)
    for client_id in pairs(state.answers) do
      if c.client_state[client_id] then
        c.client_state[client_id].items = nil
      end
    end
    state.answers, state.live = {}, {}
    before(c)
  end
end

---@param before fun(c: table)
---@return fun(c: table)
function H.destroy(before)
  return function(c)
    H.cancel(c)
    states[c.bufnr] = nil
    before(c)
  end
end

--- The part of a text that is taken.
---@param text string
---@param part 'all'|'word'|'line'
---@return string
function H.cut(text, part)
  if part == 'all' then
    return text
  end
  local line_break = text:match('^\n[ \t]*') or ''
  local rest = text:sub(#line_break + 1)
  if part == 'line' then
    return line_break .. rest:match('^[^\n]*')
  end
  -- A word is a run of letters, or one of signs, with the blanks before it.
  local word = rest:match('^[ \t]*[%w_\128-\255]+') or rest:match('^[ \t]*[^%w_%s\128-\255]+') or rest:match('^[ \t]+')
  return line_break .. (word or '')
end

return M
