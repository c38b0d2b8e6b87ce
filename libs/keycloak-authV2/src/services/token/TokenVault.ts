import { type Database, keepNewest, type Sql } from '@session-gateway/database';
import type { TokenSet } from '../../client/KeycloakClient.js';
import { actorOf, type Origin } from '../audit/sessionEvents.js';
import type { TokenEncryption } from '../encryption/TokenEncryption.js';
import { SharedReads } from '../sharedReads.js';

const TABLE = 'user_sessions';
/** After a start of PostgreSQL: whoever holds new tokens writes them before others ask the provider for more. */
const HOLDERS_FIRST_MS = 2_000;
type TokenColumn = 'access_token' | 'refresh_token' | 'id_token';

/** Which sessions to end. `exceptId` keeps one of a subject's sessions. */
export type SessionSelection = { id: string; subject?: string } | { sid: string; subject?: string } | { subject: string; exceptId?: string };

export type EndReason =
  | 'logout' | 'backchannel_logout' | 'frontchannel_logout' | 'ended_by_user' | 'ended_by_admin' | 'replaced' | 'session_limit'
  | 'idle_timeout' | 'absolute_timeout' | 'grant_ended' | 'subject_changed';

/** A session that has just been ended, with what is still owed to the provider. The tokens are gone from the row already. */
export interface EndedSession {
  readonly id: string;
  readonly subject: string;
  readonly sid: string | null;
  readonly reason: EndReason;
  readonly actor: string;
  /** When the refresh token would have ended by itself; null when the provider set no bound. */
  readonly refreshExpiresAt: Date | null;
  readonly cookieHash: Buffer | null;
  /** Null when there is none or it does not open. */
  readonly refreshToken: string | null;
  readonly idToken: string | null;
}

/** What came of asking for the refresh lease. */
export type Claim =
  /** `takenOver`: the holder before did not give the lease back, and may have spent the token. */
  | { kind: 'claimed'; refreshToken: string | null; takenOver: boolean }
  /** The tokens are newer than the caller knew. */
  | { kind: 'moved' }
  /** Another process refreshes. */
  | { kind: 'held' }
  | { kind: 'ended' };

interface EndedRow {
  id: string; cookie_hash: Buffer | null; refresh_token: string | null; id_token: string | null; refresh_expires_at: Date | null;
  sid: string | null; subject: string; reason: EndReason;
}

interface SealedEntry { version: number; sealed: string }

/**
 * The only reader and writer of the token columns. Tokens are opened for the length of a call; what is kept between
 * calls are sealed values. Every write raises `version`, which fences out whoever read the row before.
 */
export class TokenVault {
  readonly #db: Database;
  readonly #encryption: TokenEncryption;
  readonly #confirmKeys: () => Promise<void>;
  readonly #sealed = new Map<string, SealedEntry>();
  readonly #maxSealed: number;
  readonly #reads = new SharedReads<SealedEntry | null>();

  constructor(options: {
    db: Database;
    encryption: TokenEncryption;
    /** Passes once the keys are known to be the right ones; asked before anything is sealed, or a refresh token spent. */
    confirmKeys?: () => Promise<void>;
    maxSealedEntries?: number;
  }) {
    this.#db = options.db;
    this.#encryption = options.encryption;
    this.#confirmKeys = options.confirmKeys ?? (async () => undefined);
    this.#maxSealed = options.maxSealedEntries ?? 10_000;
  }

  /** Stores a login's tokens inside the caller's transaction. */
  async store(sql: Sql, id: string, tokens: TokenSet): Promise<void> {
    await this.#confirmKeys();
    await sql.query(
      `UPDATE user_sessions SET access_token = $2, refresh_token = $3, id_token = $4, token_expires_at = $5, refresh_expires_at = $6,
         metadata = coalesce(metadata, '{}') || $7::jsonb, version = version + 1, updated_at = now() WHERE id = $1`,
      [id, ...this.#sealSet(id, tokens), tokens.tokenExpiresAt, tokens.refreshExpiresAt, JSON.stringify({ token_lifetime: tokens.tokenLifetimeSeconds })],
    );
  }

  /**
   * The access token of a session at a version; null when the session is not live any more or has none.
   * @throws AuthError `token_unreadable`
   */
  async accessToken({ id, version }: { id: string; version: number }): Promise<string | null> {
    const entry = this.#sealed.get(id);
    const remembered = entry?.version === version ? this.#openOrNull(id, 'access_token', entry.sealed) : null;
    // A value that was re-encrypted meanwhile has the same version, and its old key may be gone.
    if (remembered !== null) return remembered;
    const sealed = await this.#reads.read(id, async () => {
      const [row] = await this.#db.sql.query<{ access_token: string | null; version: number }>(
        'SELECT access_token, version FROM user_sessions WHERE id = $1 AND is_active', [id]);
      return row?.access_token ? { version: row.version, sealed: row.access_token } : null;
    });
    if (!sealed) return null;
    const token = this.#open(id, 'access_token', sealed.sealed);
    this.#remember(id, sealed);
    return token;
  }

  /**
   * Takes the refresh lease if the session is live, still at the version the caller saw, and nobody else holds it. One
   * short statement. A lease that ran out while PostgreSQL was away is its holder's for a moment more.
   */
  async claimRefresh(id: string, seenVersion: number, owner: string, leaseMs: number): Promise<Claim> {
    await this.#confirmKeys();
    const [row] = await this.#db.sql.query<{ refresh_token: string | null; taken_over: boolean }>(
      `UPDATE user_sessions s SET refresh_lease_owner = $3, refresh_lease_until = clock_timestamp() + $4 * interval '1 millisecond'
       FROM user_sessions seen WHERE s.id = $1 AND seen.id = s.id AND s.version = $2 AND s.is_active AND s.expires_at > now()
         AND (s.refresh_lease_until IS NULL OR (s.refresh_lease_until < clock_timestamp() AND pg_postmaster_start_time() < clock_timestamp() - $5 * interval '1 millisecond'))
       RETURNING s.refresh_token, seen.refresh_lease_owner IS NOT NULL AS taken_over`,
      [id, seenVersion, owner, leaseMs, HOLDERS_FIRST_MS],
    );
    if (row) {
      try {
        return { kind: 'claimed', refreshToken: row.refresh_token ? this.#open(id, 'refresh_token', row.refresh_token) : null, takenOver: row.taken_over };
      } catch (error) {
        await this.releaseLease(id, owner);
        throw error;
      }
    }
    const [now] = await this.#db.sql.query<{ version: number }>('SELECT version FROM user_sessions WHERE id = $1 AND is_active AND expires_at > now()', [id]);
    if (!now) return { kind: 'ended' };
    return now.version === seenVersion ? { kind: 'held' } : { kind: 'moved' };
  }

  /** Gives the lease back without new tokens. */
  async releaseLease(id: string, owner: string): Promise<void> {
    await this.#db.sql.query(
      'UPDATE user_sessions SET refresh_lease_owner = NULL, refresh_lease_until = NULL WHERE id = $1 AND refresh_lease_owner = $2', [id, owner]);
  }

  /**
   * Writes refreshed tokens if the session is live, has not expired and nobody wrote since `seenVersion`, and frees the
   * lease. What the provider left out stays. False when the fence held.
   */
  async storeRefreshed(id: string, seenVersion: number, tokens: TokenSet, absoluteTimeoutMs: number): Promise<boolean> {
    const [access, refresh, idToken] = this.#sealSet(id, tokens);
    const { preferredUsername, roles } = tokens.identity;
    const rows = await this.#db.sql.query(
      `UPDATE user_sessions SET access_token = $3, refresh_token = coalesce($4, refresh_token), id_token = coalesce($5, id_token),
         token_expires_at = $6, refresh_expires_at = $7::timestamptz,
         expires_at = least(created_at + $8 * interval '1 millisecond', coalesce($7::timestamptz, 'infinity')),
         metadata = coalesce(metadata, '{}') || $9::jsonb, version = version + 1, updated_at = now(), refresh_lease_owner = NULL, refresh_lease_until = NULL
       WHERE id = $1 AND version = $2 AND is_active AND expires_at > now() RETURNING id`,
      [id, seenVersion, access, refresh, idToken, tokens.tokenExpiresAt, tokens.refreshExpiresAt, absoluteTimeoutMs,
        JSON.stringify({ token_lifetime: tokens.tokenLifetimeSeconds, ...(roles === null ? {} : { roles }), ...(preferredUsername === null ? {} : { preferred_username: preferredUsername }) })],
    );
    this.#sealed.delete(id);
    return rows.length > 0;
  }

  /**
   * Ends live sessions: the row says so, holds no token and has its event from one statement on. `seenVersion` ends one
   * only if nobody wrote since.
   */
  async end(selection: SessionSelection, reason: EndReason, options: { sql?: Sql; seenVersion?: number } & Origin = {}): Promise<EndedSession[]> {
    const { sql = this.#db.sql, seenVersion = null } = options;
    const wanted: { id?: string; sid?: string; subject?: string; exceptId?: string } = selection;
    return this.#end(sql, `s.is_active AND ($1::text IS NULL OR s.id = $1) AND ($2::text IS NULL OR s.keycloak_session_id = $2)
      AND ($3::text IS NULL OR u.keycloak_id = $3) AND ($4::text IS NULL OR s.id <> $4) AND ($5::int IS NULL OR s.version = $5) FOR NO KEY UPDATE OF s`,
    [wanted.id ?? null, wanted.sid ?? null, wanted.subject ?? null, wanted.exceptId ?? null, seenVersion], `'${reason}'`, actorOf(reason, options), options.ipAddress);
  }

  /**
   * Ends the oldest sessions of a user beyond `most`, inside the transaction of a login. The login's write to the user's
   * row makes logins of one user follow each other, so that the limit holds however many there are at once.
   */
  async endOldest(sql: Sql, { newestId, most, idleTimeoutMs }: { newestId: string; most: number; idleTimeoutMs: number }): Promise<EndedSession[]> {
    return this.#end(sql, `s.id IN (SELECT o.id FROM user_sessions o JOIN user_sessions n ON n.user_id = o.user_id
        WHERE n.id = $1 AND o.is_active AND o.expires_at > now() AND o.last_accessed_at > now() - $3 * interval '1 millisecond'
        ORDER BY (o.id = $1) DESC, o.created_at DESC, o.id DESC OFFSET $2) AND s.is_active FOR NO KEY UPDATE OF s`,
    [newestId, most, idleTimeoutMs], `'session_limit'`, actorOf('session_limit'));
  }

  /** Ends sessions whose timeout has passed, at most `limit` of them, so that no token outlives its session. */
  async endExpired(idleTimeoutMs: number, limit: number): Promise<EndedSession[]> {
    return this.#end(this.#db.sql, `s.is_active AND (s.expires_at <= now() OR s.last_accessed_at <= now() - $1 * interval '1 millisecond')
      LIMIT $2 FOR NO KEY UPDATE OF s SKIP LOCKED`, [idleTimeoutMs, limit], `CASE WHEN s.expires_at <= now() THEN 'absolute_timeout' ELSE 'idle_timeout' END`, 'gateway');
  }

  /** `which` continues a WHERE over `user_sessions s JOIN users u`; `reason` is SQL over the row. Neither ever holds a value from outside. */
  async #end(sql: Sql, which: string, values: unknown[], reason: string, actor: string, ipAddress: string | null = null): Promise<EndedSession[]> {
    const rows = await sql.query<EndedRow>(
      `WITH ending AS (
         SELECT s.id, s.cookie_hash, s.refresh_token, s.id_token, s.refresh_expires_at, s.keycloak_session_id AS sid, u.keycloak_id AS subject, ${reason} AS reason
         FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE ${which}),
       ended AS (
         UPDATE user_sessions s SET is_active = false, ended_at = now(), end_reason = ending.reason, access_token = NULL, refresh_token = NULL, id_token = NULL,
           version = s.version + 1, updated_at = now(), refresh_lease_owner = NULL, refresh_lease_until = NULL
         FROM ending WHERE s.id = ending.id RETURNING ending.*),
       noted AS (
         INSERT INTO session_events (event, session_id, subject, sid, reason, actor, ip_address)
         SELECT 'session_ended', id, subject, sid, reason, $${values.length + 1}::text, $${values.length + 2}::text FROM ended)
       SELECT * FROM ended`,
      [...values, actor, ipAddress],
    );
    return rows.map((row) => {
      this.#sealed.delete(row.id);
      return {
        id: row.id, subject: row.subject, sid: row.sid, reason: row.reason, actor,
        cookieHash: row.cookie_hash,
        refreshExpiresAt: row.refresh_expires_at,
        refreshToken: this.#openOrNull(row.id, 'refresh_token', row.refresh_token),
        idToken: this.#openOrNull(row.id, 'id_token', row.id_token),
      };
    });
  }

  /** Live sessions in use whose access token ends within `aheadMs` or has ended, and that nobody refreshes now. */
  async due(idleTimeoutMs: number, aheadMs: number, limit: number): Promise<string[]> {
    const rows = await this.#db.sql.query<{ id: string }>(
      `SELECT id FROM user_sessions WHERE is_active AND refresh_token <> '' AND expires_at > now()
         AND last_accessed_at > now() - $1 * interval '1 millisecond'
         AND token_expires_at < now() + least($2, CASE jsonb_typeof(metadata->'token_lifetime') WHEN 'number' THEN (metadata->>'token_lifetime')::float8 * 500 END) * interval '1 millisecond'
         AND (refresh_lease_until IS NULL OR refresh_lease_until < now()) ORDER BY token_expires_at LIMIT $3`,
      [idleTimeoutMs, aheadMs, limit],
    );
    return rows.map(({ id }) => id);
  }

  #sealSet(id: string, tokens: TokenSet): (string | null)[] {
    const seal = (column: TokenColumn, token: string | null): string | null =>
      token ? this.#encryption.seal(token, { table: TABLE, column, rowId: id }) : null;
    return [seal('access_token', tokens.accessToken), seal('refresh_token', tokens.refreshToken), seal('id_token', tokens.idToken)];
  }

  #open(id: string, column: TokenColumn, stored: string): string {
    return this.#encryption.open(stored, { table: TABLE, column, rowId: id });
  }

  /** For values that are no more than a shortcut, or gone from the row anyway: they must not fail a request. */
  #openOrNull(id: string, column: TokenColumn, stored: string | null): string | null {
    try {
      return stored ? this.#open(id, column, stored) : null;
    } catch {
      return null;
    }
  }

  #remember(id: string, entry: SealedEntry): void {
    keepNewest(this.#sealed, id, entry, this.#maxSealed);
  }
}
