--- `:Demolish fix`: asks the daemon for a fix of the diagnostics on some lines and hands it to the preview. The editor
--- applies it; the daemon writes no file.

local api = vim.api

local M = {}
local H = {}

--- A fix that is applied at once waits so long for its answer.
local WAIT_MS = 60 * 1000

---@class demolish.fix.Opts
---@field bufnr? integer Default: the current buffer.
---@field lines? [integer, integer] First and last line, counted from 1. Default: the cursor's line.
---@field apply? boolean Wait for the fix and apply it without a preview.

---@class demolish.Fix What the daemon answers.
---@field proposal? { edits: lsp.TextEdit[], diff?: string, origin?: string }
---@field before lsp.Diagnostic[]
---@field after lsp.Diagnostic[]
---@field candidates? integer
---@field refused? { text: string, diagnostic: lsp.Diagnostic }[]
---@field reason? string
---@field timings_ms? table<string, number>

--- The request on its way, by buffer: asking again replaces it.
---@type table<integer, { client: vim.lsp.Client, id: integer }>
local running = {}
local count = 0

---@param opts? demolish.fix.Opts
---@return boolean applied
function M.run(opts)
  opts = opts or {}
  local bufnr = vim._resolve_bufnr(opts.bufnr)
  local client, reason = require('demolish.server').client(bufnr)
  if not client then
    H.say(reason, vim.log.levels.WARN)
    return false
  end
  if not vim.bo[bufnr].modifiable then
    H.say('this buffer cannot be changed', vim.log.levels.WARN)
    return false
  end
  H.cancel(bufnr)
  count = count + 1
  local token = ('demolish-fix-%d'):format(count)
  local stop_progress = H.show_progress(client, token)
  local tick = api.nvim_buf_get_changedtick(bufnr)
  local done, applied = false, false
  local ok, id = client:request('demolish/fix', H.params(bufnr, opts.lines, client, token), function(err, result)
    done = true
    running[bufnr] = nil
    stop_progress()
    applied = H.on_answer(bufnr, client, tick, opts.apply, err, result)
  end, bufnr)
  if not ok or not id then
    stop_progress()
    H.say('the server has gone; `:Demolish restart` starts it again', vim.log.levels.ERROR)
    return false
  end
  running[bufnr] = { client = client, id = id }
  if opts.apply and not vim.wait(WAIT_MS, function()
    return done
  end, 10) then
    H.cancel(bufnr)
    stop_progress()
    H.say('no answer in time, nothing was changed', vim.log.levels.ERROR)
  end
  return applied
end

---@param bufnr integer
function H.cancel(bufnr)
  local request = running[bufnr]
  running[bufnr] = nil
  if request then
    request.client:cancel_request(request.id)
  end
end

---@param bufnr integer
---@param lines? [integer, integer]
---@param client vim.lsp.Client
---@param token string
---@return table
function H.params(bufnr, lines, client, token)
  local cursor = api.nvim_win_get_cursor(math.max(vim.fn.bufwinid(bufnr), 0))[1]
  local first, last = unpack(lines or { cursor, cursor })
  last = math.min(last, api.nvim_buf_line_count(bufnr))
  local text = api.nvim_buf_get_lines(bufnr, last - 1, last, false)[1] or ''
  return {
    textDocument = vim.lsp.util.make_text_document_params(bufnr),
    range = {
      start = { line = first - 1, character = 0 },
      ['end'] = { line = last - 1, character = vim.str_utfindex(text, client.offset_encoding, #text, false) },
    },
    workDoneToken = token,
  }
end

---@param bufnr integer
---@param client vim.lsp.Client
---@param tick integer
---@param apply? boolean
---@param err? lsp.ResponseError
---@param result? demolish.Fix
---@return boolean applied
function H.on_answer(bufnr, client, tick, apply, err, result)
  if err then
    local codes = vim.lsp.protocol.ErrorCodes
    if err.code ~= codes.RequestCancelled then
      H.say(err.message, vim.log.levels.ERROR)
    end
    return false
  elseif not api.nvim_buf_is_valid(bufnr) then
    return false
  elseif type(result) ~= 'table' or type(result.proposal) ~= 'table' then
    H.say(H.no_proposal(result))
    return false
  elseif api.nvim_buf_get_changedtick(bufnr) ~= tick then
    H.say('the text has changed since; ask again', vim.log.levels.WARN)
    return false
  elseif apply then
    return H.apply(bufnr, client, tick, result)
  end
  require('demolish.preview').open(bufnr, client, result, function()
    H.apply(bufnr, client, tick, result)
  end)
  return false
end

--- Why there is nothing to show.
---@param result? demolish.Fix
---@return string
function H.no_proposal(result)
  result = type(result) == 'table' and result or {}
  if type(result.reason) == 'string' then
    return 'no fix: ' .. result.reason
  elseif #(result.before or {}) == 0 then
    return 'no fix: there is no diagnostic on these lines'
  end
  local tried = type(result.candidates) == 'number' and result.candidates or 0
  return ('no fix: none of %d candidates satisfies the language server'):format(tried)
end

--- One undo step, and never over a text that the fix was not made for.
---@param bufnr integer
---@param client vim.lsp.Client
---@param tick integer
---@param fix demolish.Fix
---@return boolean applied
function H.apply(bufnr, client, tick, fix)
  if api.nvim_buf_get_changedtick(bufnr) ~= tick then
    H.say('the text has changed since; ask again', vim.log.levels.WARN)
    return false
  end
  vim.lsp.util.apply_text_edits(fix.proposal.edits, bufnr, client.offset_encoding)
  H.say(('fixed: %s before, %s after'):format(H.count(fix.before), H.count(fix.after)))
  return true
end

---@param diagnostics? lsp.Diagnostic[]
---@return string
function H.count(diagnostics)
  local n = #(diagnostics or {})
  return n == 0 and 'none' or n == 1 and '1 diagnostic' or ('%d diagnostics'):format(n)
end

--- Follows one progress token on the message line. The function that comes back ends it.
---@param client vim.lsp.Client
---@param token string
---@return fun()
function H.show_progress(client, token)
  local id = 'demolish.' .. token
  local function echo(text, status, percent)
    pcall(api.nvim_echo, { { text } }, false, {
      id = id,
      kind = 'progress',
      source = 'demolish',
      title = 'demolish',
      status = status,
      percent = percent,
    })
  end
  echo('looking for a fix', 'running')
  local autocmd = api.nvim_create_autocmd('LspProgress', {
    callback = function(event)
      local params = event.data.params
      if event.data.client_id == client.id and params.token == token and params.value.kind ~= 'end' then
        echo(params.value.message or params.value.title or 'looking for a fix', 'running', params.value.percentage)
      end
    end,
  })
  local ended = false
  return function()
    if not ended then
      ended = true
      api.nvim_del_autocmd(autocmd)
      echo('done', 'success')
    end
  end
end

---@param text string
---@param level? integer
function H.say(text, level)
  vim.notify('demolish: ' .. text, level or vim.log.levels.INFO)
end

return M
