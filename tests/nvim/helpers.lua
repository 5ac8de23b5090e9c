--- A child Neovim with the plugin in it, and words for what the tests ask of it.

local MiniTest = require('mini.test')
local eq = MiniTest.expect.equality

local M = {}

--- A directory with programs that stand for the real ones: `demolish`, which knows its version and says what else it was
--- asked to a file, and two language servers that do nothing.
---@return string
function M.bin()
  if not M.bin_dir then
    M.bin_dir = vim.fn.tempname()
    vim.fn.mkdir(M.bin_dir, 'p')
    for name, script in pairs({
      demolish = 'case "$1" in --version) echo "demolish 0.1.0";; status) exit 1;; stop) exit 1;; *) exec cat >/dev/null;; esac',
      ['fake-ls'] = 'exec cat >/dev/null',
      ['other-ls'] = 'exec cat >/dev/null',
    }) do
      local path = M.bin_dir .. '/' .. name
      vim.fn.writefile({ '#!/bin/sh', script }, path)
      vim.uv.fs_chmod(path, 493)
    end
  end
  return M.bin_dir
end

--- A child Neovim. `start()` loads the plugin the way a user's Neovim does.
function M.new_child()
  local child = MiniTest.new_child_neovim()

  --- Starts anew; `lua` is the user's configuration, which runs before plugins are loaded.
  function child.start_with(lua)
    local init = vim.fn.tempname() .. '.lua'
    local prelude = ('dofile(%q)\nvim.env.PATH = %q .. vim.env.PATH\n'):format(
      vim.env.DEMOLISH_ROOT .. '/tests/nvim/minimal_init.lua',
      M.bin() .. ':'
    )
    local lines = vim.split(prelude .. (lua or ''), '\n')
    vim.fn.writefile(lines, init)
    child.restart({ '-u', init, '--cmd', 'set lines=24 columns=80' })
    child.o.lines, child.o.columns, child.o.laststatus = 24, 80, 0
    child.lua('_G.fake = require("fake_server"); _G.notes = {}')
    child.lua('vim.notify = function(text, level) table.insert(notes, { text, level }) end')
  end

  --- Starts with a buffer of `filetype` that our own server, a fake, is attached to.
  function child.start_attached(opts)
    opts = opts or {}
    child.start_with(([[
      vim.g.demolish = %s
      vim.lsp.config('demolish', { cmd = function(d) return require('fake_server').cmd(d) end })
    ]]):format(vim.inspect({ editor = opts.editor or { debounce_ms = 40 } })))
    child.cmd('edit ' .. vim.fn.fnameescape(child.dir() .. '/' .. (opts.name or 'sample.py')))
    if opts.text then
      child.api.nvim_buf_set_lines(0, 0, -1, false, vim.split(opts.text, '\n'))
    end
    child.wait('#vim.lsp.get_clients({ name = "demolish", bufnr = 0 }) == 1 and vim.lsp.get_clients()[1].initialized')
    child.lua('vim.wait(30)')
  end

  --- A directory of its own.
  function child.dir()
    local dir = child.fn.tempname()
    child.fn.mkdir(dir, 'p')
    return dir
  end

  --- Waits until a Lua expression is true in the child.
  function child.wait(expression, limit_ms)
    local ok = child.lua_get(('vim.wait(%d, function() return (%s) end, 5)'):format(limit_ms or 2000, expression))
    if not ok then
      error(('waited in vain for %s; notifications: %s'):format(expression, vim.inspect(child.lua_get('notes'))), 2)
    end
  end

  --- The suggestion on the screen: its text, and the mark at the end of the line.
  function child.ghost()
    return unpack(child.lua([[
      local space = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
      local text, mark = nil, nil
      for _, m in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })) do
        local d = m[4]
        local first = table.concat(vim.tbl_map(function(c) return c[1] end, d.virt_text or {}))
        if d.virt_text_pos == 'eol' then
          mark = vim.trim(first)
        else
          local lines = { first }
          for _, l in ipairs(d.virt_lines or {}) do
            table.insert(lines, table.concat(vim.tbl_map(function(c) return c[1] end, l)))
          end
          text = table.concat(lines, '\n')
        end
      end
      return { text or vim.NIL, mark or vim.NIL }
    ]]))
  end

  --- Waits for a suggestion and compares it.
  function child.expect_ghost(text, mark)
    local shown, shown_mark
    for _ = 1, 100 do
      shown, shown_mark = child.ghost()
      if shown == text or (shown == vim.NIL and text == nil) then
        break
      end
      vim.uv.sleep(10)
    end
    eq(shown, text == nil and vim.NIL or text)
    if mark then
      eq(shown_mark, mark)
    end
  end

  --- The whole buffer as one string.
  function child.text()
    return table.concat(child.api.nvim_buf_get_lines(0, 0, -1, false), '\n')
  end

  --- Answers inlineCompletion with these items.
  function child.suggest(items, delay_ms)
    child.lua('fake.answers["textDocument/inlineCompletion"] = { items = ... }', { items })
    child.lua('fake.delay_ms["textDocument/inlineCompletion"] = ...', { delay_ms or 0 })
  end

  --- The texts of all notifications so far.
  function child.notes()
    return child.lua_get('vim.tbl_map(function(n) return n[1] end, notes)')
  end

  return child
end

--- An item with a verdict.
function M.item(text, opts)
  opts = opts or {}
  return {
    insertText = text,
    range = opts.range,
    data = {
      demolish = {
        verdict = opts.verdict or { kind = 'clean', server = 'ty' },
        refused = opts.refused or {},
        timings_ms = { total = 41 },
        model = 'demolish-nano',
      },
    },
  }
end

return M
