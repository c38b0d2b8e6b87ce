import { GuardError } from './errors.js';

/**
 * Remembers which DPoP proofs were used (RFC 9449 §11.1). Several processes of one service share
 * one, for example in Redis.
 */
export interface ReplayMemory {
  /**
   * Whether `id` (43 characters, base64url) is met for the first time within `ttlSeconds`; remembers it in the same
   * step. What it throws refuses the request with 503.
   */
  firstUse(id: string, ttlSeconds: number): boolean | Promise<boolean>;
}

/** More live proofs than this, and further ones are refused: about 15 MB. */
const CAPACITY = 100_000;

/**
 * A replay memory of one process. It never forgets a proof that could still be used: when it is full, further requests
 * are refused with 503 `replay_memory_full`, until the oldest proofs have run out.
 */
export function memoryOfProcess(
  options: { capacity?: number; now?: () => number } = {},
): ReplayMemory {
  const { capacity = CAPACITY, now = () => performance.now() } = options;
  const endsAt = new Map<string, number>();
  const forget = (time: number): void => {
    for (const [id, end] of endsAt) {
      if (end > time) return;
      endsAt.delete(id);
    }
  };
  return {
    firstUse(id, ttlSeconds) {
      const time = now();
      forget(time);
      if ((endsAt.get(id) ?? -Infinity) > time) return false;
      if (endsAt.size >= capacity)
        throw new GuardError('replay_memory_full', 'too many requests with DPoP proofs');
      endsAt.delete(id);
      endsAt.set(id, time + ttlSeconds * 1000);
      return true;
    },
  };
}
