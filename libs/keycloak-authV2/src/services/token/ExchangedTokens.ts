import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Database, keepNewest } from '@session-gateway/database';
import type { KeycloakClient } from '../../client/KeycloakClient.js';
import { AuthError } from '../../errors.js';
import type { TokenEncryption } from '../encryption/TokenEncryption.js';
import type { Session } from '../session/sessionMetadata.js';
import { onServerClock } from '../session/serverClock.js';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
/** Outlives the provider call (5 s) and the write behind it. */
const LEASE_MS = 8_000;
const WAIT_MS = 20_000;
const POLL_MS = [25, 50, 100, 200] as const;
/** A token that ends on its way to the upstream is no use. */
const MARGIN_MS = 1_000;

interface Sealed {
  readonly sealed: string;
  readonly version: number;
  readonly expiresAt: number;
}

/**
 * Access tokens for other audiences than the gateway's own, by token exchange (RFC 8693). A session's are kept
 * sealed in PostgreSQL beside its other tokens and end with it; they count for one version of those only, so that a
 * refresh renews them too. Callers for one session and audience share one exchange: in the process a promise,
 * between processes a lease on the row. A bearer client's are kept in this process only, sealed, under a hash of the
 * token that they came from.
 */
export class ExchangedTokens {
  readonly #o: {
    db: Database;
    encryption: TokenEncryption;
    client: Pick<KeycloakClient, 'grant'>;
    now: () => number;
    maxEntries?: number;
  };
  readonly #sealed = new Map<string, Sealed>();
  readonly #flights = new Map<string, Promise<string | null>>();

  constructor(options: {
    db: Database;
    encryption: TokenEncryption;
    client: Pick<KeycloakClient, 'grant'>;
    /** PostgreSQL's time in milliseconds since 1970. */
    now: () => number;
    maxEntries?: number;
  }) {
    this.#o = options;
  }

  /**
   * A session's token for an audience; null when the session is not live any more.
   * @throws AuthError `provider_unavailable`, `provider_rejected` or
   * `reauthentication_required` as the provider answers
   */
  async ofSession(
    { id, version }: Pick<Session, 'id' | 'version'>,
    audience: string,
    accessToken: string,
  ): Promise<string | null> {
    const key = `${id} ${audience}`;
    return (
      this.#kept(key, version) ??
      this.#shared(`${key} ${version}`, () => this.#obtain(id, version, audience, accessToken))
    );
  }

  /** A bearer client's token for an audience. */
  async ofBearer(token: string, audience: string): Promise<string> {
    const key = `${createHash('sha256').update(token).digest('base64url')} ${audience}`;
    const kept =
      this.#kept(key, 0) ??
      (await this.#shared(key, async () => {
        const exchanged = await this.#exchange(token, audience);
        this.#keep(key, {
          sealed: this.#seal(key, exchanged.accessToken),
          version: 0,
          expiresAt: this.#endOf(exchanged),
        });
        return exchanged.accessToken;
      }));
    if (kept === null) throw new TypeError('a bearer client has no session that could be over');
    return kept;
  }

  async #obtain(
    id: string,
    version: number,
    audience: string,
    accessToken: string,
  ): Promise<string | null> {
    const { sql } = this.#o.db;
    const owner = randomUUID();
    const deadline = performance.now() + WAIT_MS;
    for (let attempt = 0; ; attempt++) {
      const stored = await this.#stored(id, version, audience);
      if (stored !== null) return stored;
      // One statement: the row's lock keeps a logout out until it is there to be erased by it.
      const claimed = await sql.query(
        `INSERT INTO exchanged_tokens AS held (session_id, audience, lease_owner, lease_until)
         SELECT id, $2, $3, clock_timestamp() + $4 * interval '1 millisecond' FROM user_sessions WHERE id = $1 AND is_active FOR SHARE
         ON CONFLICT (session_id, audience) DO UPDATE SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
         WHERE held.lease_until IS NULL OR held.lease_until < clock_timestamp() RETURNING session_id`,
        [id, audience, owner, LEASE_MS],
      );
      if (claimed.length > 0) return this.#spend(id, version, audience, accessToken, owner);
      const [session] = await sql.query('SELECT 1 FROM user_sessions WHERE id = $1 AND is_active', [
        id,
      ]);
      if (!session) return null;
      if (performance.now() >= deadline)
        throw new AuthError(
          'provider_unavailable',
          'another process has been exchanging this token for too long',
          { reason: 'lease_wait', retryAfterSeconds: 2 },
        );
      await delay(POLL_MS[Math.min(attempt, POLL_MS.length - 1)]);
    }
  }

  /** With the lease in hand: looks once more, since its last holder may have written, then asks the provider. */
  async #spend(
    id: string,
    version: number,
    audience: string,
    accessToken: string,
    owner: string,
  ): Promise<string | null> {
    const { sql } = this.#o.db;
    const release = (): Promise<unknown> =>
      sql.query(
        'UPDATE exchanged_tokens SET lease_owner = NULL, lease_until = NULL WHERE session_id = $1 AND audience = $2 AND lease_owner = $3',
        [id, audience, owner],
      );
    try {
      const stored = await this.#stored(id, version, audience);
      if (stored !== null) {
        await release();
        return stored;
      }
      const exchanged = await this.#exchange(accessToken, audience);
      const key = `${id} ${audience}`;
      const sealed = this.#seal(key, exchanged.accessToken);
      const written = await sql.query(
        `UPDATE exchanged_tokens SET access_token = $4, token_expires_at = ${onServerClock('$5', '$7')}, session_version = $6, lease_owner = NULL, lease_until = NULL
         WHERE session_id = $1 AND audience = $2 AND lease_owner = $3 RETURNING session_id`,
        [id, audience, owner, sealed, exchanged.tokenExpiresAt, version, new Date(Date.now())],
      );
      // Gone: the session ended while the provider answered. Taken over: the token is good all the same.
      if (
        written.length === 0 &&
        (await sql.query('SELECT 1 FROM user_sessions WHERE id = $1 AND is_active', [id]))
          .length === 0
      )
        return null;
      this.#keep(key, { sealed, version, expiresAt: this.#endOf(exchanged) });
      return exchanged.accessToken;
    } catch (error) {
      await release().catch(() => undefined);
      throw error;
    }
  }

  async #stored(id: string, version: number, audience: string): Promise<string | null> {
    const [row] = await this.#o.db.sql.query<{ access_token: string; token_expires_at: Date }>(
      `SELECT access_token, token_expires_at FROM exchanged_tokens WHERE session_id = $1 AND audience = $2 AND session_version >= $3
         AND token_expires_at > now() + $4 * interval '1 millisecond'`,
      [id, audience, version, MARGIN_MS],
    );
    if (!row) return null;
    const key = `${id} ${audience}`;
    this.#keep(key, {
      sealed: row.access_token,
      version,
      expiresAt: row.token_expires_at.getTime(),
    });
    return this.#kept(key, version);
  }

  #exchange(
    token: string,
    audience: string,
  ): Promise<{ accessToken: string; tokenExpiresAt: Date }> {
    return this.#o.client.grant(TOKEN_EXCHANGE, {
      subject_token: token,
      subject_token_type: ACCESS_TOKEN,
      requested_token_type: ACCESS_TOKEN,
      audience,
    });
  }

  /** When it ends, by PostgreSQL's clock. */
  #endOf({ tokenExpiresAt }: { tokenExpiresAt: Date }): number {
    return tokenExpiresAt.getTime() - Date.now() + this.#o.now();
  }

  #seal(key: string, token: string): string {
    return this.#o.encryption.seal(token, locationOf(key));
  }

  /**
   * What is kept for a version and good for a while; one that does not open, as after its key was
   * retired, is as good as none.
   */
  #kept(key: string, version: number): string | null {
    const entry = this.#sealed.get(key);
    if (
      entry === undefined ||
      entry.version !== version ||
      entry.expiresAt - MARGIN_MS <= this.#o.now()
    )
      return null;
    try {
      return this.#o.encryption.open(entry.sealed, locationOf(key));
    } catch {
      this.#sealed.delete(key);
      return null;
    }
  }

  #keep(key: string, entry: Sealed): void {
    keepNewest(this.#sealed, key, entry, this.#o.maxEntries ?? 10_000);
  }

  #shared(key: string, start: () => Promise<string | null>): Promise<string | null> {
    const flight = this.#flights.get(key) ?? start().finally(() => this.#flights.delete(key));
    this.#flights.set(key, flight);
    return flight;
  }
}

const locationOf = (key: string): { table: string; column: string; rowId: string } => ({
  table: 'exchanged_tokens',
  column: 'access_token',
  rowId: key,
});
