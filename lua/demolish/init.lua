--- Demolish: suggestions and fixes that your own language server has checked. See |demolish|.
--- Everything here is one line; the features live in the modules that these lines load.

local M = {}

--- Merges options; nothing else. May be called at any time, and more than once.
---@param opts? demolish.Opts
function M.setup(opts)
  require('demolish.config').set(opts)
  if package.loaded['demolish.server'] then
    require('demolish.server').configure()
  end
end

--- Proposes a fix for the diagnostics of some lines (default: the cursor's).
---@param opts? demolish.fix.Opts
---@return boolean applied true if `opts.apply` was given and a fix was applied
function M.fix(opts)
  return require('demolish.fix').run(opts)
end

--- Takes the suggestion on the screen, its next word or its next line.
---@param part? 'all'|'word'|'line'
---@return boolean taken
function M.accept(part)
  return require('demolish.inline').accept(part)
end

--- Is a suggestion on the screen? For mappings of your own.
---@return boolean
function M.is_visible()
  return package.loaded['demolish.inline'] ~= nil and require('demolish.inline').is_visible()
end

--- Switches suggestions on or off.
---@param on? boolean nil switches to the other state
---@return boolean on
function M.toggle(on)
  return require('demolish.attach').toggle(on)
end

--- Shows what the checker said about the last suggestion, and what it refused.
function M.why()
  require('demolish.why').open()
end

--- Shows what runs, and how it is.
function M.status()
  require('demolish.status').open()
end

--- A few words for a status line; '' where Demolish has nothing to do. Cheap: loads nothing.
---@return string
function M.statusline()
  return package.loaded['demolish.server'] and require('demolish.status').line() or ''
end

return M
