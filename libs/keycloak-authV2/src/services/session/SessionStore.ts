import { randomUUID } from 'node:crypto';
import { type Cache, type Database, NearCache, type Sql } from '@session-gateway/database';
import { SharedReads } from '../sharedReads.js';
import { cacheKeyOfCookie, cookieHash, sessionCacheKey, sessionIdOfKey } from './cookieHash.js';
import { cursorOf, type ListPosition } from './listPosition.js';
import { type CachedSession, packSession, type Session, unpackSession } from './sessionMetadata.js';

/** How long a copy of a session is believed without PostgreSQL saying so again: lost news revives nothing for longer. */
export const CACHE_TRUST_MS = 60_000;
const TOMBSTONE_MS = CACHE_TRUST_MS + 30_000;
/** How far another machine's clock may be ahead. */
const CLOCK_SKEW_MS = 5_000;
const NEAR_SESSIONS = 20_000;
/** Uses of sessions are noted together, at most so long after the first. */
const TOUCH_BATCH_MS = 1_000;
const TOUCH_BATCH_SIZE = 1_000;
const EXPIRED_REASONS = ['idle_timeout', 'absolute_timeout'];

/** What a login tells about a new session. */
export interface NewSession {
  readonly cookie: string;
  readonly subject: string;
  readonly sid: string | null;
  readonly email: string | null;
  readonly name: string | null;
  readonly preferredUsername: string | null;
  readonly roles: readonly string[];
  readonly expiresAt: Date;
  readonly ipAddress: string | null;
  readonly userAgent: string | null;
  readonly fingerprint: string | null;
}

/** What the session's owner may see of it beyond what a request is judged by; PostgreSQL only. */
export interface Profile {
  readonly preferredUsername: string | null;
  readonly email: string | null;
  readonly name: string | null;
}

export interface ListedSession {
  readonly id: string;
  readonly subject: string;
  readonly createdAt: Date;
  readonly lastAccessedAt: Date;
  readonly expiresAt: Date;
  readonly ipAddress: string | null;
  readonly userAgent: string | null;
  /** The list goes on behind it. */
  readonly cursor: string;
}

/** What answered a look-up: a copy in this process, one in the shared cache, or PostgreSQL. */
export type AnsweredBy = 'process' | 'cache' | 'database';

/** A session that is `live`, or `expired` when a timeout has ended it (the row may not say so yet). */
interface Found { state: 'live' | 'expired'; session: Session }
interface LookUp { answeredBy: AnsweredBy; found: Found | null }

interface SessionRow {
  id: string; subject: string; sid: string | null; created_at: Date; last_accessed_at: Date; expires_at: Date;
  token_expires_at: Date | null; fingerprint: string | null; version: number; is_active: boolean; end_reason: string | null;
  cookie_hash: Buffer | null; token_lifetime: number | null; roles: string[] | null;
}

interface ListedRow {
  id: string; subject: string; created_at: Date; last_accessed_at: Date; expires_at: Date; ip_address: string | null; user_agent: string | null; created_at_micros: string;
}

// Never a token column: this store knows metadata only.
const SELECT = `SELECT s.id, u.keycloak_id AS subject, s.keycloak_session_id AS sid, s.created_at, s.last_accessed_at, s.expires_at,
  s.token_expires_at, s.fingerprint, s.version, s.is_active, s.end_reason, s.cookie_hash,
  s.metadata->'token_lifetime' AS token_lifetime, s.metadata->'roles' AS roles FROM user_sessions s JOIN users u ON u.id = s.user_id`;

/**
 * The book of sessions: metadata in PostgreSQL, copies in this process and, packed, in the shared cache. Copies are a
 * convenience: PostgreSQL decides, only a live session is ever answered from a copy, and a refusal is always
 * PostgreSQL's. A copy is believed for as long as news of changes is heard without a gap since PostgreSQL confirmed it,
 * and never for more than `CACHE_TRUST_MS`.
 */
export class SessionStore {
  readonly #db: Database;
  readonly #cache: Cache;
  readonly #idleTimeoutMs: number;
  readonly #touchGranularityMs: number;
  readonly #now: () => number;
  readonly #near: NearCache<CachedSession>;
  readonly #lookUps = new SharedReads<LookUp>();
  readonly #onLookup: (answeredBy: AnsweredBy) => void;
  /** Sessions in use since the last batch. */
  readonly #touched = new Set<string>();
  #batch: Promise<void> = Promise.resolve();
  #batchTimer: NodeJS.Timeout | undefined;

  constructor(options: { db: Database; cache: Cache; idleTimeoutMs: number; nearSessions?: number; onLookup?: (answeredBy: AnsweredBy) => void; now?: () => number }) {
    this.#db = options.db;
    this.#cache = options.cache;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#touchGranularityMs = Math.min(30_000, options.idleTimeoutMs / 20);
    this.#now = options.now ?? Date.now;
    this.#onLookup = options.onLookup ?? (() => undefined);
    this.#near = new NearCache({ maxEntries: options.nearSessions ?? NEAR_SESSIONS, now: this.#now });
    this.#cache.watch((key, version) => {
      if (version === null) this.#near.bury(key, TOMBSTONE_MS);
      else this.#near.raise(key, version, CACHE_TRUST_MS);
    });
  }

  /** The live session of a cookie if this process knows it well enough to answer at once; null says nothing. */
  recall(cookie: string): Session | null {
    const session = this.#recall(cacheKeyOfCookie(cookie));
    if (session !== null) this.#onLookup('process');
    return session;
  }

  /** The session of a cookie, null when there is none. A crowd that asks for one session shares the look-ups. */
  async find(cookie: string): Promise<Found | null> {
    const key = cacheKeyOfCookie(cookie);
    const { answeredBy, found } = this.#lookNear(key) ?? await this.#lookUps.read(key, () => this.#lookUp(key, cookie));
    this.#onLookup(answeredBy);
    return found;
  }

  /** The session as PostgreSQL has it now, and its copies renewed; null when it is not live. */
  async reload(id: string): Promise<Session | null> {
    const readAt = this.#now();
    const found = await this.#fromRow(await this.#selectOne('s.id = $1', id), readAt);
    return found?.state === 'live' ? found.session : null;
  }

  /** Writes a new session and its user inside the caller's transaction; the caller stores the tokens in the same one. */
  async create(sql: Sql, session: NewSession): Promise<string> {
    const id = sessionIdOfKey(cacheKeyOfCookie(session.cookie));
    const [user] = await sql.query<{ id: string }>(
      `INSERT INTO users (id, keycloak_id, email, name, updated_at) VALUES ($1, $2, $3, $4, now())
       ON CONFLICT (keycloak_id) DO UPDATE SET email = EXCLUDED.email, name = EXCLUDED.name, updated_at = now() RETURNING id`,
      [randomUUID(), session.subject, session.email, session.name],
    );
    await sql.query(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, cookie_hash, expires_at, fingerprint, ip_address, user_agent, metadata, updated_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now())`,
      [id, user?.id, session.sid, cookieHash(session.cookie), session.expiresAt, session.fingerprint, session.ipAddress, session.userAgent,
        JSON.stringify({ preferred_username: session.preferredUsername, roles: session.roles })],
    );
    return id;
  }

  async profile(session: Session): Promise<Profile> {
    const [row] = await this.#db.sql.query<{ preferred_username: string | null; email: string | null; name: string | null }>(
      `SELECT s.metadata->>'preferred_username' AS preferred_username, u.email, u.name FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1`,
      [session.id],
    );
    return { preferredUsername: row?.preferred_username ?? null, email: row?.email ?? null, name: row?.name ?? null };
  }

  /**
   * Notes that the session is in use, which moves its idle timeout. Written at most once in a twentieth of the idle
   * timeout (30 s at most), in batches, and never waited for; a failure costs precision, not the request.
   */
  touch(session: Session): void {
    if (this.#now() - session.lastAccessedAt.getTime() < this.#touchGranularityMs) return;
    this.#touched.add(session.id);
    this.#batchTimer ??= setTimeout(() => {
      this.#batch = this.#noteTouched().catch(() => undefined).finally(() => { this.#batchTimer = undefined; });
    }, Math.min(TOUCH_BATCH_MS, this.#touchGranularityMs)).unref();
  }

  /** Writes what is still to be noted: for a shutdown. */
  async settled(): Promise<void> {
    clearTimeout(this.#batchTimer);
    await this.#batch;
    await this.#noteTouched();
  }

  /** Notes the use at once and returns the session with it. Only ever updates a live row: nothing comes back to life. */
  async touchNow(session: Session): Promise<Session> {
    const rows = await this.#db.sql.query(
      'UPDATE user_sessions SET last_accessed_at = $2 WHERE id = $1 AND is_active AND last_accessed_at < $2 RETURNING id', [session.id, new Date(this.#now())]);
    return (rows.length > 0 ? await this.reload(session.id) : null) ?? session;
  }

  /** Makes this process and every other that shares the cache forget ended sessions, and keeps late writes from bringing them back. */
  async forget(hashes: readonly Uint8Array[]): Promise<void> {
    await this.#cache.bury(hashes.map(sessionCacheKey), TOMBSTONE_MS);
  }

  /** The live sessions of a subject, or of everyone, newest first; keyset pagination: those behind `after`, whether or not that session still is. */
  async list(options: { subject?: string | undefined; limit: number; after?: ListPosition | undefined }): Promise<ListedSession[]> {
    const { subject, limit, after } = options;
    const values: unknown[] = [new Date(this.#now()), new Date(this.#now() - this.#idleTimeoutMs), limit];
    const parameter = (value: unknown): string => `$${values.push(value)}`;
    // Only what is asked for is in the statement, so that PostgreSQL plans it for the index.
    const which = [
      's.is_active AND s.expires_at > $1 AND s.last_accessed_at > $2',
      ...(subject === undefined ? [] : [`u.keycloak_id = ${parameter(subject)}`]),
      ...(after === undefined ? [] : [`(s.created_at, s.id) < (timestamptz 'epoch' + ${parameter(after.createdAtMicros)}::bigint * interval '1 microsecond', ${parameter(after.id)}::text)`]),
    ];
    const rows = await this.#db.sql.query<ListedRow>(
      `SELECT s.id, u.keycloak_id AS subject, s.created_at, s.last_accessed_at, s.expires_at, s.ip_address, s.user_agent,
         (extract(epoch FROM s.created_at) * 1000000)::bigint::text AS created_at_micros
       FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE ${which.join(' AND ')} ORDER BY s.created_at DESC, s.id DESC LIMIT $3`, values);
    return rows.map((row) => ({
      id: row.id, subject: row.subject, createdAt: row.created_at, lastAccessedAt: row.last_accessed_at, expiresAt: row.expires_at,
      ipAddress: row.ip_address, userAgent: row.user_agent, cursor: cursorOf({ createdAtMicros: row.created_at_micros, id: row.id }),
    }));
  }

  /** The ids of the live sessions among those of these cookies' hashes, as PostgreSQL has them now. */
  async idsOf(sql: Sql, hashes: readonly Uint8Array[]): Promise<string[]> {
    const rows = await sql.query<{ id: string }>('SELECT id FROM user_sessions WHERE cookie_hash = ANY($1::bytea[]) AND is_active', [hashes]);
    return rows.map(({ id }) => id);
  }

  /** When each of these sessions ends if nothing happens, as PostgreSQL has it now; those that are over are left out. */
  async endsOf(ids: readonly string[]): Promise<Map<string, Date>> {
    const rows = await this.#db.sql.query<{ id: string; ends_at: Date }>(
      `SELECT id, least(expires_at, last_accessed_at + $2 * interval '1 millisecond') AS ends_at FROM user_sessions WHERE id = ANY($1) AND is_active`,
      [ids, this.#idleTimeoutMs]);
    return new Map(rows.map((row) => [row.id, row.ends_at]));
  }

  idleExpiresAt(session: Session): Date {
    return new Date(session.lastAccessedAt.getTime() + this.#idleTimeoutMs);
  }

  /** Whether a timeout has passed, and which. */
  isOver(session: Session): 'idle_timeout' | 'absolute_timeout' | null {
    const now = this.#now();
    if (now >= session.expiresAt.getTime()) return 'absolute_timeout';
    return now >= session.lastAccessedAt.getTime() + this.#idleTimeoutMs ? 'idle_timeout' : null;
  }

  #lookNear(key: string): LookUp | null {
    const near = this.#recall(key);
    return near && { answeredBy: 'process', found: { state: 'live', session: near } };
  }

  async #lookUp(key: string, cookie: string): Promise<LookUp> {
    // Whoever was waited for may have brought it.
    const near = this.#lookNear(key);
    if (near) return near;
    // A shared copy would not be believed without the news either.
    const packed = this.#cache.heardSince() === null ? null : await this.#cache.get(key);
    const cached = packed && unpackSession(packed, key);
    if (cached && this.#isBelieved(cached)) {
      this.#near.put(key, cached.session.version, cached, CACHE_TRUST_MS);
      return { answeredBy: 'cache', found: { state: 'live', session: cached.session } };
    }
    const readAt = this.#now();
    return { answeredBy: 'database', found: await this.#fromRow(await this.#selectOne('s.cookie_hash = $1', cookieHash(cookie)), readAt) };
  }

  #recall(key: string): Session | null {
    const near = this.#near.get(key);
    return near && this.#isBelieved(near) ? near.session : null;
  }

  #isBelieved({ session, confirmedAt }: CachedSession): boolean {
    const [since, at] = [this.#cache.heardSince(), confirmedAt.getTime()];
    const ageMs = this.#now() - at;
    return since !== null && at >= since && ageMs < CACHE_TRUST_MS && ageMs > -CLOCK_SKEW_MS && this.isOver(session) === null;
  }

  /** One statement to write, one to read what is so now. Rows that somebody is writing are left for the next batch: nobody waits for a note. */
  async #noteTouched(): Promise<void> {
    while (this.#touched.size > 0) {
      const ids = [...this.#touched].slice(0, TOUCH_BATCH_SIZE);
      const now = this.#now();
      try {
        await this.#db.sql.query(
          `UPDATE user_sessions SET last_accessed_at = $2 WHERE id IN (
             SELECT id FROM user_sessions WHERE id = ANY($1::text[]) AND is_active AND last_accessed_at <= $3 FOR NO KEY UPDATE SKIP LOCKED)`,
          [ids, new Date(now), new Date(now - this.#touchGranularityMs)],
        );
        const readAt = this.#now();
        const rows = await this.#db.sql.query<SessionRow>(`${SELECT} WHERE s.id = ANY($1::text[])`, [ids]);
        await Promise.all(rows.map((row) => this.#fromRow(row, readAt)));
      } finally {
        for (const id of ids) this.#touched.delete(id);
      }
    }
  }

  async #selectOne(where: string, value: unknown): Promise<SessionRow | undefined> {
    const [row] = await this.#db.sql.query<SessionRow>(`${SELECT} WHERE ${where}`, [value]);
    return row;
  }

  /** `readAt`: a moment before the row was read. */
  async #fromRow(row: SessionRow | undefined, readAt: number): Promise<Found | null> {
    if (!row) return null;
    const session: Session = {
      id: row.id, subject: row.subject, sid: row.sid, createdAt: row.created_at, lastAccessedAt: row.last_accessed_at,
      expiresAt: row.expires_at, tokenExpiresAt: row.token_expires_at, fingerprint: row.fingerprint, version: row.version,
      tokenLifetimeSeconds: typeof row.token_lifetime === 'number' ? row.token_lifetime : null,
      roles: Array.isArray(row.roles) ? row.roles.filter((role) => typeof role === 'string') : [],
    };
    if (!row.is_active && row.cookie_hash) await this.forget([row.cookie_hash]);
    if (!row.is_active) return EXPIRED_REASONS.includes(row.end_reason ?? '') ? { state: 'expired', session } : null;
    if (this.isOver(session)) return { state: 'expired', session };
    if (row.cookie_hash) {
      const [key, copy] = [sessionCacheKey(row.cookie_hash), { session, confirmedAt: new Date(readAt) }];
      this.#near.put(key, session.version, copy, CACHE_TRUST_MS);
      await this.#cache.put(key, { version: session.version, value: packSession(copy, key) }, session.expiresAt.getTime() - this.#now());
    }
    return { state: 'live', session };
  }
}
