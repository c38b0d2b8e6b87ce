import { keepNewest } from './keepNewest.js';

interface Held<Value> { readonly version: number; readonly value: Value | null; readonly expiresAt: number }

/** The version of a tombstone: nothing is newer. */
const BURIED = Infinity;

/**
 * Values in this process, looked up without waiting. An entry never replaces one of a higher version, and nothing
 * replaces a tombstone before its time. What was used least gives way when it is full; nothing needs a timer.
 */
export class NearCache<Value> {
  readonly #entries = new Map<string, Held<Value>>();
  readonly #maxEntries: number;
  readonly #now: () => number;

  constructor(options: { maxEntries: number; now?: () => number }) {
    this.#maxEntries = options.maxEntries;
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
    const held = this.#live(key);
    if (ttlMs <= 0 || (held && held.version > version)) return false;
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
    const held = this.#live(key);
    this.#hold(key, { version: BURIED, value: null, expiresAt: Math.max(this.#now() + ttlMs, held?.version === BURIED ? held.expiresAt : 0) });
  }

  /** Removes an entry; a tombstone stays. */
  remove(key: string): void {
    if (this.#live(key)?.version !== BURIED) this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
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
