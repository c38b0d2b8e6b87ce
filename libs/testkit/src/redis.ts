import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Child, freePort, startChild, until } from '@session-gateway/keycloak-server';
import { Redis } from 'ioredis';
import { findProgram } from './findProgram.js';

/** One key of any type; `value` holds all bytes stored under it: the string, or fields and members in order. */
export interface RedisEntry {
  key: Buffer;
  type: string;
  value: Buffer | Buffer[];
  /** Null when the key does not expire. */
  ttlMs: number | null;
}

export interface TestRedis {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Ends it; what it held is lost. */
  stop(): Promise<void>;
  /** Empty, on the same port. */
  start(): Promise<void>;
  kill(): Promise<void>;
  flush(): Promise<void>;
  /** Stops it in its tracks: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Every key of every database. */
  scan(): Promise<RedisEntry[]>;
  /** One command on a connection of its own; texts come back as buffers. */
  command(name: string, ...args: (string | Buffer | number)[]): Promise<unknown>;
  /** `used_memory`. */
  usedMemoryBytes(): Promise<number>;
  dispose(): Promise<void>;
}

const ANSWER_WITHIN_MS = 30_000;

/** Why there is no Redis on this machine; null when there is one. */
export function whyNoRedis(): string | null {
  return findProgram('redis-server')
    ? null
    : 'no redis-server on the PATH (Debian: apt-get install redis-server)';
}

/** A throw-away Redis on a free port that writes nothing to disk; `settings` as in redis.conf. */
export async function startRedis(
  settings: Readonly<Record<string, string>> = {},
): Promise<TestRedis> {
  const program = findProgram('redis-server');
  if (!program) throw new Error(whyNoRedis() ?? 'no redis-server');
  const folder = await mkdtemp(join(tmpdir(), 'session-gateway-redis-'));
  const port = await freePort();
  let child: Child | undefined;
  const running = (): Child => {
    if (!child || child.exit()) throw new Error('this Redis is not running');
    return child;
  };

  async function connected<T>(use: (client: Redis) => Promise<T>): Promise<T> {
    const client = new Redis({
      host: '127.0.0.1',
      port,
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      connectTimeout: 2_000,
      enableReadyCheck: false,
      disableClientInfo: true,
      // What it waits for a connection to close, also for one that was refused.
      disconnectTimeout: 100,
    });
    client.on('error', () => undefined);
    // A frozen server accepts connections and answers none.
    const overdue = setTimeout(() => client.disconnect(), ANSWER_WITHIN_MS);
    try {
      await client.connect();
      return await use(client);
    } finally {
      clearTimeout(overdue);
      client.disconnect();
    }
  }

  async function start(): Promise<void> {
    const args = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      folder,
      ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, ...value.split(' ')]),
    ];
    const started = await startChild(program as string, args, { cwd: folder, tempFolder: folder });
    child = started;
    const state = await until(
      async () => (started.exit() ? 'exited' : connected((client) => client.ping())),
      { what: 'Redis answering' },
    );
    if (state === 'exited') throw new Error(`Redis did not start:\n${started.output()}`);
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (!child || child.exit()) return;
    child.signal('SIGCONT');
    child.signal(signal);
    await child.exited;
  }

  await start().catch(async (error: unknown) => {
    await end('SIGKILL');
    await rm(folder, { recursive: true, force: true });
    throw error;
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return running().pid;
    },
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    flush: () => connected(async (client) => void (await client.flushall())),
    freeze: () => void running().signal('SIGSTOP'),
    thaw: () => void running().signal('SIGCONT'),
    scan: () => connected(scan),
    command: (name, ...args) => connected((client) => client.callBuffer(name, ...args)),
    usedMemoryBytes: () =>
      connected(async (client) =>
        Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]),
      ),
    async dispose() {
      await end('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function scan(client: Redis): Promise<RedisEntry[]> {
  const entries: RedisEntry[] = [];
  for (const [, database] of (await client.info('keyspace')).matchAll(/^db(\d+):/gm)) {
    await client.select(Number(database));
    for (const key of await client.keysBuffer('*')) {
      const type = await client.type(key);
      const value = await read(client, type, key);
      const ttlMs = await client.pttl(key);
      // A key may expire between being listed and being read.
      if (value !== null) entries.push({ key, type, value, ttlMs: ttlMs < 0 ? null : ttlMs });
    }
  }
  return entries;
}

async function read(client: Redis, type: string, key: Buffer): Promise<Buffer | Buffer[] | null> {
  switch (type) {
    case 'none':
      return null;
    case 'string':
      return client.getBuffer(key);
    case 'list':
      return client.lrangeBuffer(key, 0, -1);
    case 'set':
      return client.smembersBuffer(key);
    case 'zset':
      return flat(await client.callBuffer('ZRANGE', key, 0, -1, 'WITHSCORES'));
    case 'hash':
      return flat(await client.callBuffer('HGETALL', key));
    case 'stream':
      return flat(await client.callBuffer('XRANGE', key, '-', '+'));
    default:
      return [Buffer.from(JSON.stringify(await client.call('DUMP', key)))];
  }
}

function flat(reply: unknown): Buffer[] {
  if (Array.isArray(reply)) return reply.flatMap(flat);
  return [Buffer.isBuffer(reply) ? reply : Buffer.from(String(reply))];
}
