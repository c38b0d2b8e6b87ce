import type { Database, Sql } from '@session-gateway/database';
import { shownId } from '../session/shownId.js';
import type { EndedSession, EndReason } from './endedSession.js';

export type SessionEventKind =
  | 'login'
  | 'session_ended'
  | 'refresh_failed'
  | 'reuse_suspected'
  | 'provider_logout'
  | 'logout_token_refused';

/** What happened to a session: who, and why. Holds no token, cookie or address of a token. */
export interface SessionEvent {
  readonly event: SessionEventKind;
  readonly sessionId?: string | null;
  readonly subject?: string | null;
  /** The provider's session id. */
  readonly sid?: string | null;
  /** From a closed set: an end reason, or a failure's reason. */
  readonly reason?: string | null;
  /** `user`, `provider`, `gateway`, or `admin:` and the administrator's subject. */
  readonly actor: string;
  readonly ipAddress?: string | null;
}

/** An event as the table has it. */
export interface RecordedEvent {
  readonly at: Date;
  readonly event: SessionEventKind;
  readonly reason: string | null;
  readonly actor: string;
  readonly ipAddress: string | null;
}

/** Who ends a session, where that does not follow from the reason; and from where. */
export interface Origin {
  readonly actor?: string;
  readonly ipAddress?: string | null;
}

const ACTORS: Readonly<Record<EndReason, string>> = {
  logout: 'user',
  ended_by_user: 'user',
  replaced: 'user',
  ended_by_admin: 'admin',
  session_limit: 'gateway',
  backchannel_logout: 'provider',
  frontchannel_logout: 'provider',
  grant_ended: 'provider',
  idle_timeout: 'gateway',
  refresh_expired: 'gateway',
  absolute_timeout: 'gateway',
  subject_changed: 'gateway',
};

export const END_REASONS = Object.keys(ACTORS) as readonly EndReason[];

export const actorOf = (reason: EndReason, origin: Origin = {}): string =>
  origin.actor ?? ACTORS[reason];

/**
 * The audit trail: rows in `session_events`, and the same to `onEvent` for a log line. The end of a session is written
 * by the statement that ends it (TokenVault); here it is only told.
 */
export class SessionEvents {
  readonly #db: Database;
  readonly #onEvent: (event: SessionEvent) => void;

  constructor(options: { db: Database; onEvent?: (event: SessionEvent) => void }) {
    this.#db = options.db;
    this.#onEvent = options.onEvent ?? (() => undefined);
  }

  /** Writes an event inside the caller's transaction, whose commit it shares; `tell` it once that is done. */
  async write(
    sql: Sql,
    {
      event,
      sessionId = null,
      subject = null,
      sid = null,
      reason = null,
      actor,
      ipAddress = null,
    }: SessionEvent,
  ): Promise<void> {
    await sql.query(
      'INSERT INTO session_events (event, session_id, subject, sid, reason, actor, ip_address) VALUES ($1, $2, $3, $4, $5, $6, $7)',
      [event, sessionId && shownId(sessionId), subject, sid, reason, actor, ipAddress],
    );
  }

  /** The newest events of a subject, newest first. */
  async recentOf(subject: string, limit: number): Promise<RecordedEvent[]> {
    return this.#db.sql.query<RecordedEvent>(
      `SELECT at, event, reason, actor, ip_address AS "ipAddress" FROM session_events
       WHERE subject = $1 ORDER BY at DESC, id DESC LIMIT $2`,
      [subject, limit],
    );
  }

  /** For the log alone. */
  tell(event: SessionEvent): void {
    const { sessionId } = event;
    this.#onEvent(sessionId ? { ...event, sessionId: shownId(sessionId) } : event);
  }

  /** Writes an event of its own and tells it. Never throws: an event must not fail what it is about. */
  async note(event: SessionEvent): Promise<void> {
    this.tell(event);
    await this.write(this.#db.sql, event).catch(() => undefined);
  }

  /**
   * Whether since then the answer to a refresh was lost, or could not be stored: the refresh token
   * may have been spent by us.
   */
  async lostAnswer(sessionId: string, since: Date): Promise<boolean> {
    const lost = await this.#db.sql.query(
      `SELECT 1 FROM session_events WHERE session_id = $1 AND event = 'refresh_failed' AND reason IN ('answer_lost', 'write_failed') AND at >= $2 LIMIT 1`,
      [shownId(sessionId), since],
    );
    return lost.length > 0;
  }

  /** Tells the ends that the vault has written. */
  tellEnded(ended: readonly EndedSession[]): void {
    for (const { id, subject, sid, reason, actor } of ended)
      this.tell({ event: 'session_ended', sessionId: id, subject, sid, reason, actor });
  }
}
