import { keepNewest } from './keepNewest.js';

interface Held<Value> {
  readonly version: number;
  readonly value: Value | null;
  readonly expiresAt: number;
}

const MAX_TOMBSTONES = 50_000;

/**
 * Values in this process, looked up without waiting. An entry never replaces one of a higher version, and nothing
 * replaces a tombstone before its time. What was used least gives way when it is full; nothing needs a timer.
 */
export class NearCache<Value> {
  readonly #entries = new Map<string, Held<Value>>();
  /** When each ends, in the order in which they were put. */
  readonly #tombstones = new Map<string, number>();
  readonly #maxEntries: number;
  readonly #maxTombstones: number;
  readonly #onTombstoneLost: () => void;
  readonly #now: () => number;

  constructor(options: {
    maxEntries: number;
    maxTombstones?: number;
    /** Called when a tombstone had to go before its time, because there are too many. */
    onTombstoneLost?: () => void;
    now?: () => number;
  }) {
    this.#maxEntries = options.maxEntries;
    this.#maxTombstones = options.maxTombstones ?? MAX_TOMBSTONES;
    this.#onTombstoneLost = options.onTombstoneLost ?? (() => undefined);
    this.#now = options.now ?? Date.now;
  }

  get(key: string): Value | null {
    const held = this.#live(key);
    if (!held || held.value === null) return null;
    // Order matters only when something may soon have to give way.
    if (this.#entries.size * 2 > this.#maxEntries) this.#hold(key, held);
    return held.value;
  }

  /** False when what is held is newer, or buried. */
  put(key: string, version: number, value: Value, ttlMs: number): boolean {
    if (ttlMs <= 0 || this.#isBuried(key)) return false;
    const held = this.#live(key);
    if (held && held.version > version) return false;
    this.#hold(key, { version, value, expiresAt: this.#now() + ttlMs });
    return true;
  }

  /** Drops what is older than `version`, and takes nothing older for as long as `ttlMs`. */
  raise(key: string, version: number, ttlMs: number): void {
    const held = this.#live(key);
    if (ttlMs <= 0 || (held && held.version >= version)) return;
    this.#hold(key, { version, value: null, expiresAt: this.#now() + ttlMs });
  }

  /** Puts a tombstone; one that lasts longer stays. */
  bury(key: string, ttlMs: number): void {
    if (ttlMs <= 0) return;
    this.#entries.delete(key);
    const now = this.#now();
    const until = Math.max(now + ttlMs, this.#tombstones.get(key) ?? 0);
    this.#tombstones.delete(key);
    this.#tombstones.set(key, until);
    // Most last equally long, so those whose time is over are the first.
    for (const [oldest, endsAt] of this.#tombstones) {
      const over = endsAt <= now;
      if (!over && this.#tombstones.size <= this.#maxTombstones) return;
      this.#tombstones.delete(oldest);
      if (!over) this.#onTombstoneLost();
    }
  }

  /** Removes an entry; a tombstone stays. */
  remove(key: string): void {
    this.#entries.delete(key);
  }

  /** Forgets every entry; tombstones stay. */
  clear(): void {
    this.#entries.clear();
  }

  #isBuried(key: string): boolean {
    const until = this.#tombstones.get(key);
    return until !== undefined && until > this.#now();
  }

  #live(key: string): Held<Value> | null {
    const held = this.#entries.get(key);
    if (!held) return null;
    if (held.expiresAt > this.#now()) return held;
    this.#entries.delete(key);
    return null;
  }

  #hold(key: string, held: Held<Value>): void {
    keepNewest(this.#entries, key, held, this.#maxEntries);
  }
}
