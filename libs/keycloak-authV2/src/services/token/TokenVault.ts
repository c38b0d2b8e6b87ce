import type { Database, Sql } from '@session-gateway/database';
import type { TokenSet } from '../../client/KeycloakClient.js';
import type { TokenEncryption } from '../encryption/TokenEncryption.js';

const TABLE = 'user_sessions';
type TokenColumn = 'access_token' | 'refresh_token' | 'id_token';

/** Which sessions to end. `exceptId` keeps one of a subject's sessions. */
export type SessionSelection = { id: string; subject?: string } | { sid: string; subject?: string } | { subject: string; exceptId?: string };

export type EndReason =
  | 'logout' | 'backchannel_logout' | 'frontchannel_logout' | 'ended_by_user' | 'ended_by_admin' | 'replaced'
  | 'idle_timeout' | 'absolute_timeout' | 'grant_ended' | 'subject_changed';

/** A session that has just been ended, with what is still owed to the provider. The tokens are gone from the row already. */
export interface EndedSession {
  readonly id: string;
  readonly cookieHash: Buffer | null;
  /** Null when there is none or it does not open. */
  readonly refreshToken: string | null;
  readonly idToken: string | null;
}

/** What came of asking for the refresh lease. */
export type Claim =
  | { kind: 'claimed'; refreshToken: string | null }
  /** The tokens are newer than the caller knew. */
  | { kind: 'moved' }
  /** Another process refreshes. */
  | { kind: 'held' }
  | { kind: 'ended' };

interface SealedEntry { version: number; sealed: string }

/**
 * The only reader and writer of the token columns. Tokens are opened for the length of a call; what is kept between
 * calls are sealed values. Every write raises `version`, which fences out whoever read the row before.
 */
export class TokenVault {
  readonly #db: Database;
  readonly #encryption: TokenEncryption;
  readonly #sealed = new Map<string, SealedEntry>();
  readonly #maxSealed: number;

  constructor(options: { db: Database; encryption: TokenEncryption; maxSealedEntries?: number }) {
    this.#db = options.db;
    this.#encryption = options.encryption;
    this.#maxSealed = options.maxSealedEntries ?? 10_000;
  }

  /** Stores a login's tokens inside the caller's transaction. */
  async store(sql: Sql, id: string, tokens: TokenSet): Promise<void> {
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
    if (entry?.version === version) return this.#open(id, 'access_token', entry.sealed);
    const [row] = await this.#db.sql.query<{ access_token: string | null; version: number }>(
      'SELECT access_token, version FROM user_sessions WHERE id = $1 AND is_active', [id]);
    if (!row?.access_token) return null;
    const token = this.#open(id, 'access_token', row.access_token);
    this.#remember(id, { version: row.version, sealed: row.access_token });
    return token;
  }

  /** Takes the refresh lease if the session is live, still at the version the caller saw, and nobody else holds it. One short statement. */
  async claimRefresh(id: string, seenVersion: number, owner: string, leaseMs: number): Promise<Claim> {
    const [row] = await this.#db.sql.query<{ refresh_token: string | null }>(
      `UPDATE user_sessions SET refresh_lease_owner = $3, refresh_lease_until = clock_timestamp() + $4 * interval '1 millisecond'
       WHERE id = $1 AND version = $2 AND is_active AND expires_at > now()
         AND (refresh_lease_until IS NULL OR refresh_lease_until < clock_timestamp()) RETURNING refresh_token`,
      [id, seenVersion, owner, leaseMs],
    );
    if (row) {
      try {
        return { kind: 'claimed', refreshToken: row.refresh_token && this.#open(id, 'refresh_token', row.refresh_token) };
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
   * Writes refreshed tokens if the session is live and nobody wrote since `seenVersion`, and frees the lease. What the
   * provider left out stays. False when the fence held.
   */
  async storeRefreshed(id: string, seenVersion: number, tokens: TokenSet, absoluteTimeoutMs: number): Promise<boolean> {
    const [access, refresh, idToken] = this.#sealSet(id, tokens);
    const { preferredUsername, roles } = tokens.identity;
    const rows = await this.#db.sql.query(
      `UPDATE user_sessions SET access_token = $3, refresh_token = coalesce($4, refresh_token), id_token = coalesce($5, id_token),
         token_expires_at = $6, refresh_expires_at = $7::timestamptz,
         expires_at = least(created_at + $8 * interval '1 millisecond', coalesce($7::timestamptz, 'infinity')),
         metadata = coalesce(metadata, '{}') || $9::jsonb, version = version + 1, updated_at = now(), refresh_lease_owner = NULL, refresh_lease_until = NULL
       WHERE id = $1 AND version = $2 AND is_active RETURNING id`,
      [id, seenVersion, access, refresh, idToken, tokens.tokenExpiresAt, tokens.refreshExpiresAt, absoluteTimeoutMs,
        JSON.stringify({ token_lifetime: tokens.tokenLifetimeSeconds, roles, ...(preferredUsername === null ? {} : { preferred_username: preferredUsername }) })],
    );
    this.#sealed.delete(id);
    return rows.length > 0;
  }

  /** Ends live sessions: the row says so and holds no token from one statement on. `seenVersion` ends one only if nobody wrote since. */
  async end(selection: SessionSelection, reason: EndReason, options: { sql?: Sql; seenVersion?: number } = {}): Promise<EndedSession[]> {
    const { sql = this.#db.sql, seenVersion = null } = options;
    const wanted: { id?: string; sid?: string; subject?: string; exceptId?: string } = selection;
    const rows = await sql.query<{ id: string; cookie_hash: Buffer | null; refresh_token: string | null; id_token: string | null }>(
      `WITH ending AS (
         SELECT s.id, s.refresh_token, s.id_token FROM user_sessions s JOIN users u ON u.id = s.user_id
         WHERE s.is_active AND ($1::text IS NULL OR s.id = $1) AND ($2::text IS NULL OR s.keycloak_session_id = $2)
           AND ($3::text IS NULL OR u.keycloak_id = $3) AND ($4::text IS NULL OR s.id <> $4) AND ($5::int IS NULL OR s.version = $5)
         FOR NO KEY UPDATE OF s)
       UPDATE user_sessions s SET is_active = false, ended_at = now(), end_reason = $6, access_token = NULL, refresh_token = NULL, id_token = NULL,
         version = s.version + 1, updated_at = now(), refresh_lease_owner = NULL, refresh_lease_until = NULL
       FROM ending WHERE s.id = ending.id RETURNING s.id, s.cookie_hash, ending.refresh_token, ending.id_token`,
      [wanted.id ?? null, wanted.sid ?? null, wanted.subject ?? null, wanted.exceptId ?? null, seenVersion, reason],
    );
    return rows.map((row) => {
      this.#sealed.delete(row.id);
      return {
        id: row.id,
        cookieHash: row.cookie_hash,
        refreshToken: this.#openOrNull(row.id, 'refresh_token', row.refresh_token),
        idToken: this.#openOrNull(row.id, 'id_token', row.id_token),
      };
    });
  }

  /** Ends sessions whose timeout has passed, at most `limit` of them, so that no token outlives its session. */
  async endExpired(idleTimeoutMs: number, limit: number): Promise<number> {
    const rows = await this.#db.sql.query(
      `UPDATE user_sessions SET is_active = false, ended_at = now(), end_reason = CASE WHEN expires_at <= now() THEN 'absolute_timeout' ELSE 'idle_timeout' END,
         access_token = NULL, refresh_token = NULL, id_token = NULL, version = version + 1, updated_at = now(), refresh_lease_owner = NULL, refresh_lease_until = NULL
       WHERE id IN (SELECT id FROM user_sessions WHERE is_active AND (expires_at <= now() OR last_accessed_at <= now() - $1 * interval '1 millisecond')
         LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id`,
      [idleTimeoutMs, limit],
    );
    return rows.length;
  }

  /** Live sessions in use whose access token ends within `aheadMs` or has ended, and that nobody refreshes now. */
  async due(idleTimeoutMs: number, aheadMs: number, limit: number): Promise<string[]> {
    const rows = await this.#db.sql.query<{ id: string }>(
      `SELECT id FROM user_sessions WHERE is_active AND refresh_token IS NOT NULL AND expires_at > now()
         AND last_accessed_at > now() - $1 * interval '1 millisecond'
         AND token_expires_at < now() + least($2, coalesce((metadata->>'token_lifetime')::float8 * 500, $2)) * interval '1 millisecond'
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

  #openOrNull(id: string, column: TokenColumn, stored: string | null): string | null {
    try {
      return stored ? this.#open(id, column, stored) : null;
    } catch {
      // Ending must not fail because of a value that is gone from the row anyway.
      return null;
    }
  }

  #remember(id: string, entry: SealedEntry): void {
    this.#sealed.delete(id);
    this.#sealed.set(id, entry);
    if (this.#sealed.size <= this.#maxSealed) return;
    const [oldest] = this.#sealed.keys();
    if (oldest !== undefined) this.#sealed.delete(oldest);
  }
}
