import { randomUUID } from 'node:crypto';
import {
  type Cache,
  type Database,
  isStorageUnavailable,
  type Sql,
} from '@session-gateway/database';
import { SharedReads } from '../sharedReads.js';
import type { Hearing } from './ChangeFeed.js';
import { cacheKeyOfCookie, cookieHash, sessionCacheKey, sessionIdOfKey } from './cookieHash.js';
import type { EntryAuthenticator } from './EntryAuthenticator.js';
import { type ListedSession, type ListOptions, listSessions } from './listSessions.js';
import { SessionCopies } from './SessionCopies.js';
import { type Reading, type SessionRow, SESSION_COLUMNS, sessionOfRow } from './sessionRow.js';
import { rowIdOf } from './shownId.js';
import { idleMsSql, isOverSql } from './sessionTimes.js';
import { SessionUses, type Use } from './SessionUses.js';
import { onServerClock } from './serverClock.js';
import type { Profile, Session } from './sessionMetadata.js';

/** How far the row may lag behind a session in use: for most uses, and where the caller is told the time. */
const MAX_SPACING_MS = 30_000;
const TOLD_SPACING_MS = 1_000;
const EXPIRED_REASONS = ['idle_timeout', 'absolute_timeout', 'refresh_expired'];

/** What a login tells about a new session. */
export interface NewSession {
  readonly cookie: string;
  readonly subject: string;
  readonly sid: string | null;
  readonly email: string | null;
  readonly name: string | null;
  readonly preferredUsername: string | null;
  readonly acr?: string | null;
  readonly roles: readonly string[];
  readonly expiresAt: Date;
  /** The provider's own idle time, where that is shorter than the setting. */
  readonly idleTimeoutSeconds?: number | null;
  readonly ipAddress: string | null;
  readonly userAgent: string | null;
  readonly fingerprint: string | null;
}

/** What answered a look-up: a copy in this process, one in the shared cache, or PostgreSQL. */
export type AnsweredBy = 'process' | 'cache' | 'database';

/** A session that is `live`, or `expired` when a timeout has ended it (the row may not say so yet). */
interface Found {
  state: 'live' | 'expired';
  session: Session;
}
interface LookUp {
  answeredBy: AnsweredBy;
  found: Found | null;
}

const SELECT = `SELECT ${SESSION_COLUMNS} FROM user_sessions s JOIN users u ON u.id = s.user_id`;
const NOBODY: Profile = { preferredUsername: null, email: null, name: null };

/**
 * The session store: metadata in PostgreSQL and copies of it (`SessionCopies`). Copies are a convenience: PostgreSQL
 * decides, by its own clock, only a live session is ever answered from a copy, and a refusal is always PostgreSQL's.
 * Where PostgreSQL does not answer, a copy in this process serves for `CUT_OFF_MS` after the feed was last heard.
 */
export class SessionStore {
  readonly #db: Database;
  readonly #idleTimeoutMs: number;
  readonly #now: () => number;
  readonly #copies: SessionCopies;
  readonly #lookUps = new SharedReads<LookUp>();
  readonly #onLookup: (answeredBy: AnsweredBy) => void;
  readonly #uses: SessionUses;

  constructor(options: {
    db: Database;
    cache: Cache;
    authenticator: EntryAuthenticator;
    feed: Hearing;
    idleTimeoutMs: number;
    nearSessions?: number;
    onLookup?: (answeredBy: AnsweredBy) => void;
    /** Told of each shared entry that none of this keyring's instances wrote for that cookie. */
    onRefusedEntry?: () => void;
  }) {
    this.#db = options.db;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#now = options.feed.now;
    this.#onLookup = options.onLookup ?? (() => undefined);
    this.#copies = new SessionCopies({
      cache: options.cache,
      feed: options.feed,
      authenticator: options.authenticator,
      onRefusedEntry: options.onRefusedEntry,
      endsAt: (session) =>
        Math.min(session.expiresAt.getTime(), this.idleExpiresAt(session).getTime()),
      nearSessions: options.nearSessions,
      now: this.#now,
    });
    this.#uses = new SessionUses({
      sql: options.db.sql,
      idleTimeoutMs: options.idleTimeoutMs,
      beginReading: () => this.#copies.beginReading(),
      seen: (row, reading) => this.#fromRow(row, reading),
    });
  }

  /** The live session of a cookie if this process knows it well enough to answer at once; null says nothing. */
  recall(cookie: string): Session | null {
    const session = this.#copies.recall(cacheKeyOfCookie(cookie));
    if (session !== null) this.#onLookup('process');
    return session;
  }

  /** The session of a cookie, null when there is none. Callers that ask for one session at once share the look-ups. */
  async find(cookie: string): Promise<Found | null> {
    const key = cacheKeyOfCookie(cookie);
    const { answeredBy, found } =
      this.#lookNear(key) ?? (await this.#lookUps.read(key, () => this.#lookUp(key, cookie)));
    this.#onLookup(answeredBy);
    return found;
  }

  /** The session as PostgreSQL has it now, and its copies renewed; null when it is not live. */
  async reload(id: string): Promise<Session | null> {
    const reading = this.#copies.beginReading();
    const found = await this.#fromRow(await this.#selectOne('s.id = $2', id), reading);
    return found?.state === 'live' ? found.session : null;
  }

  /**
   * Writes a new session and its user inside the caller's transaction; the caller stores the tokens in the same one.
   */
  async create(sql: Sql, session: NewSession): Promise<string> {
    const id = sessionIdOfKey(cacheKeyOfCookie(session.cookie));
    const [user] = await sql.query<{ id: string }>(
      `INSERT INTO users (id, keycloak_id, email, name, updated_at) VALUES ($1, $2, $3, $4, now())
       ON CONFLICT (keycloak_id) DO UPDATE SET email = EXCLUDED.email, name = EXCLUDED.name, updated_at = now() RETURNING id`,
      [randomUUID(), session.subject, session.email, session.name],
    );
    await sql.query(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, cookie_hash, expires_at, fingerprint, ip_address, user_agent, metadata, updated_at)
       VALUES ($1, $2, $3, $4, ${onServerClock('$5', '$10')}, $6, $7, $8, $9, now())`,
      [
        id,
        user?.id,
        session.sid,
        cookieHash(session.cookie),
        session.expiresAt,
        session.fingerprint,
        session.ipAddress,
        session.userAgent,
        JSON.stringify({
          preferred_username: session.preferredUsername,
          roles: session.roles,
          ...(session.acr ? { acr: session.acr } : {}),
          ...(session.idleTimeoutSeconds ? { idle_timeout: session.idleTimeoutSeconds } : {}),
        }),
        new Date(Date.now()),
      ],
    );
    return id;
  }

  /** Read where this copy of the session does not hold it. */
  async profile(session: Session): Promise<Profile> {
    return session.profile ?? (await this.reload(session.id))?.profile ?? NOBODY;
  }

  /**
   * Notes that the session is in use, which moves its idle timeout. Written at most once in a twentieth of the idle
   * timeout (30 s at most), in batches, and never waited for; a failure costs precision, not the request.
   */
  touch(session: Session): void {
    const spacingMs = Math.min(MAX_SPACING_MS, this.#idleMsOf(session) / 20);
    if (this.#now() - session.lastAccessedAt.getTime() >= spacingMs)
      this.#uses.note(session.id, spacingMs);
  }

  /**
   * Notes a use as `touch` does, but within a second of the one before, and returns the session as it is with that use:
   * never later than what is written. For a caller that is told when the session ends.
   */
  use(session: Session): Session {
    const spacingMs = Math.min(TOLD_SPACING_MS, this.#idleMsOf(session) / 20);
    if (this.#now() - session.lastAccessedAt.getTime() < spacingMs) return this.seen(session);
    return this.#withUse(session, this.#uses.note(session.id, spacingMs));
  }

  /** The session with what was noted of it and is not written yet, for a caller that is told of it without using it. */
  seen(session: Session): Session {
    return this.#withUse(session, this.#uses.waiting(session.id));
  }

  #withUse(session: Session, use: Use | null): Session {
    if (use === null) return session;
    if (use.told?.of !== session) {
      const lastAccessedAt = new Date(this.#now() - (performance.now() - use.firstAt));
      const isLater = lastAccessedAt > session.lastAccessedAt;
      use.told = { of: session, as: isLater ? { ...session, lastAccessedAt } : session };
    }
    return use.told.as;
  }

  /** Writes what is still to be noted: for a shutdown. */
  async settled(): Promise<void> {
    await this.#uses.settled();
  }

  /**
   * Notes the use at once and returns the session with it. Only ever updates a live row: nothing comes back to life.
   */
  async touchNow(session: Session): Promise<Session> {
    const rows = await this.#db.sql.query(
      `UPDATE user_sessions s SET last_accessed_at = now() WHERE s.id = $2 AND s.is_active AND NOT ${isOverSql('$1')}
       AND s.last_accessed_at < now() RETURNING s.id`,
      [this.#idleTimeoutMs, session.id],
    );
    return (rows.length > 0 ? await this.reload(session.id) : null) ?? session;
  }

  /**
   * Makes this process and every other that shares the cache forget ended sessions, and keeps late
   * writes from bringing them back.
   */
  async forget(hashes: readonly Uint8Array[]): Promise<void> {
    await this.#copies.forget(hashes.map(sessionCacheKey));
  }

  /**
   * The live sessions of a subject, or of everyone, newest first; keyset pagination: those behind `after`, whether or
   * not that session still is.
   */
  list(options: ListOptions): Promise<ListedSession[]> {
    return listSessions(this.#db.sql, this.#idleTimeoutMs, options);
  }

  /** One live session of a subject; null when it is over, or somebody else's. */
  async listed({ id, subject }: { id: string; subject: string }): Promise<ListedSession | null> {
    const rowId = (await rowIdOf(this.#db.sql, id)) ?? id;
    const [session] = await this.list({ subject, id: rowId, limit: 1 });
    return session ?? null;
  }

  /** The ids of the live sessions among those of these cookies' hashes, as PostgreSQL has them now. */
  async idsOf(sql: Sql, hashes: readonly Uint8Array[]): Promise<string[]> {
    const rows = await sql.query<{ id: string }>(
      'SELECT id FROM user_sessions WHERE cookie_hash = ANY($1::bytea[]) AND is_active',
      [hashes],
    );
    return rows.map(({ id }) => id);
  }

  /**
   * When each of these sessions ends if nothing happens, as PostgreSQL has it now; those that are over are left out.
   */
  async endsOf(ids: readonly string[]): Promise<Map<string, Date>> {
    const rows = await this.#db.sql.query<{ id: string; ends_at: Date }>(
      `SELECT s.id, least(s.expires_at, s.last_accessed_at + ${idleMsSql('$1')} * interval '1 millisecond') AS ends_at
       FROM user_sessions s WHERE s.id = ANY($2) AND s.is_active AND NOT ${isOverSql('$1')}`,
      [this.#idleTimeoutMs, ids],
    );
    return new Map(rows.map((row) => [row.id, row.ends_at]));
  }

  idleExpiresAt(session: Session): Date {
    return new Date(session.lastAccessedAt.getTime() + this.#idleMsOf(session));
  }

  #idleMsOf({ idleTimeoutSeconds }: Session): number {
    return Math.min(this.#idleTimeoutMs, (idleTimeoutSeconds ?? Infinity) * 1000);
  }

  #lookNear(key: string): LookUp | null {
    const session = this.#copies.recall(key);
    return session && { answeredBy: 'process', found: { state: 'live', session } };
  }

  async #lookUp(key: string, cookie: string): Promise<LookUp> {
    // A look-up that was waited for may have brought it.
    const near = this.#lookNear(key);
    if (near) return near;
    const shared = await this.#copies.readShared(key);
    if (shared) return { answeredBy: 'cache', found: { state: 'live', session: shared } };
    const reading = this.#copies.beginReading();
    try {
      const row = await this.#selectOne('s.cookie_hash = $2', cookieHash(cookie));
      return { answeredBy: 'database', found: await this.#fromRow(row, reading) };
    } catch (error) {
      const session = isStorageUnavailable(error) ? this.#copies.lastKnown(key) : null;
      if (session === null) throw error;
      return { answeredBy: 'process', found: { state: 'live', session } };
    }
  }

  async #selectOne(where: string, value: unknown): Promise<SessionRow | undefined> {
    const [row] = await this.#db.sql.query<SessionRow>(`${SELECT} WHERE ${where}`, [
      this.#idleTimeoutMs,
      value,
    ]);
    return row;
  }

  async #fromRow(row: SessionRow | undefined, reading: Reading): Promise<Found | null> {
    if (!row) return null;
    const session = sessionOfRow(row);
    if (!row.is_active && row.cookie_hash) await this.forget([row.cookie_hash]);
    if (!row.is_active)
      return EXPIRED_REASONS.includes(row.end_reason ?? '') ? { state: 'expired', session } : null;
    if (row.is_over) return { state: 'expired', session };
    if (row.cookie_hash)
      await this.#copies.keep(sessionCacheKey(row.cookie_hash), session, reading);
    return { state: 'live', session };
  }
}
