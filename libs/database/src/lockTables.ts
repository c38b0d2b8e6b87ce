import type { Sql } from './prisma.js';

/** Longer than `deadlock_timeout` by so much: only then does PostgreSQL look at whom a waiter waits for. */
const PAST_DEADLOCK_TIMEOUT_MS = 1_000;

/**
 * Locks tables for a change of their shape until the transaction ends, one after another as given: give a table that
 * refers to another one before that one, as a foreign key's check locks them. Waits for readers and writers as long as
 * the transaction's `lock_timeout` says, since everybody else waits behind. Autovacuum gives way only to those who wait
 * longer than `deadlock_timeout`: that wait comes first, in a mode that holds up no reader or writer.
 * @param tables as SQL writes them; those that are not there are left out
 * @throws the driver's error 55P03 where a table stays busy
 */
export async function lockTables(sql: Sql, tables: readonly string[]): Promise<void> {
  const [found] = await sql.query<{ there: string[]; within: string; patient: string }>(
    `SELECT ARRAY(SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS given (name, nr) WHERE to_regclass(name) IS NOT NULL ORDER BY nr) AS there,
       current_setting('lock_timeout') AS within,
       (SELECT (setting::int + ${PAST_DEADLOCK_TIMEOUT_MS})::text FROM pg_settings WHERE name = 'deadlock_timeout') AS patient`,
    [tables],
  );
  if (!found || found.there.length === 0) return;
  const names = found.there.join(', ');
  await sql.query(`SET LOCAL lock_timeout = ${found.patient}`);
  await sql.query(`LOCK TABLE ${names} IN SHARE UPDATE EXCLUSIVE MODE`);
  await sql.query(`SET LOCAL lock_timeout = '${found.within}'`);
  await sql.query(`LOCK TABLE ${names} IN ACCESS EXCLUSIVE MODE`);
}
