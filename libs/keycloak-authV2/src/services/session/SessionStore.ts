import { randomUUID } from 'node:crypto';
import type { Cache, Database, Sql } from '@session-gateway/database';
import { cookieHash, sessionCacheKey } from './cookieHash.js';
import { packSession, type Session, unpackSession } from './sessionMetadata.js';

/** How long a cached session is believed without PostgreSQL saying so again: a lost invalidation revives nothing for longer. */
export const CACHE_TRUST_MS = 60_000;
const TOMBSTONE_MS = CACHE_TRUST_MS + 30_000;
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
}

interface SessionRow {
  id: string; user_id: string; subject: string; sid: string | null; created_at: Date; last_accessed_at: Date; expires_at: Date;
  token_expires_at: Date | null; fingerprint: string | null; version: number; is_active: boolean; end_reason: string | null;
  cookie_hash: Buffer | null; token_lifetime: number | null; roles: string[] | null;
}

// Never a token column: this store knows metadata only.
const COLUMNS = `s.id, s.user_id, u.keycloak_id AS subject, s.keycloak_session_id AS sid, s.created_at, s.last_accessed_at, s.expires_at,
  s.token_expires_at, s.fingerprint, s.version, s.is_active, s.end_reason, s.cookie_hash,
  s.metadata->'token_lifetime' AS token_lifetime, s.metadata->'roles' AS roles`;

/**
 * The book of sessions: metadata in PostgreSQL, packed copies in the cache. The cache is a convenience: whatever it does,
 * PostgreSQL decides, and only a live session is ever answered from a copy. A refusal is always PostgreSQL's.
 */
export class SessionStore {
  readonly #db: Database;
  readonly #cache: Cache;
  readonly #idleTimeoutMs: number;
  readonly #now: () => number;
  readonly #touching = new Set<string>();

  constructor(options: { db: Database; cache: Cache; idleTimeoutMs: number; now?: () => number }) {
    this.#db = options.db;
    this.#cache = options.cache;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#now = options.now ?? Date.now;
  }

  /** The session of a cookie: `live`, or `expired` when a timeout has ended it (the row may not say so yet); null when there is none. */
  async find(cookie: string): Promise<{ state: 'live' | 'expired'; session: Session } | null> {
    const hash = cookieHash(cookie);
    const packed = await this.#cache.get(sessionCacheKey(hash));
    const cached = packed && unpackSession(packed);
    if (cached && this.#now() - cached.confirmedAt.getTime() < CACHE_TRUST_MS && !this.isOver(cached.session)) {
      return { state: 'live', session: cached.session };
    }
    return this.#fromRow(await this.#selectOne('s.cookie_hash = $1', hash));
  }

  /** The session as PostgreSQL has it now, and the cache renewed with it; null when it is not live. */
  async reload(id: string): Promise<Session | null> {
    const found = await this.#fromRow(await this.#selectOne('s.id = $1', id));
    return found?.state === 'live' ? found.session : null;
  }

  /** Writes a new session and its user inside the caller's transaction; the caller stores the tokens in the same one. */
  async create(sql: Sql, session: NewSession): Promise<string> {
    const id = randomUUID();
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
   * Notes that the session is in use, which moves its idle timeout. Writes at most once in a twentieth of the idle
   * timeout (30 s at most) and never waits; a failure costs precision, not the request.
   */
  touch(session: Session): void {
    const granularity = Math.min(30_000, this.#idleTimeoutMs / 20);
    if (this.#now() - session.lastAccessedAt.getTime() < granularity || this.#touching.has(session.id)) return;
    this.#touching.add(session.id);
    this.touchNow(session).catch(() => undefined).finally(() => this.#touching.delete(session.id));
  }

  /** Notes the use at once and returns the session with it. Only ever updates a live row: nothing comes back to life. */
  async touchNow(session: Session): Promise<Session> {
    const rows = await this.#db.sql.query(
      'UPDATE user_sessions SET last_accessed_at = $2 WHERE id = $1 AND is_active AND last_accessed_at < $2 RETURNING id', [session.id, new Date(this.#now())]);
    return (rows.length > 0 ? await this.reload(session.id) : null) ?? session;
  }

  /** Makes every instance that shares the cache forget ended sessions, and keeps late writes from bringing them back. */
  async forget(hashes: readonly Uint8Array[]): Promise<void> {
    await this.#cache.bury(hashes.map(sessionCacheKey), TOMBSTONE_MS);
  }

  /** The live sessions of a subject, or of everyone, newest first; keyset pagination by `cursor`, the last id of the page before. */
  async list(options: { subject?: string | undefined; limit: number; cursor?: string | undefined }): Promise<ListedSession[]> {
    const rows = await this.#db.prisma.userSession.findMany({
      where: {
        isActive: true,
        expiresAt: { gt: new Date(this.#now()) },
        lastAccessedAt: { gt: new Date(this.#now() - this.#idleTimeoutMs) },
        ...(options.subject === undefined ? {} : { user: { keycloakId: options.subject } }),
      },
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
      take: options.limit,
      ...(options.cursor === undefined ? {} : { cursor: { id: options.cursor }, skip: 1 }),
      include: { user: true },
    });
    return rows.map(({ id, user, createdAt, lastAccessedAt, expiresAt, ipAddress, userAgent }) => (
      { id, subject: user.keycloakId, createdAt, lastAccessedAt, expiresAt, ipAddress, userAgent }));
  }

  idleExpiresAt(session: Session): Date {
    return new Date(session.lastAccessedAt.getTime() + this.#idleTimeoutMs);
  }

  /** Whether a timeout has passed, and which. */
  isOver(session: Session): 'idle_timeout' | 'absolute_timeout' | null {
    const now = this.#now();
    if (now >= session.expiresAt.getTime()) return 'absolute_timeout';
    return now >= this.idleExpiresAt(session).getTime() ? 'idle_timeout' : null;
  }

  async #selectOne(where: string, value: unknown): Promise<SessionRow | undefined> {
    const [row] = await this.#db.sql.query<SessionRow>(`SELECT ${COLUMNS} FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE ${where}`, [value]);
    return row;
  }

  async #fromRow(row: SessionRow | undefined): Promise<{ state: 'live' | 'expired'; session: Session } | null> {
    if (!row) return null;
    const session: Session = {
      id: row.id, userId: row.user_id, subject: row.subject, sid: row.sid, createdAt: row.created_at, lastAccessedAt: row.last_accessed_at,
      expiresAt: row.expires_at, tokenExpiresAt: row.token_expires_at, fingerprint: row.fingerprint, version: row.version,
      tokenLifetimeSeconds: typeof row.token_lifetime === 'number' ? row.token_lifetime : null,
      roles: Array.isArray(row.roles) ? row.roles.filter((role) => typeof role === 'string') : [],
    };
    if (!row.is_active && row.cookie_hash) await this.forget([row.cookie_hash]);
    if (!row.is_active) return EXPIRED_REASONS.includes(row.end_reason ?? '') ? { state: 'expired', session } : null;
    if (this.isOver(session)) return { state: 'expired', session };
    const now = this.#now();
    if (row.cookie_hash) {
      const value = packSession({ session, confirmedAt: new Date(now) });
      await this.#cache.put(sessionCacheKey(row.cookie_hash), { version: session.version, value }, session.expiresAt.getTime() - now);
    }
    return { state: 'live', session };
  }
}
