#!/usr/bin/env bash
# undici 7.30.0 (and Node's fetch, which is undici) against a node:http server.
# Guess: requests one after another to a server that keeps connections for two seconds share one, as with node:http's Agent.
# Seen: undici takes two seconds off what the server's `Keep-Alive: timeout=` says. Of 1 or 2 nothing is left: each request
# opens a connection (and a TLS handshake) of its own, without a word. From 3 on they are shared.
. "$(dirname "$0")/lib/setup.sh"
install undici@7.30.0
cat >run.mjs <<'EOF'
import { once } from 'node:events';
import { Agent as HttpAgent, createServer, get } from 'node:http';
import { Agent, request } from 'undici';
import { seen } from './check.mjs';

const connections = async (keepAliveTimeout, ask) => {
  let count = 0;
  const server = createServer((_, response) => response.end('x')).on('connection', () => count++);
  server.keepAliveTimeout = keepAliveTimeout;
  await once(server.listen(0, '127.0.0.1'), 'listening');
  for (let i = 0; i < 10; i++) {
    await ask(`http://127.0.0.1:${server.address().port}/`);
    await new Promise(setImmediate);
  }
  server.closeAllConnections();
  server.close();
  return count;
};
const dispatcher = new Agent();
const byUndici = async (url) => (await request(url, { dispatcher })).body.text();
const agent = new HttpAgent({ keepAlive: true });
const byNode = async (url) => {
  const [response] = await once(get(url, { agent }), 'response');
  await once(response.resume(), 'end');
};
seen('undici, timeout=1', await connections(1_000, byUndici), 10);
seen('undici, timeout=2', await connections(2_000, byUndici), 10);
seen('undici, timeout=5 shares', (await connections(5_000, byUndici)) < 5, true);
seen('node:http, timeout=2 shares', (await connections(2_000, byNode)) < 5, true);
process.exit();
EOF
node run.mjs
