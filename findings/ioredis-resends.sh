#!/usr/bin/env bash
# ioredis 6.0.0 with default options, Redis 7 (Debian 12 has 7.0).
# Guess: a command that was written, but whose answer a broken connection took away, rejects: nobody knows whether it ran.
# Seen: it is sent again on the next connection (autoResendUnfulfilledCommands). One INCR counts twice, and resolves with 2.
. "$(dirname "$0")/lib/setup.sh"
need redis-server apt-get install redis-server
install ioredis@6.0.0
cat >run.mjs <<'EOF'
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { Redis } from 'ioredis';
import { seen, until } from './check.mjs';
import { freePort } from './ports.mjs';

const port = await freePort();
const server = spawn('redis-server', ['--port', port, '--save', ''], { stdio: 'ignore' });
process.on('exit', () => server.kill());

/** Passes everything on, but breaks the connection once, after an INCR has gone to the server and before its answer. */
let breaks = true;
const between = createServer((client) => {
  const upstream = connect(port, '127.0.0.1');
  const end = () => [client, upstream].forEach((socket) => socket.destroy());
  for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
  upstream.on('data', (data) => client.write(data));
  client.on('data', (data) => {
    const incr = breaks && /incr/i.test(data);
    if (incr) upstream.removeAllListeners('data').once('data', end);
    if (incr) breaks = false;
    upstream.write(data);
  });
});
await once(between.listen(0, '127.0.0.1'), 'listening');

const redis = new Redis(between.address().port, '127.0.0.1');
redis.on('error', () => {});
await until('Redis', () => redis.ping().catch(() => null));
const answer = await redis.incr('n').catch(({ message }) => message);
seen('INCR', { answer, stored: await redis.get('n') }, { answer: 2, stored: '2' });
process.exit();
EOF
node run.mjs
