--- `:Demolish {sub-command}`: the table of sub-commands, and its completion.

local M = {}
local H = {}

---@class demolish.Command
---@field help string
---@field run fun(call: vim.api.keyset.create_user_command.command_args, argument?: string)
---@field complete? string[] What may follow.
---@field ranged? boolean

---@type table<string, demolish.Command>
M.commands = {
  fix = {
    help = 'propose a fix for the diagnostics of the range or the cursor line; with ! apply it at once',
    ranged = true,
    run = function(call)
      local range = call.range > 0 and { call.line1, call.line2 } or nil
      require('demolish').fix({ lines = range, apply = call.bang })
    end,
  },
  status = {
    help = 'show what runs, and how it is',
    run = function()
      require('demolish').status()
    end,
  },
  why = {
    help = 'show what the checker said about the last suggestion, and what it refused',
    run = function()
      require('demolish').why()
    end,
  },
  log = {
    help = "open the daemon's log",
    run = function()
      require('demolish.status').log()
    end,
  },
  trace = {
    help = 'follow the messages that pass',
    run = function()
      require('demolish.status').trace()
    end,
  },
  toggle = {
    help = 'switch suggestions on or off',
    complete = { 'on', 'off' },
    run = function(_, argument)
      local on = nil ---@type boolean?
      if argument then
        on = argument == 'on'
      end
      local now = require('demolish').toggle(on)
      H.say(now and 'suggestions are on' or 'suggestions are off')
    end,
  },
  restart = {
    help = 'restart the daemon and the language servers behind it',
    run = function()
      require('demolish.lifecycle').restart()
    end,
  },
  stop = {
    help = 'stop the daemon; the language servers go on without it',
    run = function()
      require('demolish.lifecycle').stop()
    end,
  },
}

---@param call vim.api.keyset.create_user_command.command_args
function M.run(call)
  local name, argument = call.fargs[1], call.fargs[2]
  -- `:Demolish fix!` is what the fingers write; the `!` belongs to the sub-command.
  if name and name:sub(-1) == '!' then
    name, call.bang = name:sub(1, -2), true
  end
  if not name then
    H.say('which? ' .. table.concat(H.names(), ', ') .. ' (:help :Demolish)')
    return
  end
  local command = M.commands[name]
  if not command then
    H.complain(('no sub-command "%s"; there are %s'):format(name, table.concat(H.names(), ', ')))
  elseif #call.fargs > (command.complete and 2 or 1) then
    H.complain(('`:Demolish %s` takes no argument "%s"'):format(name, call.fargs[#call.fargs]))
  elseif argument and not vim.tbl_contains(command.complete, argument) then
    H.complain(('`:Demolish %s` takes %s'):format(name, table.concat(command.complete, ' or ')))
  elseif call.range > 0 and not command.ranged then
    H.complain(('`:Demolish %s` takes no range'):format(name))
  elseif call.bang and not command.ranged then
    H.complain(('`:Demolish %s` takes no !'):format(name))
  else
    local ok, problem = pcall(command.run, call, argument)
    if not ok then
      H.complain(('%s failed: %s'):format(name, tostring(problem):match('[^\n]*')))
    end
  end
end

---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  local words = vim.split(vim.trim(line:gsub('^.-Demolish!?', '', 1)), '%s+')
  local typed = words[1] ~= '' and #words or 0
  local position = lead == '' and typed + 1 or typed
  local choices = position <= 1 and H.names() or {}
  if position == 2 then
    local command = M.commands[words[1]]
    choices = command and command.complete or {}
  end
  return vim.tbl_filter(function(choice)
    return vim.startswith(choice, lead)
  end, choices)
end

---@return string[]
function H.names()
  local names = vim.tbl_keys(M.commands)
  table.sort(names)
  return names
end

---@param text string
function H.say(text)
  vim.notify('demolish: ' .. text)
end

---@param text string
function H.complain(text)
  vim.notify('demolish: ' .. text, vim.log.levels.ERROR)
end

return M
