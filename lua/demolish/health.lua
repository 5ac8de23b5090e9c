--- `:checkhealth demolish`.

local M = {}
local H = {}

local health = vim.health

--- How long the program may take to answer.
local ANSWER_MS = 3000

function M.check()
  health.start('demolish: the program')
  local cmd = H.cmd()
  health.start('demolish: the daemon and the model')
  if cmd then
    H.daemon(cmd)
  else
    health.info('not asked, for want of the program')
  end
  health.start('demolish: language servers')
  H.servers()
  health.start('demolish: suggestions')
  H.suggestions()
end

---@return string[]? cmd
function H.cmd()
  local cmd, found = require('demolish.config').cmd()
  local binary = cmd[1]
  if not found then
    health.error(('%s was not found'):format(binary), {
      'Build it with `cargo build --release`, or put it on PATH, or set the option "editor.cmd".',
      'Until then the language servers run without Demolish.',
    })
    return nil
  end
  health.ok(('found %s'):format(vim.fn.exepath(binary)))
  local run = H.run(cmd, '--version')
  local version = run.code == 0 and vim.version.parse(run.stdout or '', { strict = false }) or nil
  local wanted = vim.version.parse(require('demolish.version'))
  if not version then
    health.error(('`%s --version` says nothing of use: %s'):format(binary, vim.trim(run.stderr or '')))
  elseif version.major ~= wanted.major or version.minor ~= wanted.minor then
    health.warn(('the program is version %s, this plugin is made for %s'):format(version, wanted), {
      'Update both to the same version.',
    })
  else
    health.ok(('version %s fits this plugin'):format(version))
  end
  return cmd
end

---@param cmd string[]
function H.daemon(cmd)
  local run = H.run(cmd, 'status', '--json')
  local ok, status = pcall(vim.json.decode, run.stdout or '', { luanil = { object = true } })
  if run.code > 1 or not ok or type(status) ~= 'table' then
    local problem = vim.trim(run.stderr or '')
    if run.code == 1 or problem == '' then
      health.info('the daemon does not run; the first file of a supported type starts it')
    else
      health.warn('the daemon: ' .. problem)
    end
    return
  end
  if not status.pid then
    health.info('the daemon does not run; the first file of a supported type starts it')
    return
  end
  health.ok(('the daemon runs: version %s, process %s'):format(status.version or '?', status.pid))
  local model, trouble = require('demolish.status').model(status)
  if trouble then
    health.warn('no model: ' .. model, {
      'Diagnostics pass as ever; there are no suggestions, and fixes come from the language server alone.',
    })
  else
    health.ok('model: ' .. model)
  end
end

function H.servers()
  local clients = require('demolish.status').clients()
  for _, client in ipairs(clients) do
    local report = client.wrapped and health.ok or health.info
    report(('%s: %s'):format(client.name, client.text))
  end
  if #clients == 0 then
    health.info('no language server runs; open a file and look again')
  end
  for name, decision in pairs(require('demolish.wrap').decisions) do
    local runs = #vim.lsp.get_clients({ name = name, _uninitialized = true }) > 0
    if not runs then
      health.info(('%s: does not run now (%s)'):format(name, decision.reason))
    end
  end
  for _, config in ipairs(vim.lsp.get_configs({ enabled = true })) do
    local cmd = config.cmd
    if type(cmd) == 'table' and vim.fn.executable(cmd[1]) == 0 and config.name ~= require('demolish.server').NAME then
      health.warn(('%s is enabled, but %s was not found'):format(config.name, cmd[1]))
    end
  end
end

function H.suggestions()
  local on = require('demolish.attach').auto
  if on == nil then
    on = require('demolish.config').get().auto
  end
  health.info(on and 'shown while typing' or 'not shown while typing (`:Demolish toggle` changes that)')
  local ok, capability = pcall(require, 'vim.lsp._capability')
  if not ok or type(vim.tbl_get(capability, 'all', 'inline_completion')) ~= 'table' then
    health.warn("this Neovim's inline completion is not the one this plugin knows", {
      'Suggestions are shown as Neovim does it: no verdict mark, no partial acceptance.',
    })
  else
    health.ok("Neovim's inline completion is as expected")
  end
  if vim.fn.maparg('<Plug>(demolish-accept)', 'i') == '' then
    health.error('the <Plug> mappings are missing', { 'Is plugin/demolish.lua loaded?' })
  end
end

---@param cmd string[]
---@param ... string
---@return vim.SystemCompleted
function H.run(cmd, ...)
  local whole = vim.list_extend(vim.deepcopy(cmd), { ... })
  local ok, run = pcall(function()
    return vim.system(whole, { text = true, timeout = ANSWER_MS }):wait()
  end)
  return ok and run or { code = 127, signal = 0, stdout = '', stderr = tostring(run) }
end

return M
