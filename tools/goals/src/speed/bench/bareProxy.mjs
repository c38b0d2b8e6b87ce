// The least that a proxy on node:http and undici does: hop-by-hop fields off, one token on, streams joined.
import { createServer } from 'node:http';
import { pipeline } from 'node:stream';
import process from 'node:process';
import { Agent } from 'undici';

const { BARE_UPSTREAM, BARE_TOKEN } = process.env;
const agent = new Agent();
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'host']);
const server = createServer(async (request, response) => {
  const headers = { authorization: `Bearer ${BARE_TOKEN}` };
  for (const [name, value] of Object.entries(request.headers))
    if (!HOP_BY_HOP.has(name) && name !== 'cookie') headers[name] = value;
  const {
    statusCode,
    headers: answered,
    body,
  } = await agent.request({
    origin: BARE_UPSTREAM,
    path: request.url,
    method: request.method,
    headers,
    body: null,
  });
  for (const [name, value] of Object.entries(answered))
    if (!HOP_BY_HOP.has(name)) response.setHeader(name, value);
  response.writeHead(statusCode);
  pipeline(body, response, () => undefined);
});
server.listen(0, '127.0.0.1', () => process.send?.(server.address().port));
