import { Redis } from 'ioredis';
import { type Cache, MAX_VALUE_BYTES } from './cache.js';

/** Layout of a value in Redis: version as 4 bytes big-endian, then the value. A tombstone is the empty string. */
const VERSION_BYTES = 4;
const PAUSE_MS = 1_000;
const RETRY_MS = 500;

// Compared as numbers in one step on the server: a late write must see a newer entry or a tombstone.
const PUT = `
local held = redis.call('GET', KEYS[1])
if held then
  if #held == 0 then return 0 end
  if #held >= 4 and struct.unpack('>I4', held) > struct.unpack('>I4', ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

// A tombstone that lasts longer, perhaps another instance's, stays.
const BURY = `
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[1]) and redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1`;

const REMOVE = `
if redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) == 0 then return 0 end
return redis.call('DEL', KEYS[1])`;

interface Scripts {
  putNewer(key: string, value: Buffer, ttlMs: number): Promise<number>;
  buryLonger(key: string, ttlMs: number): Promise<number>;
  removeEntry(key: string): Promise<number>;
}

export interface RedisCacheOptions {
  url: string;
  commandTimeoutMs?: number;
  /** Told about failures, at most once a second. */
  onError?: (error: Error) => void;
}

/** A cache in Redis. While there is no connection it answers at once, as if empty; tombstones are sent later then. */
export function createRedisCache({ url, commandTimeoutMs = 250, onError }: RedisCacheOptions): Cache {
  const redis = new Redis(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout: commandTimeoutMs,
    connectTimeout: 1_000,
    retryStrategy: (times) => Math.min(times * 50, 1_000),
    // After a failover a client may sit on a replica that was the primary.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  });
  redis.defineCommand('putNewer', { numberOfKeys: 1, lua: PUT });
  redis.defineCommand('buryLonger', { numberOfKeys: 1, lua: BURY });
  redis.defineCommand('removeEntry', { numberOfKeys: 1, lua: REMOVE });
  const commands = redis as unknown as Scripts;

  let reportedAt = 0;
  const report = (error: unknown): void => {
    if (Date.now() - reportedAt < 1_000) return;
    reportedAt = Date.now();
    onError?.(error instanceof Error ? error : new Error(String(error)));
  };
  // A Redis that hangs costs one command's timeout a second, not one for every request.
  let pausedUntil = 0;
  const attempt = async <Result>(command: () => Promise<Result>, otherwise: Result): Promise<Result> => {
    if (redis.status !== 'ready' || Date.now() < pausedUntil) return otherwise;
    try {
      return await command();
    } catch (error) {
      if (error instanceof Error && error.message === 'Command timed out') pausedUntil = Date.now() + PAUSE_MS;
      report(error);
      return otherwise;
    }
  };

  /** Tombstones that Redis has not taken yet, and until when they matter. */
  const unburied = new Map<string, number>();
  let retry: NodeJS.Timeout | undefined;
  let closed = false;
  const buryUnburied = async (keys: Iterable<string>): Promise<void> => {
    await Promise.all([...keys].map(async (key) => {
      const until = unburied.get(key);
      if (until === undefined) return;
      const ttlMs = Math.ceil(until - Date.now());
      const done = ttlMs < 1 || (await attempt(() => commands.buryLonger(key, ttlMs).then(() => true), false));
      if (done && unburied.get(key) === until) unburied.delete(key);
    }));
    if (unburied.size > 0 && !closed) retry ??= setTimeout(buryLate, RETRY_MS).unref();
  };
  const buryLate = (): void => {
    clearTimeout(retry);
    retry = undefined;
    void buryUnburied(unburied.keys());
  };

  redis.on('error', report);
  redis.on('ready', buryLate);

  return {
    async get(key) {
      if (unburied.has(key)) return null;
      const held = await attempt(() => redis.getBuffer(key), null);
      return held && held.length >= VERSION_BYTES ? held.subarray(VERSION_BYTES) : null;
    },
    async put(key, { version, value }, ttlMs) {
      if (ttlMs < 1 || value.length > MAX_VALUE_BYTES || unburied.has(key)) return;
      const head = Buffer.alloc(VERSION_BYTES);
      head.writeUInt32BE(version);
      await attempt(() => commands.putNewer(key, Buffer.concat([head, value]), Math.floor(ttlMs)), 0);
    },
    async bury(keys, ttlMs) {
      if (ttlMs <= 0) return;
      const until = Date.now() + ttlMs;
      for (const key of keys) unburied.set(key, Math.max(until, unburied.get(key) ?? 0));
      await buryUnburied(keys);
    },
    async remove(key) {
      await attempt(() => commands.removeEntry(key), 0);
    },
    healthy: () => redis.status === 'ready',
    async close() {
      closed = true;
      clearTimeout(retry);
      redis.disconnect();
    },
  };
}
