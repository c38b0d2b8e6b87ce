import { type Database, keepNewest, type Sql } from '@session-gateway/database';
import type { TokenSet } from '../../client/tokenSet.js';
import type { EndedSession, EndReason } from '../audit/endedSession.js';
import { actorOf } from '../audit/sessionEvents.js';
import type { TokenEncryption } from '../encryption/TokenEncryption.js';
import { type OwedCall, oweLogouts } from '../logout/owedLogouts.js';
import { EXPIRY_REASON_SQL, idleMsSql, isOverSql } from '../session/sessionTimes.js';
import { rowIdOf } from '../session/shownId.js';
import { onServerClock } from '../session/serverClock.js';
import { SharedReads } from '../sharedReads.js';
import {
  dropped,
  type EndedRow,
  type EndOptions,
  endRows,
  type SessionSelection,
  WANTED,
  whichOf,
} from './endRows.js';

const TABLE = 'user_sessions';
/** After a start of PostgreSQL: whoever holds new tokens writes them before others ask the provider for more. */
const HOLDERS_FIRST_MS = 2_000;
/** Says nothing of anybody: what is known of a person stays. */
const NOBODY: TokenSet['identity'] = {
  subject: '',
  sid: null,
  preferredUsername: null,
  email: null,
  name: null,
  acr: null,
  roles: null,
};
type TokenColumn = 'access_token' | 'refresh_token' | 'id_token';

/** The refresh lease is the caller's. */
export interface Claimed {
  readonly kind: 'claimed';
  readonly refreshToken: string | null;
  /** It has renewed the session before, and the provider gave no other with its answer. */
  readonly isUsed: boolean;
  /** The holder before did not give the lease back, and may have spent the token. */
  readonly takenOver: boolean;
  /** There is no access token that lives by PostgreSQL's clock. */
  readonly accessTokenOver: boolean;
}

/** What came of asking for the refresh lease. */
export type Claim =
  | Claimed
  /** The tokens are newer than the caller knew. */
  | { kind: 'moved' }
  /** Another process refreshes. */
  | { kind: 'held' }
  | { kind: 'ended' };

interface SealedEntry {
  version: number;
  sealed: string;
}

/**
 * The only reader and writer of the token columns, by `endRows` too. Tokens are opened for the length of a call; what is kept between
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
    /**
     * Passes once the keys are known to be the right ones; asked before anything is sealed, or a refresh token spent.
     */
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
    const rows = await sql.query(
      `UPDATE user_sessions SET access_token = $2, refresh_token = $3, id_token = $4, token_expires_at = ${onServerClock('$5', '$8')}, refresh_expires_at = ${onServerClock('$6', '$8')},
         metadata = coalesce(metadata, '{}') || $7::jsonb, version = version + 1, updated_at = now() WHERE id = $1 RETURNING id`,
      [
        id,
        ...this.#sealSet(id, tokens),
        tokens.tokenExpiresAt,
        tokens.refreshExpiresAt,
        JSON.stringify({ token_lifetime: tokens.tokenLifetimeSeconds }),
        new Date(Date.now()),
      ],
    );
    if (rows.length === 0) throw dropped('a new session');
  }

  /**
   * The access token of a session at a version; null when the session is not live any more or has none.
   * @throws AuthError `token_unreadable`
   */
  async accessToken({ id, version }: { id: string; version: number }): Promise<string | null> {
    const entry = this.#sealed.get(id);
    const remembered =
      entry?.version === version ? this.#openOrNull(id, 'access_token', entry.sealed) : null;
    // A value that was re-encrypted meanwhile has the same version, and its old key may be gone.
    if (remembered !== null) return remembered;
    const sealed = await this.#reads.read(id, async () => {
      const [row] = await this.#db.sql.query<{ access_token: string | null; version: number }>(
        'SELECT access_token, version FROM user_sessions WHERE id = $1 AND is_active',
        [id],
      );
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
  async claimRefresh(
    id: string,
    seenVersion: number,
    owner: string,
    leaseMs: number,
  ): Promise<Claim> {
    await this.#confirmKeys();
    const [row] = await this.#db.sql.query<{
      refresh_token: string | null;
      is_used: boolean;
      taken_over: boolean;
      access_token_over: boolean;
    }>(
      `UPDATE user_sessions s SET refresh_lease_owner = $3, refresh_lease_until = clock_timestamp() + $4 * interval '1 millisecond'
       FROM user_sessions seen WHERE s.id = $1 AND seen.id = s.id AND s.version = $2 AND s.is_active AND s.expires_at > now()
         AND (s.refresh_lease_until IS NULL OR (s.refresh_lease_until < clock_timestamp() AND pg_postmaster_start_time() < clock_timestamp() - $5 * interval '1 millisecond'))
       RETURNING s.refresh_token, coalesce(s.metadata->>'refresh_token_used' = 'true', false) AS is_used, seen.refresh_lease_owner IS NOT NULL AS taken_over,
         coalesce(s.token_expires_at <= now(), true) AS access_token_over`,
      [id, seenVersion, owner, leaseMs, HOLDERS_FIRST_MS],
    );
    if (row) {
      try {
        return {
          kind: 'claimed',
          refreshToken: row.refresh_token
            ? this.#open(id, 'refresh_token', row.refresh_token)
            : null,
          isUsed: row.is_used,
          takenOver: row.taken_over,
          accessTokenOver: row.access_token_over,
        };
      } catch (error) {
        await this.releaseLease(id, owner);
        throw error;
      }
    }
    const [now] = await this.#db.sql.query<{ version: number }>(
      'SELECT version FROM user_sessions WHERE id = $1 AND is_active AND expires_at > now()',
      [id],
    );
    if (!now) return { kind: 'ended' };
    return now.version === seenVersion ? { kind: 'held' } : { kind: 'moved' };
  }

  /** Gives the lease back without new tokens. */
  async releaseLease(id: string, owner: string): Promise<void> {
    await this.#db.sql.query(
      'UPDATE user_sessions SET refresh_lease_owner = NULL, refresh_lease_until = NULL WHERE id = $1 AND refresh_lease_owner = $2',
      [id, owner],
    );
  }

  /** Keeps a lease for `leaseMs` from now on; one that another has taken over stays with that one. */
  async keepLease(id: string, owner: string, leaseMs: number): Promise<void> {
    await this.#db.sql.query(
      `UPDATE user_sessions SET refresh_lease_until = clock_timestamp() + $3 * interval '1 millisecond' WHERE id = $1 AND refresh_lease_owner = $2`,
      [id, owner, leaseMs],
    );
  }

  /** Whether a session is live and nobody has written to its tokens since `version`. */
  async isStillAt(id: string, version: number): Promise<boolean> {
    const rows = await this.#db.sql.query(
      'SELECT 1 FROM user_sessions WHERE id = $1 AND version = $2 AND is_active AND expires_at > now()',
      [id, version],
    );
    return rows.length > 0;
  }

  /**
   * Passes when `storeRefreshed` would work now: the same statement on the same row, rolled back. `token` stands in for
   * the new tokens.
   * @throws what kept the write from working
   */
  async rehearseStore(
    id: string,
    seenVersion: number,
    token: string,
    absoluteTimeoutMs: number,
  ): Promise<void> {
    const tokens: TokenSet = {
      accessToken: token,
      refreshToken: token,
      idToken: token,
      tokenExpiresAt: new Date(),
      tokenLifetimeSeconds: 0,
      refreshExpiresAt: null,
      identity: NOBODY,
    };
    const worked = new Error('rolled back, as it was a rehearsal');
    const rehearsal = this.#db.transaction(async (sql) => {
      const written = await this.storeRefreshed(id, seenVersion, tokens, absoluteTimeoutMs, sql);
      if (!written && (await this.isStillAt(id, seenVersion)))
        throw new Error('PostgreSQL drops writes of tokens without an error');
      // Deferred triggers would speak at the commit only.
      await sql.query('SET CONSTRAINTS ALL IMMEDIATE');
      throw worked;
    });
    await rehearsal.catch((error: unknown) => {
      if (error !== worked) throw error;
    });
  }

  /**
   * Writes refreshed tokens if the session is live, has not expired and nobody wrote since `seenVersion`, and frees the
   * lease. What the provider left out stays. False when the fence held.
   */
  async storeRefreshed(
    id: string,
    seenVersion: number,
    tokens: TokenSet,
    absoluteTimeoutMs: number,
    sql: Sql = this.#db.sql,
  ): Promise<boolean> {
    const [access, refresh, idToken] = this.#sealSet(id, tokens);
    const { preferredUsername, acr, roles } = tokens.identity;
    const rows = await sql.query(
      `UPDATE user_sessions SET access_token = $3, refresh_token = coalesce($4, refresh_token), id_token = coalesce($5, id_token),
         token_expires_at = ${onServerClock('$6', '$10')}, refresh_expires_at = ${onServerClock('$7', '$10')},
         expires_at = least(created_at + $8 * interval '1 millisecond', coalesce(${onServerClock('$7', '$10')}, 'infinity')),
         metadata = coalesce(metadata, '{}') || $9::jsonb, version = version + 1, updated_at = now(),
         refresh_lease_owner = NULL, refresh_lease_until = NULL
       WHERE id = $1 AND version = $2 AND is_active AND expires_at > now() RETURNING id`,
      [
        id,
        seenVersion,
        access,
        refresh,
        idToken,
        tokens.tokenExpiresAt,
        tokens.refreshExpiresAt,
        absoluteTimeoutMs,
        JSON.stringify({
          token_lifetime: tokens.tokenLifetimeSeconds,
          refresh_token_used: refresh === null,
          ...(acr === null ? {} : { acr }),
          ...(roles === null ? {} : { roles }),
          ...(preferredUsername === null ? {} : { preferred_username: preferredUsername }),
        }),
        new Date(Date.now()),
      ],
    );
    this.#sealed.delete(id);
    return rows.length > 0;
  }

  /**
   * Ends live sessions: the row says so, holds no token and has its event from one statement on. What ends the
   * provider's session is moved to `provider_logouts` in the same transaction. An id is the row's own, or the
   * one that is shown for it.
   */
  async end(
    selection: SessionSelection,
    reason: EndReason,
    options: EndOptions = {},
  ): Promise<EndedSession[]> {
    const ended = await this.#endSelected(selection, reason, options);
    if (ended.length > 0 || !('id' in selection)) return ended;
    const id = await rowIdOf(options.sql ?? this.#db.sql, selection.id);
    return id === null ? [] : this.#endSelected({ ...selection, id }, reason, options);
  }

  async #endSelected(
    selection: SessionSelection,
    reason: EndReason,
    options: EndOptions,
  ): Promise<EndedSession[]> {
    const { which, values } = whichOf(selection, options.seenVersion ?? null);
    return this.#endAndOwe(options, reason, which, values);
  }

  /**
   * Ends the oldest sessions of a user beyond `most`, inside the transaction of a login. The login's write to the
   * user's row makes logins of one user follow each other, so that the limit holds however many there are at once.
   */
  async endOldest(
    sql: Sql,
    {
      newestId,
      most,
      idleTimeoutMs,
      exceptSid,
    }: { newestId: string; most: number; idleTimeoutMs: number; exceptSid: string | null },
  ): Promise<EndedSession[]> {
    return this.#endAndOwe(
      { sql, exceptSid },
      'session_limit',
      `s.id IN (SELECT o.id FROM user_sessions o JOIN user_sessions n ON n.user_id = o.user_id
        WHERE n.id = $1 AND o.is_active AND o.expires_at > now() AND o.last_accessed_at > now() - ${idleMsSql('$3').replaceAll('s.', 'o.')} * interval '1 millisecond'
        ORDER BY (o.id = $1) DESC, o.created_at DESC, o.id DESC OFFSET $2) AND s.is_active FOR NO KEY UPDATE OF s`,
      [newestId, most, idleTimeoutMs],
    );
  }

  /**
   * Gives back tokens that came when their session had ended: nobody will use them. `end_session` ends the provider's
   * session with them; `revoke` is done only where nobody else goes on with that.
   */
  async giveBack(
    { id: sessionId, subject, sid }: { id: string; subject: string; sid: string | null },
    { refreshToken, refreshExpiresAt }: TokenSet,
    reason: EndReason,
    call: OwedCall,
  ): Promise<void> {
    if (refreshToken === null) return;
    const owed = { sessionId, subject, sid, reason, call, refreshToken, refreshExpiresAt };
    await oweLogouts(this.#db.sql, this.#encryption, [owed], { ownNow: new Date(Date.now()) });
  }

  /**
   * Ends sessions whose timeout has passed by PostgreSQL's clock, at most `limit` of them, so that no token outlives
   * its session: all that are, or the one with this id if it is.
   */
  async endExpired(
    idleTimeoutMs: number,
    { limit = 1, id = null }: { limit?: number; id?: string | null },
  ): Promise<EndedSession[]> {
    const rows = await endRows(this.#db.sql, {
      which: `s.is_active AND ${isOverSql('$1')}${id === null ? '' : ' AND s.id = $3'} LIMIT $2 FOR NO KEY UPDATE OF s SKIP LOCKED`,
      values: [idleTimeoutMs, limit, ...(id === null ? [] : [id])],
      reason: `CASE WHEN s.expires_at <= now() THEN ${EXPIRY_REASON_SQL} ELSE 'idle_timeout' END`,
      actor: 'gateway',
    });
    return rows.map((row) => this.#endedSession(row, 'gateway', null));
  }

  /** Two statements of one transaction, where anything is owed. */
  async #endAndOwe(
    { sql, atProvider, exceptSid = null, heldMs, ...origin }: EndOptions,
    reason: EndReason,
    which: string,
    values: unknown[],
  ): Promise<EndedSession[]> {
    const actor = actorOf(reason, origin);
    const end = (on: Sql): Promise<EndedRow[]> =>
      endRows(on, { which, values, reason: `'${reason}'`, actor, ipAddress: origin.ipAddress });
    if (!(atProvider ?? WANTED.has(reason)))
      return (await end(sql ?? this.#db.sql)).map((row) => this.#endedSession(row, actor, null));
    const work = async (on: Sql): Promise<EndedSession[]> => {
      const rows = await end(on);
      const owing = rows.flatMap(({ id, subject, sid, ...row }) => {
        const refreshToken = this.#openOrNull(id, 'refresh_token', row.refresh_token);
        if (refreshToken === null || (sid !== null && sid === exceptSid)) return [];
        const { refresh_expires_at: refreshExpiresAt } = row;
        const call = 'end_session' as const;
        return [{ sessionId: id, subject, sid, reason, call, refreshToken, refreshExpiresAt }];
      });
      if (owing.length > 0) await this.#confirmKeys();
      const ids = await oweLogouts(on, this.#encryption, owing, { heldMs });
      const owed = new Map(owing.map(({ sessionId }, index) => [sessionId, ids[index] ?? null]));
      return rows.map((row) => this.#endedSession(row, actor, owed.get(row.id) ?? null));
    };
    return sql ? work(sql) : this.#db.transaction(work);
  }

  #endedSession(row: EndedRow, actor: string, owedId: string | null): EndedSession {
    this.#sealed.delete(row.id);
    return {
      id: row.id,
      subject: row.subject,
      sid: row.sid,
      reason: row.reason,
      actor,
      cookieHash: row.cookie_hash,
      isRefreshTokenOver: row.refresh_is_over,
      idToken: this.#openOrNull(row.id, 'id_token', row.id_token),
      owedId,
    };
  }

  /**
   * Live sessions in use whose tokens are due, and that nobody refreshes now: the access token, or the refresh token
   * that bounds the session, ends within `aheadMs`, but not before half of its life is over.
   */
  async due(idleTimeoutMs: number, aheadMs: number, limit: number): Promise<string[]> {
    const rows = await this.#db.sql.query<{ id: string }>(
      `SELECT id FROM (
         SELECT s.*, CASE jsonb_typeof(s.metadata->'token_lifetime') WHEN 'number' THEN (s.metadata->>'token_lifetime')::float8 * interval '1 second' END AS lifetime
         FROM user_sessions s WHERE s.is_active AND s.refresh_token <> '' AND s.expires_at > now()
           AND s.last_accessed_at > now() - ${idleMsSql('$1')} * interval '1 millisecond'
           AND (s.refresh_lease_until IS NULL OR s.refresh_lease_until < now())) s
       WHERE token_expires_at < now() + least($2 * interval '1 millisecond', lifetime / 2)
          OR (expires_at = refresh_expires_at
            AND expires_at < now() + least($2 * interval '1 millisecond', (expires_at - (token_expires_at - lifetime)) / 2))
       ORDER BY token_expires_at LIMIT $3`,
      [idleTimeoutMs, aheadMs, limit],
    );
    return rows.map(({ id }) => id);
  }

  #sealSet(id: string, tokens: TokenSet): (string | null)[] {
    const seal = (column: TokenColumn, token: string | null): string | null =>
      token ? this.#encryption.seal(token, { table: TABLE, column, rowId: id }) : null;
    return [
      seal('access_token', tokens.accessToken),
      seal('refresh_token', tokens.refreshToken),
      seal('id_token', tokens.idToken),
    ];
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
