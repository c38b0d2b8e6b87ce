import { NearCache } from './nearCache.js';

/**
 * Told of a key whose entry has become old: `version` is what it has now, or null when it was buried. A process may be
 * told of what it did itself, too.
 */
export type ChangeListener = (key: string, version: number | null) => void;

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
  /** Tells of what this process buries, and soon of what others bury or put anew; any of that may get lost. */
  watch(listener: ChangeListener): void;
  healthy(): boolean;
  close(): Promise<void>;
}

export const MAX_VALUE_BYTES = 65_536;

/** A cache in this process, for one process (or for tests of several that share it). */
export function createMemoryCache(
  options: { maxEntries?: number; now?: () => number } = {},
): Cache {
  const { maxEntries = 50_000, ...clock } = options;
  const entries = new NearCache<Buffer>({ maxEntries, ...clock });
  const listeners: ChangeListener[] = [];
  return {
    async get(key) {
      return entries.get(key);
    },
    async put(key, { version, value }, ttlMs) {
      if (value.length <= MAX_VALUE_BYTES && entries.put(key, version, value, ttlMs))
        for (const tell of listeners) tell(key, version);
    },
    async bury(keys, ttlMs) {
      for (const key of keys) {
        entries.bury(key, ttlMs);
        for (const tell of listeners) tell(key, null);
      }
    },
    async remove(key) {
      entries.remove(key);
    },
    watch: (listener) => void listeners.push(listener),
    healthy: () => true,
    async close() {
      entries.clear();
    },
  };
}
