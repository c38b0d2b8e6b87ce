import type { Sql } from '@session-gateway/database';

/** How many rows one statement removes at most, so that none holds its locks for long. */
const BATCH = 1_000;

/** What may go: the rows are found by an index, and those that another process removes at this moment are left to it. */
const STATEMENTS = [
  `DELETE FROM user_sessions WHERE id IN (SELECT id FROM user_sessions WHERE ended_at < now() - $1 * interval '1 millisecond' AND NOT is_active
     LIMIT ${BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1`,
  `DELETE FROM session_events WHERE id IN (SELECT id FROM session_events WHERE at < now() - $1 * interval '1 millisecond'
     LIMIT ${BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1`,
  // By then a logout token is refused for its age.
  `DELETE FROM logout_tokens WHERE (issuer, jti) IN (SELECT issuer, jti FROM logout_tokens WHERE expires_at < now() - interval '1 minute' AND $1::float8 >= 0
     LIMIT ${BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1`,
];

/**
 * Removes what has been kept for long enough: ended sessions and events after `retentionMs`, logout tokens that have
 * expired. One batch of each; true when there is more.
 */
export async function purge(sql: Sql, retentionMs: number): Promise<boolean> {
  let more = false;
  for (const statement of STATEMENTS) more = (await sql.query(statement, [retentionMs])).length === BATCH || more;
  return more;
}
