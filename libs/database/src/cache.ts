/**
 * Where packed metadata is kept for speed. Nothing here is ever needed: a failure reads as absence, and writes may get
 * lost. An entry never replaces one of a higher version, and never a tombstone.
 */
export interface Cache {
  /** The value, or null: absent, expired, buried, or the cache does not answer. */
  get(key: string): Promise<Buffer | null>;
  put(key: string, entry: { version: number; value: Buffer }, ttlMs: number): Promise<void>;
  /** Puts tombstones in the place of entries: until `ttlMs` has passed, nothing can be put there. */
  bury(keys: readonly string[], ttlMs: number): Promise<void>;
  /** Removes an entry; a tombstone stays. */
  remove(key: string): Promise<void>;
  healthy(): boolean;
  close(): Promise<void>;
}

export const MAX_VALUE_BYTES = 65_536;

interface Held { version: number; value: Buffer | null; expiresAt: number }

/** A cache in this process: least recently used entries give way, and nothing needs a timer. */
export function createMemoryCache(options: { maxEntries?: number; now?: () => number } = {}): Cache {
  const { maxEntries = 50_000, now = Date.now } = options;
  const entries = new Map<string, Held>();
  const live = (key: string): Held | null => {
    const held = entries.get(key);
    if (!held) return null;
    if (held.expiresAt > now()) return held;
    entries.delete(key);
    return null;
  };
  const hold = (key: string, held: Held): void => {
    entries.delete(key);
    entries.set(key, held);
    if (entries.size <= maxEntries) return;
    const [oldest] = entries.keys();
    if (oldest !== undefined) entries.delete(oldest);
  };
  return {
    async get(key) {
      const held = live(key);
      if (!held?.value) return null;
      hold(key, held);
      return held.value;
    },
    async put(key, { version, value }, ttlMs) {
      if (ttlMs <= 0 || value.length > MAX_VALUE_BYTES) return;
      const held = live(key);
      if (held && (held.value === null || held.version > version)) return;
      hold(key, { version, value, expiresAt: now() + ttlMs });
    },
    async bury(keys, ttlMs) {
      if (ttlMs <= 0) return;
      for (const key of keys) {
        const held = live(key);
        hold(key, { version: 0, value: null, expiresAt: Math.max(now() + ttlMs, held?.value === null ? held.expiresAt : 0) });
      }
    },
    async remove(key) {
      if (live(key)?.value) entries.delete(key);
    },
    healthy: () => true,
    async close() {
      entries.clear();
    },
  };
}
