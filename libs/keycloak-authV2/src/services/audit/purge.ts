import type { Sql } from '@session-gateway/database';

/** How many rows one statement removes at most, so that none holds its locks for long. */
const BATCH = 1_000;

/**
 * What may go: the rows are found by an index, and those that another process removes at this moment are left to it.
 */
const STATEMENTS = [
  `DELETE FROM user_sessions WHERE id IN (SELECT id FROM user_sessions WHERE ended_at < now() - $1 * interval '1 millisecond' AND NOT is_active
     LIMIT ${BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1`,
  `DELETE FROM session_events WHERE id IN (SELECT id FROM session_events WHERE at < now() - $1 * interval '1 millisecond'
     LIMIT ${BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1`,
  // By then a logout token has expired, clock tolerance included.
  `DELETE FROM logout_tokens WHERE (issuer, jti) IN (SELECT issuer, jti FROM logout_tokens WHERE expires_at < now() - interval '1 minute' AND $1::float8 >= 0
     LIMIT ${BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1`,
  // Every instance has read them, or believes none of its copies any more. The oldest are found by their key.
  `DELETE FROM session_changes WHERE (xact, cookie_hash) IN (SELECT xact, cookie_hash FROM (SELECT * FROM session_changes ORDER BY xact, cookie_hash
     LIMIT ${BATCH}) oldest WHERE at < now() - interval '5 minutes' AND $1::float8 >= 0) RETURNING 1`,
];

/**
 * Removes what has been kept for long enough: ended sessions and events after `retentionMs`, logout tokens that have
 * expired, changes that were told. One batch of each; true when there is more.
 */
export async function purge(sql: Sql, retentionMs: number): Promise<boolean> {
  let more = false;
  for (const statement of STATEMENTS)
    more = (await sql.query(statement, [retentionMs])).length === BATCH || more;
  return more;
}
