import type { Database } from '@session-gateway/database';
import { AuthError } from '../../errors.js';
import type { SessionStore } from '../session/SessionStore.js';
import type { EndedSession, SessionSelection, TokenVault } from '../token/TokenVault.js';
import { forgetSessions } from './endSessions.js';
import type { LogoutRequest } from './logoutToken.js';

/**
 * Carries out a validated logout token. The `jti` is remembered in the transaction that ends the sessions, so that a
 * token is either spent and carried out or neither; of two copies at the same time one is refused.
 * @throws AuthError `logout_token_invalid` for a replay
 */
export async function backchannelLogout(
  { db, vault, store, issuer }: { db: Database; vault: TokenVault; store: SessionStore; issuer: string },
  { subject, sid, jti, expiresAt }: LogoutRequest,
  scope: 'sid' | 'sub',
): Promise<EndedSession[]> {
  const ended = await db.transaction(async (sql) => {
    const spent = await sql.query(
      'INSERT INTO logout_tokens (issuer, jti, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING jti', [issuer, jti, expiresAt]);
    if (spent.length === 0) throw new AuthError('logout_token_invalid', 'the token was used before', { reason: 'replay' });
    return vault.end(selection(subject, sid, scope), 'backchannel_logout', { sql });
  });
  await forgetSessions(store, ended);
  return ended;
}

function selection(subject: string | null, sid: string | null, scope: 'sid' | 'sub'): SessionSelection {
  // A `sub` beside a `sid` must match too (§2.6 step 5: the token is about that person's session).
  if (sid !== null && (scope === 'sid' || subject === null)) return { sid, ...(subject === null ? {} : { subject }) };
  if (subject === null) throw new AuthError('logout_token_invalid', 'the token names nobody', { reason: 'sub_or_sid' });
  return { subject };
}
