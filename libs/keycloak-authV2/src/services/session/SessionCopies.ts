import { type Cache, NearCache } from '@session-gateway/database';
import { HEARD_FOR_MS, type Hearing } from './ChangeFeed.js';
import { sessionCacheKey } from './cookieHash.js';
import type { EntryAuthenticator } from './EntryAuthenticator.js';
import { type CachedSession, packSession, type Session, unpackSession } from './sessionMetadata.js';
import type { Reading } from './sessionRow.js';
import { shownId } from './shownId.js';

/** How long a copy of a session is believed without PostgreSQL confirming it. */
export const CACHE_TRUST_MS = 60_000;
/** How long after the latest reading of the feed copies still serve where PostgreSQL does not answer. */
export const CUT_OFF_MS = 5_000;
const TOMBSTONE_MS = CACHE_TRUST_MS + 30_000;
/** How far the clock of another process may be off. */
const CLOCK_SKEW_MS = 5_000;
const NEAR_SESSIONS = 20_000;

/** A session as this process knows it. */
interface NearCopy {
  readonly session: Session;
  /** When this process began to read it in PostgreSQL, as `performance.now()` tells it; -Infinity: another one did. */
  readonly readAt: number;
}

/**
 * Copies of live sessions, in this process and, packed, in the shared cache. One is believed only while the feed of
 * changes was heard within the last second and without a gap since PostgreSQL confirmed the copy, and for
 * `CACHE_TRUST_MS` at most. A late writer cannot bring back what was forgotten.
 */
export class SessionCopies {
  readonly #cache: Cache;
  readonly #authenticator: EntryAuthenticator;
  readonly #onRefusedEntry: () => void;
  readonly #feed: Hearing;
  readonly #endsAt: (session: Session) => number;
  readonly #now: () => number;
  readonly #near: NearCache<NearCopy>;
  /** How often changes may have gone unheard. */
  #gaps = 0;
  /** A shared copy that was confirmed before is not believed. */
  #sharedSince = -Infinity;

  constructor(options: {
    cache: Cache;
    authenticator: EntryAuthenticator;
    /** Told of each shared entry that none of this keyring's instances wrote for that cookie. */
    onRefusedEntry?: (() => void) | undefined;
    feed: Hearing;
    /** When a session is over if nothing happens, in milliseconds since 1970. */
    endsAt: (session: Session) => number;
    nearSessions?: number | undefined;
    now: () => number;
  }) {
    this.#cache = options.cache;
    this.#authenticator = options.authenticator;
    this.#onRefusedEntry = options.onRefusedEntry ?? (() => undefined);
    this.#feed = options.feed;
    this.#endsAt = options.endsAt;
    this.#now = options.now;
    this.#near = new NearCache({
      maxEntries: options.nearSessions ?? NEAR_SESSIONS,
      onTombstoneLost: () => this.#forgetAll(),
      now: options.now,
    });
    this.#cache.watch((key, version) => this.#forgetOlder(key, version));
    this.#feed.follow({
      changed: (hash, version) => this.#forgetOlder(sessionCacheKey(hash), version),
      gap: () => this.#forgetAll(),
    });
  }

  /** The copy in this process, if it may be believed. */
  recall(key: string): Session | null {
    const copy = this.#near.get(key);
    if (copy === null) return null;
    // A session that this process has just read is as fresh as the feed.
    const isFresh =
      this.#heardWithin(HEARD_FOR_MS) || performance.now() - copy.readAt < HEARD_FOR_MS;
    return isFresh ? copy.session : null;
  }

  /** The shared copy, if it may be believed. One that a tombstone or a newer version here refuses may not. */
  async readShared(key: string): Promise<Session | null> {
    if (!this.#heardWithin(HEARD_FOR_MS)) return null;
    const copy = await this.#readAuthentic(key);
    if (!copy) return null;
    const confirmedAt = copy.confirmedAt.getTime();
    const isCovered = confirmedAt >= this.#sharedSince && confirmedAt - this.#now() < CLOCK_SKEW_MS;
    const { session } = copy;
    return isCovered && this.#hold(key, { session, readAt: -Infinity }, confirmedAt)
      ? session
      : null;
  }

  /** The copy in this process for a caller whom PostgreSQL does not answer, while the feed was heard a moment ago. */
  lastKnown(key: string): Session | null {
    return this.#heardWithin(CUT_OFF_MS) ? (this.#near.get(key)?.session ?? null) : null;
  }

  beginReading(): Reading {
    return { at: performance.now(), confirmedAt: this.#now(), gaps: this.#gaps };
  }

  /** Keeps what a reading has found, here and in the shared cache. */
  async keep(key: string, session: Session, reading: Reading): Promise<void> {
    const { at: readAt, confirmedAt, gaps } = reading;
    if (gaps === this.#gaps) this.#hold(key, { session, readAt }, confirmedAt);
    // The shared cache holds no cookie: for a session from before, which has its cookie as id, no copy is shared.
    if (shownId(session.id) !== session.id) return;
    const packed = packSession({ session, confirmedAt: new Date(confirmedAt) }, key);
    const value = this.#authenticator.protect(key, packed);
    const ttlMs = session.expiresAt.getTime() - this.#now();
    await this.#cache.put(key, { version: session.version, value }, ttlMs);
  }

  /** Here at once, and in the shared cache as soon as it takes it. */
  async forget(keys: readonly string[]): Promise<void> {
    await this.#cache.bury(keys, TOMBSTONE_MS);
  }

  /**
   * The shared copy if an instance with a key of ours wrote it for this key. Another one makes room,
   * whatever version it claims.
   */
  async #readAuthentic(key: string): Promise<CachedSession | null> {
    const stored = await this.#cache.get(key);
    if (!stored) return null;
    const packed = this.#authenticator.verify(key, stored);
    const copy = packed && unpackSession(packed, key);
    if (copy) return copy;
    this.#onRefusedEntry();
    void this.#cache.remove(key);
    return null;
  }

  #heardWithin(ms: number): boolean {
    return performance.now() - this.#feed.heardAt < ms;
  }

  /** Keeps a copy until the session is over or the copy too old. False when it is, or what is known here is newer. */
  #hold(key: string, copy: NearCopy, confirmedAt: number): boolean {
    const believedUntil = Math.min(confirmedAt + CACHE_TRUST_MS, this.#endsAt(copy.session));
    return this.#near.put(key, copy.session.version, copy, believedUntil - this.#now());
  }

  #forgetOlder(key: string, version: number | null): void {
    if (version === null) this.#near.bury(key, TOMBSTONE_MS);
    else this.#near.raise(key, version, CACHE_TRUST_MS);
  }

  #forgetAll(): void {
    this.#gaps++;
    // Another process's clock says when it confirmed a shared copy.
    this.#sharedSince = this.#now() + CLOCK_SKEW_MS;
    this.#near.clear();
  }
}
