--- A language server inside the Neovim under test: a Lua function as the client's `cmd`. It records what it is told and
--- answers what the test has put into `answers`.

local M = {}

--- What came in, in order: { method, params }.
---@type { method: string, params: any }[]
M.received = {}

--- By method: a result, or a function of the parameters. `{ error = … }` under the key 'error' answers with an error.
---@type table<string, any>
M.answers = {}

--- By method: how long an answer takes.
---@type table<string, integer>
M.delay_ms = {}

--- The client's dispatchers, to send notifications to it.
M.dispatchers = nil

local CAPABILITIES = {
  positionEncoding = 'utf-16',
  textDocumentSync = 1,
  inlineCompletionProvider = true,
  codeActionProvider = true,
  executeCommandProvider = { commands = { 'demolish.fix', 'demolish.status', 'demolish.toggle', 'demolish.log' } },
}

---@param dispatchers vim.lsp.rpc.Dispatchers
---@return vim.lsp.rpc.PublicClient
function M.cmd(dispatchers)
  M.dispatchers = dispatchers
  local closing, last = false, 0
  local pending = {} ---@type table<integer, fun(err?: table, result?: any)>

  local function answer(method, params)
    if method == 'initialize' then
      return { capabilities = CAPABILITIES, serverInfo = { name = 'fake' } }
    end
    local result = M.answers[method]
    if type(result) == 'function' then
      result = result(params, #M.received)
    end
    return result
  end

  return {
    request = function(method, params, callback, on_reply)
      last = last + 1
      local id = last
      M.received[#M.received + 1] = { method = method, params = vim.deepcopy(params) }
      pending[id] = function(err, result)
        pending[id] = nil
        if on_reply then
          on_reply(id)
        end
        callback(err, result)
      end
      vim.defer_fn(function()
        if pending[id] then
          local result = answer(method, params)
          if type(result) == 'table' and result.fail then
            pending[id](result.fail)
          else
            pending[id](nil, result)
          end
        end
      end, M.delay_ms[method] or 0)
      return true, id
    end,
    notify = function(method, params)
      M.received[#M.received + 1] = { method = method, params = vim.deepcopy(params) }
      if method == '$/cancelRequest' and pending[params.id] then
        local call = pending[params.id]
        vim.schedule(function()
          call({ code = -32800, message = 'cancelled' })
        end)
      elseif method == 'exit' then
        closing = true
        vim.schedule(function()
          dispatchers.on_exit(0, 15)
        end)
      end
      return true
    end,
    is_closing = function()
      return closing
    end,
    terminate = function()
      closing = true
      vim.schedule(function()
        dispatchers.on_exit(0, 15)
      end)
    end,
  }
end

--- How often a method came in.
---@param method string
---@return integer
function M.count(method)
  return #vim.tbl_filter(function(message)
    return message.method == method
  end, M.received)
end

--- The parameters of the last message of a method.
---@param method string
---@return any
function M.last(method)
  for i = #M.received, 1, -1 do
    if M.received[i].method == method then
      return M.received[i].params
    end
  end
end

return M
