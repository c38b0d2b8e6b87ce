#!/usr/bin/env bash
# ioredis 6.0.0 with default options, Redis 7 (Debian 12 has 7.0).
# Guess: `redis.call(NAME, …)`, which libraries use for any command, answers as the method of that name does.
# Seen: ioredis 6 speaks RESP3. The methods translate its answers back into those of RESP2, call() does not where they
# are nested: members with scores are pairs there, and one flat list from the method.
. "$(dirname "$0")/lib/setup.sh"
need redis-server apt-get install redis-server
install ioredis@6.0.0
cat >run.mjs <<'EOF'
import { spawn } from 'node:child_process';
import { Redis } from 'ioredis';
import { seen, until } from './check.mjs';
import { freePort } from './ports.mjs';

const port = await freePort();
const server = spawn('redis-server', ['--port', port, '--save', ''], { stdio: 'ignore' });
process.on('exit', () => server.kill());
const redis = new Redis(port, '127.0.0.1');
redis.on('error', () => {});
await until('Redis', () => redis.ping().catch(() => null));
await redis.zadd('z', 1, 'a', 2, 'b');
await redis.hset('h', 'a', 1);
seen('zrange()', await redis.zrange('z', 0, -1, 'WITHSCORES'), ['a', '1', 'b', '2']);
seen("call('ZRANGE')", await redis.call('ZRANGE', 'z', 0, -1, 'WITHSCORES'), [
  ['a', '1'],
  ['b', '2'],
]);
seen('hgetall()', await redis.hgetall('h'), { a: '1' });
seen("call('HGETALL')", await redis.call('HGETALL', 'h'), ['a', '1']);
process.exit();
EOF
node run.mjs
