import { createHash } from 'node:crypto';
import type { Sql } from '@session-gateway/database';
import type { TokenRow, TokenWrite } from './tokenTable.js';

/** Not the whole of it: enough to tell two values apart, and nothing to look a token up by. */
const DIGEST_CHARACTERS = 12;
const CURRENT = '';

/**
 * Remembers rows that a batch could not write because somebody else was writing them, in the transaction of that batch.
 * They are met again in the next sweep, and then say whether what is in them is what was there,
 * or was written meanwhile.
 */
export async function rememberLost(
  sql: Sql,
  run: string,
  rows: readonly TokenRow[],
  lost: readonly TokenWrite[],
): Promise<void> {
  if (lost.length === 0) return;
  const digests = digestsOf(rows, lost);
  await sql.query(
    `INSERT INTO token_encryption_lost_races (run_id, row_id, digests) SELECT $1, id, string_to_array(digests, ' ') FROM unnest($2::text[], $3::text[]) AS t(id, digests)
     ON CONFLICT (run_id, row_id) DO UPDATE SET digests = EXCLUDED.digests`,
    [run, lost.map(({ id }) => id), lost.map(({ id }) => digests.get(id)?.join(' '))],
  );
}

/**
 * How many of the rows to be written, after a sweep has passed them, hold a value that somebody else has
 * put there since: those that were not lost, which were written or were not there, and those that were lost
 * and hold another value now.
 */
export async function writtenSince(
  sql: Sql,
  run: string,
  rows: readonly TokenRow[],
  writes: readonly TokenWrite[],
): Promise<number> {
  if (writes.length === 0) return 0;
  const lost = await sql.query<{ id: string; digests: string[] }>(
    'DELETE FROM token_encryption_lost_races WHERE run_id = $1 AND row_id = ANY($2) RETURNING row_id AS id, digests',
    [run, writes.map(({ id }) => id)],
  );
  const before = new Map(lost.map(({ id, digests }) => [id, digests]));
  const now = digestsOf(rows, writes);
  return writes.filter(({ id }) =>
    now
      .get(id)
      ?.some((digest, column) => digest !== CURRENT && digest !== before.get(id)?.[column]),
  ).length;
}

/** A finished run needs them no more. */
export async function forgetLost(sql: Sql, run: string): Promise<void> {
  await sql.query('DELETE FROM token_encryption_lost_races WHERE run_id = $1', [run]);
}

/** By row, of its values in the order of the columns; of those that need no writing `CURRENT`. */
function digestsOf(
  rows: readonly TokenRow[],
  writes: readonly TokenWrite[],
): Map<string, string[]> {
  const stored = new Map(rows.map((row) => [row.id, row.values]));
  return new Map(
    writes.map(({ id, values }) => [
      id,
      values.map((value, column) =>
        value === null ? CURRENT : digestOf(stored.get(id)?.[column] ?? ''),
      ),
    ]),
  );
}

const digestOf = (value: string): string =>
  createHash('sha256').update(value).digest('base64url').slice(0, DIGEST_CHARACTERS);
