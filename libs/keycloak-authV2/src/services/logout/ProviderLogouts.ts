import type { Database } from '@session-gateway/database';
import { END_SESSION_MS } from '../../client/endSession.js';
import type { KeycloakClient } from '../../client/KeycloakClient.js';
import { type AuthError, isAuthError } from '../../errors.js';
import type { SessionEvent, SessionEvents } from '../audit/sessionEvents.js';
import type { TokenEncryption } from '../encryption/TokenEncryption.js';
import { type OwedCall, owedTokenAt } from './owedLogouts.js';

/** What came of one row, for metrics. All but `postponed` erase it. */
export type ProviderLogoutOutcome =
  /** The provider's session is over, for all its clients. */
  | 'ended'
  /** The provider does not know the token any more. */
  | 'already_over'
  /** The provider does not end sessions from server to server: the token was revoked. */
  | 'revoked'
  /** Somebody goes on with the provider's session. */
  | 'spared'
  /** The provider neither ends nor revokes. */
  | 'refused'
  /** The refresh token has ended by itself. */
  | 'expired'
  | 'postponed';

export const PROVIDER_LOGOUT_BOUNDS = {
  /** Of one process at the same time. Keycloak waits up to 5 s for each application that hangs. */
  pool: 4,
  /** The same for those that somebody waits for. */
  urgentPool: 16,
  callMs: END_SESSION_MS,
  /** Outlives the call and the write behind it: no two processes send one row at once. */
  leaseMs: END_SESSION_MS + 15_000,
  /** How often rows are looked for that another process left behind. */
  pollMs: 2_000,
  minPauseMs: 1_000,
  maxPauseMs: 60_000,
  /** How long a process that ends waits for answers. */
  stopMs: 2_000,
} as const;
const BOUNDS = PROVIDER_LOGOUT_BOUNDS;
/** Keycloak's answers that mean our own misconfiguration, which an operator mends. */
const MENDABLE = new Set(['invalid_client', 'unauthorized_client']);

interface OwedRow {
  id: string;
  session_id: string;
  subject: string;
  sid: string | null;
  call: OwedCall;
  refresh_token: string;
  attempts: number;
  expired: boolean;
  spared: boolean;
}

export interface ProviderLogoutsOptions {
  db: Database;
  encryption: TokenEncryption;
  client: Pick<KeycloakClient, 'endSession' | 'revoke'>;
  events: SessionEvents;
  onOutcome?: (outcome: ProviderLogoutOutcome, sessionId: string, error?: unknown) => void;
  /** How many rows there are, of all processes, whenever that was looked at. */
  onPending?: (rows: number) => void;
}

/**
 * Sends what ended sessions owe the provider (`provider_logouts`), a few at a time, and erases it on the answer. Any
 * process sends any row: one that is being sent is claimed for a while by moving its next attempt on. While the
 * provider is away the pauses grow, for each row and for the process.
 */
export class ProviderLogouts {
  readonly #o: ProviderLogoutsOptions;
  /** Under way, by row. */
  readonly #sending = new Map<string, Promise<boolean>>();
  #workers = 0;
  #urgent = 0;
  readonly #line: (() => void)[] = [];
  #failuresInARow = 0;
  #pausedUntil = 0;
  #poll: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: ProviderLogoutsOptions) {
    this.#o = options;
  }

  /** Looks for rows from now on, those of ended processes too. */
  start(): void {
    this.kick();
    this.#poll = setInterval(() => this.kick(), BOUNDS.pollMs).unref();
  }

  /**
   * Begins nothing more, and waits up to `ms` for answers; what is under way then is left to other processes at once.
   */
  async stop(ms: number = BOUNDS.stopMs): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#poll);
    await within(Promise.allSettled(this.#sending.values()), ms);
    const left = [...this.#sending.keys()];
    if (left.length > 0)
      await this.#o.db.sql
        .query(
          'UPDATE provider_logouts SET next_attempt_at = clock_timestamp() WHERE id = ANY($1)',
          [left],
        )
        .catch(() => undefined);
  }

  /** There are rows to send. Nobody waits for them. */
  kick(): void {
    if (this.#workers >= BOUNDS.pool || this.#rests) return;
    this.#workers++;
    void this.#work().finally(() => {
      this.#workers--;
    });
  }

  /**
   * Sends one row now if nobody has tried yet, however long it was held. Resolves when the provider has answered, or
   * after `waitMs`; the call goes on then. Never throws.
   */
  async sendNow(id: string, waitMs: number): Promise<void> {
    await within(
      this.#sendAhead(id).catch(() => undefined),
      waitMs,
    );
  }

  async #sendAhead(id: string): Promise<void> {
    if (this.#urgent >= BOUNDS.urgentPool) await new Promise<void>((go) => this.#line.push(go));
    this.#urgent++;
    try {
      const row = this.#rests ? null : await this.#claim(id);
      if (row !== null) await this.#send(row);
    } finally {
      this.#urgent--;
      this.#line.shift()?.();
    }
  }

  /** Nothing new is sent: the provider is away, or the process ends. */
  get #rests(): boolean {
    return this.#stopped || performance.now() < this.#pausedUntil;
  }

  async #work(): Promise<void> {
    try {
      while (!this.#rests) {
        const row = await this.#claim(null);
        if (row === null) break;
        // Where one is there may be more.
        this.kick();
        if (!(await this.#send(row))) break;
      }
      if (!this.#stopped) await this.#count();
    } catch {
      // PostgreSQL is away, which is told elsewhere; what was claimed comes due again.
    }
  }

  async #count(): Promise<void> {
    const [row] = await this.#o.db.sql.query<{ rows: number }>(
      'SELECT count(*)::int AS rows FROM provider_logouts',
    );
    this.#o.onPending?.(row?.rows ?? 0);
  }

  /** The next row that is due, or this one if it has never been tried; null when there is none. */
  async #claim(id: string | null): Promise<OwedRow | null> {
    const which =
      id === null
        ? `(SELECT id FROM provider_logouts WHERE next_attempt_at <= clock_timestamp() AND $2::text IS NULL
           ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)`
        : '$2::text AND o.attempts = 0';
    const [row] = await this.#o.db.sql.query<OwedRow>(
      `UPDATE provider_logouts o SET attempts = attempts + 1, next_attempt_at = clock_timestamp() + $1 * interval '1 millisecond'
       WHERE o.id = ${which}
       RETURNING id, session_id, subject, sid, call, refresh_token, attempts, expires_at <= clock_timestamp() AS expired,
         call = 'revoke' AND sid IS NOT NULL AND EXISTS (SELECT 1 FROM user_sessions s WHERE s.keycloak_session_id = o.sid AND s.is_active AND s.expires_at > now() AND s.id <> o.session_id) AS spared`,
      [BOUNDS.leaseMs, id],
    );
    return row ?? null;
  }

  /** False when it has to be tried again. */
  #send(row: OwedRow): Promise<boolean> {
    const sending = this.#deliver(row).finally(() => this.#sending.delete(row.id));
    this.#sending.set(row.id, sending);
    return sending;
  }

  async #deliver(row: OwedRow): Promise<boolean> {
    if (row.expired) return this.#erase(row, 'expired');
    if (row.spared) return this.#erase(row, 'spared');
    let outcome: ProviderLogoutOutcome;
    try {
      outcome = await this.#call(row);
    } catch (error) {
      await this.#postpone(row, error);
      return false;
    }
    this.#failuresInARow = 0;
    return this.#erase(row, outcome);
  }

  async #call({ id, call, refresh_token: sealed }: OwedRow): Promise<ProviderLogoutOutcome> {
    const token = this.#o.encryption.open(sealed, owedTokenAt(id));
    try {
      if (call === 'end_session') return await this.#o.client.endSession(token);
      await this.#o.client.revoke(token);
      return 'revoked';
    } catch (error) {
      if (isAuthError(error, 'provider_rejected') && !MENDABLE.has(error.reason ?? ''))
        return 'refused';
      throw error;
    }
  }

  /** The row goes and its event comes in one transaction. */
  async #erase(row: OwedRow, outcome: ProviderLogoutOutcome): Promise<true> {
    const event = eventOf(row, outcome);
    await this.#o.db.transaction(async (sql) => {
      await sql.query('DELETE FROM provider_logouts WHERE id = $1', [row.id]);
      await this.#o.events.write(sql, event);
    });
    this.#o.events.tell(event);
    this.#o.onOutcome?.(outcome, row.session_id);
    return true;
  }

  async #postpone(row: OwedRow, error: unknown): Promise<void> {
    this.#o.onOutcome?.('postponed', row.session_id, error);
    const isProviders = isAuthError(error, 'provider_unavailable', 'provider_rejected');
    if (isProviders) this.#pausedUntil = performance.now() + pauseMs(++this.#failuresInARow, error);
    await this.#o.db.sql.query(
      `UPDATE provider_logouts SET next_attempt_at = clock_timestamp() + $2 * interval '1 millisecond' WHERE id = $1`,
      [row.id, pauseMs(row.attempts, isProviders ? error : undefined)],
    );
    // Once for each row: an outage must not fill the table.
    if (row.attempts === 1) await this.#o.events.note(eventOf(row, 'postponed'));
  }
}

const eventOf = (
  { session_id: sessionId, subject, sid }: OwedRow,
  reason: ProviderLogoutOutcome,
): SessionEvent => ({
  event: 'provider_logout',
  sessionId,
  subject,
  sid,
  reason,
  actor: 'gateway',
});

/** Doubled with each failure in a row; what the provider asks for is obeyed up to the most. */
function pauseMs(failures: number, error?: AuthError): number {
  const asked = (error?.retryAfterSeconds ?? 0) * 1000;
  return Math.min(
    BOUNDS.maxPauseMs,
    Math.max(BOUNDS.minPauseMs * 2 ** Math.min(failures - 1, 10), asked),
  );
}

/** Resolves when `work` has ended, however, or after `ms`. */
async function within(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work.then(() => undefined), late]).finally(() => clearTimeout(timer));
}
