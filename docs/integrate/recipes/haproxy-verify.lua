-- The question of haproxy.cfg: one request of HAProxy's own HTTP client for each request of the application.
local VERIFY = 'http://127.0.0.1:3000/auth/verify?login=redirect'
local ASKED = {
  'cookie', 'authorization', 'accept', 'accept-language', 'origin', 'user-agent', 'x-csrf',
  'sec-fetch-site', 'sec-fetch-mode', 'sec-fetch-dest', 'sec-fetch-user', 'sec-websocket-version',
  'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto',
}
-- Of a refusal, what the client has to see.
local TOLD = {
  'location', 'content-type', 'cache-control', 'retry-after', 'www-authenticate', 'vary',
  'content-security-policy', 'x-content-type-options', 'referrer-policy', 'strict-transport-security',
}

local function refuse(txn, status, headers, body)
  local reply = txn:reply({ status = status })
  for _, name in ipairs(TOLD) do
    for _, value in pairs(headers[name] or {}) do reply:add_header(name, value) end
  end
  reply:set_body(body or '')
  txn:done(reply)
end

core.register_action('verify', { 'http-req' }, function(txn)
  local headers = {}
  local sent = txn.http:req_get_headers()
  for _, name in ipairs(ASKED) do
    if sent[name] then
      headers[name] = {}
      for i = 0, #sent[name] do headers[name][i + 1] = sent[name][i] end
    end
  end
  headers['x-forwarded-method'] = { txn.sf:method() }
  headers['x-forwarded-uri'] = { txn.sf:url() }

  local answer = core.httpclient():get({ url = VERIFY, headers = headers, timeout = 5000 })
  local told = answer.headers or {}
  if answer.status == 200 then
    txn:set_var('txn.auth_verified', 'yes')
    for _, name in ipairs({ 'subject', 'session', 'roles', 'acr', 'roles-truncated' }) do
      local value = told['x-auth-' .. name]
      txn:set_var('txn.auth_' .. name:gsub('-', '_'), value and value[0] or '')
    end
    return
  end
  if answer.status == nil or answer.status == 0 then
    refuse(txn, 503, { ['retry-after'] = { '2' }, ['content-type'] = { 'text/plain' } }, 'Sessions cannot be checked just now. Try again.\n')
  else
    refuse(txn, answer.status, told, answer.body)
  end
end, 0)
