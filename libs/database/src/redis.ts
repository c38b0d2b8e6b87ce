import { type Cache, type ChangeListener, MAX_VALUE_BYTES } from './cache.js';
import { connectCommands, connectListener, parseRedisUrl, REDIS_URL_FORMS } from './redisAddress.js';
import { openChannel } from './redisChannel.js';
import { CHANGES, readChange, VERSION_BYTES, withScripts } from './redisScripts.js';
import { REDIS_TIMEOUTS } from './timeouts.js';

export interface RedisCacheOptions {
  /** As `parseRedisUrl` reads it. */
  url: string;
  /** Told about failures, at most once a second. */
  onError?: (error: Error) => void;
}

class CommandTimeout extends Error {}

/** A cache in Redis. While there is no connection it answers at once, as if empty; tombstones are sent later then. */
export function createRedisCache({ url, onError }: RedisCacheOptions): Cache {
  const { commandMs, pauseMs, buryAgainMs } = REDIS_TIMEOUTS;
  const address = parseRedisUrl(url);
  if (!address) throw new TypeError(`this is no address of a Redis: ${REDIS_URL_FORMS}`);
  const redis = connectCommands(address);
  const commands = withScripts(redis);

  let reportedAt = 0;
  const report = (error: unknown): void => {
    if (Date.now() - reportedAt < 1_000) return;
    reportedAt = Date.now();
    onError?.(error instanceof Error ? error : new Error(String(error)));
  };
  // A Redis that hangs costs one command's timeout a second, not one for every request.
  let pausedUntil = 0;
  const attempt = async <Result>(command: () => Promise<Result>, otherwise: Result, { evenPaused = false } = {}): Promise<Result> => {
    if (redis.status !== 'ready' || (Date.now() < pausedUntil && !evenPaused)) return otherwise;
    try {
      return await inTime(command(), commandMs);
    } catch (error) {
      if (error instanceof CommandTimeout) pausedUntil = Date.now() + pauseMs;
      report(error);
      return otherwise;
    }
  };

  /** Tombstones that Redis has not taken yet, and until when they matter. */
  const unburied = new Map<string, number>();
  let retry: NodeJS.Timeout | undefined;
  let closed = false;
  // Also while nothing else is asked: a logout is to hold everywhere within a second.
  const buryOne = async (key: string): Promise<boolean> => {
    const until = unburied.get(key);
    if (until === undefined) return true;
    const ttlMs = Math.ceil(until - Date.now());
    const done = ttlMs < 1 || (await attempt(() => commands.buryLonger(key, ttlMs).then(() => true), false, { evenPaused: true }));
    if (done && unburied.get(key) === until) unburied.delete(key);
    return done;
  };
  const buryLater = (): void => {
    if (unburied.size > 0 && !closed) retry ??= setTimeout(() => void buryLate(), buryAgainMs).unref();
  };
  const buryLate = async (): Promise<void> => {
    clearTimeout(retry);
    const [first, ...rest] = unburied.keys();
    // One tries whether Redis takes them again.
    if (first !== undefined && (await buryOne(first))) await Promise.all(rest.map(buryOne));
    retry = undefined;
    buryLater();
  };

  const listeners: ChangeListener[] = [];
  const tell: ChangeListener = (key, version) => {
    for (const listener of listeners) listener(key, version);
  };
  const channel = openChannel({
    name: CHANGES,
    connect: () => connectListener(address, redis),
    onMessage(message) {
      const change = readChange(message);
      if (change) tell(change.key, change.version);
    },
    onError: report,
  });

  redis.on('error', report);
  redis.on('ready', () => void buryLate());

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
      for (const key of keys) {
        unburied.set(key, Math.max(until, unburied.get(key) ?? 0));
        // Here it holds at once, whatever Redis does.
        tell(key, null);
      }
      await Promise.all(keys.map(buryOne));
      buryLater();
    },
    async remove(key) {
      await attempt(() => commands.removeEntry(key), 0);
    },
    watch: (listener) => void listeners.push(listener),
    heardSince: channel.heardSince,
    healthy: () => redis.status === 'ready' && channel.heardSince() !== null,
    async close() {
      closed = true;
      clearTimeout(retry);
      channel.close();
      redis.disconnect();
    },
  };
}

function inTime<Result>(work: Promise<Result>, ms: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const overdue = setTimeout(() => reject(new CommandTimeout('Redis does not answer in time')), ms);
    work.then(resolve, reject).finally(() => clearTimeout(overdue));
  });
}
