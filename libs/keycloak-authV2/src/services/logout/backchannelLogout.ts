import type { Database, Sql } from '@session-gateway/database';
import { AuthError } from '../../errors.js';
import type { EndedSession } from '../audit/endedSession.js';
import type { SessionSelection } from '../token/endRows.js';
import { afterEnding, type Enders } from './endSessions.js';
import type { LogoutRequest } from './logoutToken.js';

/**
 * Carries out a validated logout token. The `jti` is remembered in the transaction that ends the sessions, so that a
 * token is either spent and carried out or neither; of two copies at the same time one is refused.
 * @throws AuthError `logout_token_invalid` for a replay
 */
export async function backchannelLogout(
  { db, issuer, ...enders }: Enders & { db: Database; issuer: string },
  { subject, sid, jti, expiresAt }: LogoutRequest,
  scope: 'sid' | 'sub',
): Promise<EndedSession[]> {
  const ended = await db.transaction(async (sql) => {
    await oneAtATime(sql, sid, subject);
    const spent = await sql.query(
      `INSERT INTO logout_tokens (issuer, jti, sid, subject, expires_at, created_at) VALUES ($1, $2, $3, $4, $5::timestamptz, clock_timestamp())
       ON CONFLICT DO NOTHING RETURNING jti`,
      [issuer, jti, sid, subject, expiresAt],
    );
    if (spent.length === 0)
      throw new AuthError('logout_token_invalid', 'the token was used before', {
        reason: 'replay',
      });
    return enders.vault.end(selection(subject, sid, scope), 'backchannel_logout', {
      sql,
      // Sessions that the provider's own logout did not name would live on there.
      atProvider: scope === 'sub',
      exceptSid: sid,
    });
  });
  await afterEnding(enders, ended);
  return ended;
}

/**
 * Called first in the transaction of a login, whose code was redeemed in the last `sinceMs`: a logout token that came
 * meanwhile found no session to end, and must not be outlived by this one.
 * @throws AuthError `callback_rejected`
 */
export async function requireNotLoggedOut(
  sql: Sql,
  { sid, subject, sinceMs }: { sid: string | null; subject: string; sinceMs: number },
): Promise<void> {
  await oneAtATime(sql, sid, subject);
  const came = await sql.query(
    `SELECT 1 FROM logout_tokens WHERE created_at >= now() - $3 * interval '1 millisecond' AND (sid = $1 OR (sid IS NULL AND subject = $2)) LIMIT 1`,
    [sid, subject, sinceMs],
  );
  if (came.length > 0)
    throw new AuthError(
      'callback_rejected',
      'the provider ended the session while the login was under way',
      { reason: 'logged_out' },
    );
}

/** Logins and logouts of one session, and of one person, follow each other until their transactions end. */
async function oneAtATime(sql: Sql, sid: string | null, subject: string | null): Promise<void> {
  for (const key of [
    sid === null ? null : `sid ${sid}`,
    subject === null ? null : `sub ${subject}`,
  ]) {
    if (key !== null)
      await sql.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [key]);
  }
}

function selection(
  subject: string | null,
  sid: string | null,
  scope: 'sid' | 'sub',
): SessionSelection {
  // A `sub` beside a `sid` must match too (§2.6 step 5: the token is about that person's session).
  if (sid !== null && (scope === 'sid' || subject === null))
    return { sid, ...(subject === null ? {} : { subject }) };
  if (subject === null)
    throw new AuthError('logout_token_invalid', 'the token names nobody', { reason: 'sub_or_sid' });
  return { subject };
}
