import { type Cache, type ChangeListener, MAX_VALUE_BYTES } from './cache.js';
import {
  connectCommands,
  connectListener,
  parseRedisUrl,
  REDIS_URL_FORMS,
} from './redisAddress.js';
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

/** A cache in Redis. While there is no connection it answers at once, as if empty, and takes nothing. */
export function createRedisCache({ url, onError }: RedisCacheOptions): Cache {
  const { commandMs, pauseMs } = REDIS_TIMEOUTS;
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
  const attempt = async <Result>(
    command: () => Promise<Result>,
    otherwise: Result,
  ): Promise<Result> => {
    if (redis.status !== 'ready' || Date.now() < pausedUntil) return otherwise;
    try {
      return await inTime(command(), commandMs);
    } catch (error) {
      if (error instanceof CommandTimeout) pausedUntil = Date.now() + pauseMs;
      report(error);
      return otherwise;
    }
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

  return {
    async get(key) {
      // One byte more than any value of ours has, so that a huge one is told by it and not read.
      const most = VERSION_BYTES + MAX_VALUE_BYTES;
      const held = await attempt(() => redis.getrangeBuffer(key, 0, most), null);
      const isOurs = held !== null && held.length >= VERSION_BYTES && held.length <= most;
      return isOurs ? held.subarray(VERSION_BYTES) : null;
    },
    async put(key, { version, value }, ttlMs) {
      if (ttlMs < 1 || value.length > MAX_VALUE_BYTES) return;
      const head = Buffer.alloc(VERSION_BYTES);
      head.writeUInt32BE(version);
      await attempt(
        () => commands.putNewer(key, Buffer.concat([head, value]), Math.floor(ttlMs)),
        0,
      );
    },
    async bury(keys, ttlMs) {
      if (ttlMs <= 0) return;
      // Here it holds at once, whatever Redis does.
      for (const key of keys) tell(key, null);
      await Promise.all(
        keys.map((key) => attempt(() => commands.buryLonger(key, Math.ceil(ttlMs)), 0)),
      );
    },
    async remove(key) {
      await attempt(() => commands.removeEntry(key), 0);
    },
    watch: (listener) => void listeners.push(listener),
    healthy: () => redis.status === 'ready' && channel.isOpen(),
    async close() {
      channel.close();
      redis.disconnect();
    },
  };
}

function inTime<Result>(work: Promise<Result>, ms: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const overdue = setTimeout(
      () => reject(new CommandTimeout('Redis does not answer in time')),
      ms,
    );
    work.then(resolve, reject).finally(() => clearTimeout(overdue));
  });
}
