import { createHash, randomBytes } from 'node:crypto';
import {
  type RateLimiterAbstract,
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
} from 'rate-limiter-flexible';
import { connectCommands, parseRedisUrl } from './redisAddress.js';
import { REDIS_TIMEOUTS } from './timeouts.js';

/** Counts by key in windows of a minute, shared by all instances; in this process alone while Redis is away. */
export interface RateLimit {
  /** Counts one. Seconds to wait when that is over the limit, else null. */
  take(key: string): Promise<number | null>;
  /** The same answer without counting. */
  look(key: string): Promise<number | null>;
  /** Gives one back. */
  giveBack(key: string): Promise<void>;
}

export interface RateLimits {
  /** At most `points` a minute for each key; 0: no limit. */
  limit(name: string, points: number): RateLimit;
  close(): Promise<void>;
}

// The library's own counts whatever stands there. What has no end within the window or is no number was not
// counted here: it is dropped, so that nothing in Redis holds anybody up for longer than a window. A look
// (0 points) leaves no key.
const COUNT = `
local window = tonumber(ARGV[2]) * 1000
local ttl = redis.call('PTTL', KEYS[1])
local held = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GETRANGE', KEYS[1], 0, 15)
if held and #held < 16 and string.match(held, '^%-?%d+$') and ttl >= 0 and ttl <= window then
  return {redis.call('INCRBY', KEYS[1], ARGV[1]), ttl}
end
redis.call('UNLINK', KEYS[1])
if tonumber(ARGV[1]) <= 0 then return {0, window} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', window)
return {tonumber(ARGV[1]), window}`;

const WINDOW_SECONDS = 60;
const BUCKETS = 65_536;
const NONE: RateLimit = {
  take: async () => null,
  look: async () => null,
  giveBack: async () => undefined,
};

export function openRateLimits(
  redisUrl: string | undefined,
  onError?: (error: Error) => void,
): RateLimits {
  const address = redisUrl === undefined ? null : parseRedisUrl(redisUrl);
  const redis = address && connectCommands(address, { commandTimeout: REDIS_TIMEOUTS.commandMs });
  redis?.on('error', (error: Error) => onError?.(error));
  return {
    limit(name, points) {
      if (points === 0) return NONE;
      const inProcess = new BucketedLimiter({ points, duration: WINDOW_SECONDS, keyPrefix: '' });
      const limiter: RateLimiterAbstract =
        redis === null
          ? inProcess
          : new RateLimiterRedis({
              storeClient: redis,
              keyPrefix: `limit:${name}`,
              points,
              duration: WINDOW_SECONDS,
              rejectIfRedisNotReady: true,
              insuranceLimiter: inProcess,
              // Whoever is over the limit costs Redis nothing more.
              inMemoryBlockOnConsumed: points + 1,
              customIncrTtlLuaScript: COUNT,
            });
      return {
        async take(key) {
          try {
            await limiter.consume(key);
            return null;
          } catch (refusal) {
            if (refusal instanceof RateLimiterRes) return secondsOf(refusal);
            throw refusal;
          }
        },
        async look(key) {
          const counted = await limiter.penalty(key, 0);
          return counted.consumedPoints >= points ? secondsOf(counted) : null;
        },
        async giveBack(key) {
          await limiter.reward(key);
        },
      };
    },
    async close() {
      redis?.disconnect();
    },
  };
}

const secondsOf = ({ msBeforeNext }: RateLimiterRes): number =>
  Math.max(1, Math.ceil(msBeforeNext / 1000));

/**
 * Memory stays bounded however many keys there are: they share so many counters. Which ones share is different in each
 * process and cannot be foreseen, so nobody can use up another's.
 */
class BucketedLimiter extends RateLimiterMemory {
  readonly #salt = randomBytes(16);

  override getKey(key: string | number): string {
    return String(
      createHash('sha256').update(this.#salt).update(String(key)).digest().readUInt32BE() % BUCKETS,
    );
  }
}
