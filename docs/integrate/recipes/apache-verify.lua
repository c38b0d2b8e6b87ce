-- The question of apache.conf: one request for each request of the application.
local http = require 'socket.http'
local ltn12 = require 'ltn12'
local GATEWAY = 'http://127.0.0.1:3000/auth/verify'
local ASKED = {
  'Cookie', 'Authorization', 'Accept', 'Origin', 'X-CSRF', 'Sec-Fetch-Site', 'Sec-Fetch-Mode',
  'Sec-Fetch-Dest', 'Sec-WebSocket-Version',
}
http.TIMEOUT = 5

function verify(r)
  -- The path as ProxyPass reads it, decoded and without dot segments: another reading would be a way past the question.
  local path = r.uri
  if path:match('^/auth$') or path:match('^/auth/') or path:match('^/account$') or path:match('^/account/') then
    return apache2.DECLINED
  end
  -- What a client sends under these names goes no further, however it is spelled.
  for name in pairs(r:headers_in_table()) do
    if name:lower():match('^x[-_]auth[-_]') then r.headers_in[name] = nil end
  end
  local asked = {
    ['X-Forwarded-For'] = r.useragent_ip,
    ['X-Forwarded-Method'] = r.method,
    ['X-Forwarded-Uri'] = r.unparsed_uri,
  }
  for _, name in ipairs(ASKED) do asked[name] = r.headers_in[name] end
  -- They go along when the gateway is asked once more, about the way to the login.
  r.headers_in['X-Forwarded-Method'] = r.method
  r.headers_in['X-Forwarded-Uri'] = r.unparsed_uri

  local done, status, told = http.request { url = GATEWAY, headers = asked, sink = ltn12.sink.null(), redirect = false }
  if not done or (status ~= 200 and status ~= 400 and status ~= 401 and status ~= 403) then return 503 end
  if status ~= 200 then return status end
  for _, name in ipairs { 'Subject', 'Session', 'Roles', 'Acr', 'Roles-Truncated' } do
    r.headers_in['X-Auth-' .. name] = told['x-auth-' .. name:lower()]
  end
  -- The gateway's cookie is not for the application. With https it is __Host-session, and `session` is the application's
  -- own; with http it is `session`. Write the name of SESSION_COOKIE_NAME here where that is set.
  local cookies, own, kept = r.headers_in['Cookie'] or '', 'session', {}
  if (';' .. cookies):match(';%s*__Host%-session%s*=') then own = '__Host-session' end
  for cookie in cookies:gmatch('[^;]+') do
    if cookie:match('^%s*(.-)%s*=') ~= own then kept[#kept + 1] = cookie:match('^%s*(.*)$') end
  end
  r.headers_in['Cookie'] = #kept > 0 and table.concat(kept, '; ') or nil
  return apache2.OK
end
