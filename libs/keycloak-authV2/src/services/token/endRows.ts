import type { Sql } from '@session-gateway/database';
import { AuthError } from '../../errors.js';
import type { EndReason } from '../audit/endedSession.js';
import type { Origin } from '../audit/sessionEvents.js';
import { shownIdSql } from '../session/shownId.js';

/** Which sessions to end. `exceptId` keeps one of a subject's sessions; `most` of everybody's are a batch. */
export type SessionSelection =
  | { createdBefore: Date; most: number }
  | { id: string; subject?: string }
  | { sid: string; subject?: string }
  | { subject: string; exceptId?: string };

/** Ends that somebody wants here. Of the others the provider knows already, or its session is to go on. */
export const WANTED: ReadonlySet<EndReason> = new Set([
  'logout',
  'ended_by_user',
  'ended_by_admin',
  'replaced',
  'session_limit',
  'subject_changed',
]);

export interface EndOptions extends Origin {
  /** The transaction of the caller; without one the end is a transaction of its own. */
  sql?: Sql;
  /** Ends only if nobody wrote since. */
  seenVersion?: number;
  /** Whether the provider's session is to end too; by default where somebody wants the end. */
  atProvider?: boolean;
  /** The provider's session that somebody goes on with: it is left alone. */
  exceptSid?: string | null;
  /** For so long what is owed to the provider is sent only when told to. */
  heldMs?: number;
}

/** A session that was live until now, as it was. */
export interface EndedRow {
  id: string;
  cookie_hash: Buffer | null;
  refresh_token: string | null;
  id_token: string | null;
  refresh_expires_at: Date | null;
  refresh_is_over: boolean;
  sid: string | null;
  subject: string;
  reason: EndReason;
  /** Whether the row says so now: a trigger or a rule may have it otherwise, without an error. */
  is_over: boolean;
}

/** A selection as the rest of a WHERE over `user_sessions s JOIN users u`, with its values. */
export function whichOf(
  selection: SessionSelection,
  seenVersion: number | null,
): { which: string; values: unknown[] } {
  if ('most' in selection)
    return {
      which: `s.id IN (SELECT id FROM user_sessions WHERE is_active AND created_at < $1 LIMIT $2) AND s.is_active FOR NO KEY UPDATE OF s`,
      values: [selection.createdBefore, selection.most],
    };
  const wanted: { id?: string; sid?: string; subject?: string; exceptId?: string } = selection;
  return {
    which: `s.is_active AND ($1::text IS NULL OR s.id = $1) AND ($2::text IS NULL OR s.keycloak_session_id = $2)
      AND ($3::text IS NULL OR u.keycloak_id = $3) AND ($4::text IS NULL OR s.id <> $4) AND ($5::int IS NULL OR s.version = $5) FOR NO KEY UPDATE OF s`,
    values: [
      wanted.id ?? null,
      wanted.sid ?? null,
      wanted.subject ?? null,
      wanted.exceptId ?? null,
      seenVersion,
    ],
  };
}

/**
 * Ends rows in one statement: each says so, holds no token, and has its event. `which` continues a WHERE over
 * `user_sessions s JOIN users u`; `reason` is SQL over the row. Neither ever holds a value from outside.
 * @throws AuthError `storage_unavailable` where PostgreSQL drops the write without an error
 */
export async function endRows(
  sql: Sql,
  {
    which,
    values,
    reason,
    actor,
    ipAddress = null,
  }: {
    which: string;
    values: readonly unknown[];
    reason: string;
    actor: string;
    ipAddress?: string | null | undefined;
  },
): Promise<EndedRow[]> {
  const rows = await sql.query<EndedRow>(
    `WITH ending AS (
       SELECT s.id, s.cookie_hash, s.refresh_token, s.id_token, s.refresh_expires_at, coalesce(s.refresh_expires_at <= now(), false) AS refresh_is_over,
         s.keycloak_session_id AS sid, u.keycloak_id AS subject, ${reason} AS reason
       FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE ${which}),
     ended AS (
       UPDATE user_sessions s SET is_active = false, ended_at = now(), end_reason = ending.reason, access_token = NULL, refresh_token = NULL, id_token = NULL,
         version = s.version + 1, updated_at = now(), refresh_lease_owner = NULL, refresh_lease_until = NULL
       FROM ending WHERE s.id = ending.id
       RETURNING s.id, NOT s.is_active AND coalesce(s.access_token, s.refresh_token, s.id_token) IS NULL AS is_over),
     noted AS (
       INSERT INTO session_events (event, session_id, subject, sid, reason, actor, ip_address)
       SELECT 'session_ended', ${shownIdSql('id')}, subject, sid, reason, $${values.length + 1}::text, $${values.length + 2}::text
       FROM ending JOIN ended USING (id) WHERE ended.is_over)
     SELECT ending.*, coalesce(ended.is_over, false) AS is_over FROM ending LEFT JOIN ended USING (id)`,
    [...values, actor, ipAddress],
  );
  if (rows.some((row) => !row.is_over)) throw dropped('the end of a session');
  return rows;
}

/** Such a write must not be taken for done. */
export const dropped = (what: string): AuthError =>
  new AuthError('storage_unavailable', `PostgreSQL drops the write of ${what} without an error`);
