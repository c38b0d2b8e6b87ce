import { randomUUID } from 'node:crypto';
import type { Sql } from '@session-gateway/database';
import type { TokenLocation } from '../encryption/associatedData.js';
import type { TokenEncryption } from '../encryption/TokenEncryption.js';
import { onServerClock } from '../session/serverClock.js';

/** `end_session` ends the provider's session for all its clients; `revoke` takes back what this client was given. */
export type OwedCall = 'end_session' | 'revoke';

/** What an ended session owes the provider. */
export interface OwedLogout {
  readonly sessionId: string;
  readonly subject: string;
  readonly sid: string | null;
  readonly reason: string;
  readonly call: OwedCall;
  readonly refreshToken: string;
  /** Null where the provider sets no bound. */
  readonly refreshExpiresAt: Date | null;
}

/** A provider that sets no bound is not asked for ever. */
const MAX_AGE = `interval '30 days'`;

/** Where the refresh token of a row of `provider_logouts` is sealed for. */
export const owedTokenAt = (rowId: string): TokenLocation => ({
  table: 'provider_logouts',
  column: 'refresh_token',
  rowId,
});

/**
 * Writes down what is owed, inside the transaction that ends the sessions, so that it outlives an outage of
 * the provider and the end of this process. `heldMs`: for so long nobody sends it unless told to. `ownNow`:
 * this process's time where its clock made `refreshExpiresAt`; null where that was read in PostgreSQL.
 * Resolves with the ids, in order.
 */
export async function oweLogouts(
  sql: Sql,
  encryption: TokenEncryption,
  owed: readonly OwedLogout[],
  { heldMs = 0, ownNow = null }: { heldMs?: number | undefined; ownNow?: Date | null },
): Promise<string[]> {
  if (owed.length === 0) return [];
  const rows = owed.map((one) => ({ ...one, id: randomUUID() }));
  const column = <Value>(value: (row: (typeof rows)[number]) => Value): Value[] => rows.map(value);
  await sql.query(
    `INSERT INTO provider_logouts (id, session_id, subject, sid, reason, call, refresh_token, expires_at, next_attempt_at)
     SELECT id, session_id, subject, sid, reason, call, refresh_token, least(expires_at, now() + ${MAX_AGE}),
       clock_timestamp() + $9 * interval '1 millisecond'
     FROM (SELECT *, ${onServerClock('refresh_expires_at', '$10')} AS expires_at
       FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
         AS given(id, session_id, subject, sid, reason, call, refresh_token, refresh_expires_at)) owed
     WHERE expires_at IS NULL OR expires_at > now()`,
    [
      column(({ id }) => id),
      column(({ sessionId }) => sessionId),
      column(({ subject }) => subject),
      column(({ sid }) => sid),
      column(({ reason }) => reason),
      column(({ call }) => call),
      column(({ id, refreshToken }) => encryption.seal(refreshToken, owedTokenAt(id))),
      column(({ refreshExpiresAt }) => refreshExpiresAt),
      heldMs,
      ownNow,
    ],
  );
  return rows.map(({ id }) => id);
}
