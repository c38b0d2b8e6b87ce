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

interface WithPut { putNewer(key: string, value: Buffer, ttlMs: number): Promise<number> }

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
  const commands = redis as unknown as WithPut;

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
  const burySome = async (keys: readonly string[], ttlMs: number): Promise<void> => {
    const until = Date.now() + ttlMs;
    if (unburied.size > 10_000) for (const [key, end] of unburied) if (end <= Date.now()) unburied.delete(key);
    for (const key of keys) unburied.set(key, until);
    const done = await attempt(async () => {
      const pipeline = redis.pipeline();
      for (const key of keys) pipeline.set(key, '', 'PX', ttlMs);
      const results = await pipeline.exec();
      return results !== null && results.every(([error]) => error === null);
    }, false);
    if (done) for (const key of keys) if (unburied.get(key) === until) unburied.delete(key);
    if (!done) retry ??= setTimeout(buryLate, RETRY_MS).unref();
  };
  let retry: NodeJS.Timeout | undefined;
  const buryLate = (): void => {
    clearTimeout(retry);
    retry = undefined;
    for (const [key, until] of unburied) {
      if (until <= Date.now()) unburied.delete(key);
      else void burySome([key], until - Date.now());
    }
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
      if (keys.length > 0) await burySome(keys, ttlMs);
    },
    async remove(key) {
      await attempt(() => redis.del(key), 0);
    },
    healthy: () => redis.status === 'ready',
    async close() {
      clearTimeout(retry);
      redis.disconnect();
    },
  };
}
