--- The tour of `make demo`: a window at the bottom says what to press, and sees when it was done.

local api = vim.api

---@class tour.Step
---@field title string
---@field file string
---@field place string The cursor goes to the end of the first line that holds this text.
---@field text string[]
---@field done fun(): boolean? Looked at now and then; without it <F2> goes on.

local function client(name)
  local found = vim.lsp.get_clients({ name = name })[1]
  return found and found.initialized
end

---@type tour.Step[]
local steps = {
  {
    title = 'Your language server, through the daemon',
    file = 'shop/order.py',
    place = 'float(price), quantity)',
    text = {
      'The red line is from ty. Neovim asked for `ty server`; the plugin made it',
      '`demolish lsp -- ty server`. Edit, hover (K), jump (Ctrl-]): all passes through untouched.',
    },
    done = function()
      return #vim.diagnostic.get(0) > 0 and client('demolish')
    end,
  },
  {
    title = 'A suggestion that was checked before you saw it',
    file = 'shop/cart.py',
    place = 'return [item.name for item in self.items]',
    text = {
      'Press  o  and  Enter, and type:      def count(self) -> int:',
      'Press Enter, and type:               return len(      Then wait for the grey text.',
      'At the end of the line stands what ty says of it. Tab takes it, Ctrl-Right its next word.',
    },
    done = function()
      return package.loaded['demolish.inline'] and require('demolish').is_visible()
    end,
  },
  {
    title = 'What the checker refused',
    file = 'shop/cart.py',
    place = '',
    text = {
      'Press Esc, then type  :Demolish why  and Enter: the last suggestion, and the candidates that',
      'ty refused while it was written, each with ty’s own words. (Often there is none.)  q closes it.',
    },
    done = function()
      return api.nvim_win_get_config(0).relative ~= ''
    end,
  },
  {
    title = 'A fix for the type error',
    file = 'shop/order.py',
    place = 'float(price), quantity)',
    text = {
      'Type  :Demolish fix  and Enter. You see the diagnostics before and after, and the change.',
      'a accepts it, q rejects it, and u undoes it in one step.',
    },
    done = function()
      return vim.bo.filetype == 'python' and #vim.diagnostic.get(0, { severity = 1 }) == 0
    end,
  },
  {
    title = 'The same in TypeScript',
    file = '../typescript/src/order.ts',
    place = 'cart.totl()',
    text = {
      'Another language server (tsc), the same daemon, the same model. Try  :Demolish fix  here too,',
      'and  :Demolish status  to see what runs.',
    },
    done = function()
      return vim.bo.filetype == 'typescript' and client('tsc') and #vim.diagnostic.get(0, { severity = 1 }) == 0
    end,
  },
  {
    title = 'That is all',
    file = 'shop/order.py',
    place = '',
    text = {
      ':checkhealth demolish  and  :help demolish  say the rest.  :qa!  leaves; this was a copy,',
      'and nothing of it stays on your machine.',
    },
  },
}

local tour = { at = 1, done = {} } ---@type { at: integer, done: table<integer, boolean>, window?: integer, buffer?: integer }
local HEIGHT = 6
local LOOK_MS = 300

local namespace = api.nvim_create_namespace('demolish.tour')

function tour.draw()
  local step = steps[tour.at]
  local lines = { (' %d/%d  %s'):format(tour.at, #steps, step.title), '' }
  for _, text in ipairs(step.text) do
    lines[#lines + 1] = '   ' .. text
  end
  while #lines < HEIGHT - 1 do
    lines[#lines + 1] = ''
  end
  local done = tour.done[tour.at] and '✓ done. ' or ''
  lines[#lines + 1] = (' %sF2 next · F1 back · :qa! leave'):format(done)
  vim.bo[tour.buffer].modifiable = true
  api.nvim_buf_set_lines(tour.buffer, 0, -1, false, lines)
  vim.bo[tour.buffer].modifiable = false
  api.nvim_buf_clear_namespace(tour.buffer, namespace, 0, -1)
  api.nvim_buf_set_extmark(tour.buffer, namespace, 0, 0, { end_col = #lines[1], hl_group = 'Title' })
  local group = tour.done[tour.at] and 'DiagnosticOk' or 'Comment'
  api.nvim_buf_set_extmark(tour.buffer, namespace, #lines - 1, 0, { end_col = #lines[#lines], hl_group = group })
end

function tour.go(to)
  tour.at = math.max(1, math.min(to, #steps))
  local step = steps[tour.at]
  vim.cmd.stopinsert()
  if api.nvim_get_current_win() == tour.window then
    vim.cmd.wincmd('p')
  end
  vim.cmd.edit({ vim.fn.fnameescape(step.file), mods = { silent = true }, bang = false })
  if step.place ~= '' then
    vim.fn.cursor(1, 1)
    vim.fn.search('\\V' .. vim.fn.escape(step.place, '\\'), 'c')
    vim.cmd.normal({ '$zz', bang = true })
  end
  tour.draw()
end

function tour.look()
  local step = steps[tour.at]
  local ok, done = pcall(step.done or function() end)
  if ok and done and not tour.done[tour.at] then
    tour.done[tour.at] = true
    tour.draw()
  end
end

function tour.start()
  vim.o.hidden, vim.o.laststatus = true, 2
  vim.o.statusline = ' %f %m %= %{v:lua.require("demolish").statusline()} '
  tour.buffer = api.nvim_create_buf(false, true)
  tour.window = api.nvim_open_win(tour.buffer, false, { split = 'below', win = -1, height = HEIGHT, style = 'minimal' })
  vim.wo[tour.window].winfixheight = true
  vim.wo[tour.window].winfixbuf = true
  vim.wo[tour.window].statusline = ' the tour '
  for key, by in pairs({ ['<F2>'] = 1, ['<F1>'] = -1 }) do
    vim.keymap.set({ 'n', 'i' }, key, function()
      tour.go(tour.at + by)
    end, { desc = 'The tour' })
  end
  tour.go(1)
  local timer = assert(vim.uv.new_timer())
  timer:start(LOOK_MS, LOOK_MS, vim.schedule_wrap(tour.look))
  api.nvim_create_autocmd('VimLeavePre', {
    callback = function()
      timer:stop()
      timer:close()
    end,
  })
end

-- nested: the files that the tour opens must find their file types.
api.nvim_create_autocmd('VimEnter', { once = true, nested = true, callback = tour.start })
