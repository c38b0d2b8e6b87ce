import type { Database, Sql } from '@session-gateway/database';
import { quoteName, quoteTable, type TableShape } from './tokenTable.js';

/** The constraint's name, the same on every table. */
export const CONSTRAINT = 'sealed_tokens_only';
const SEALED = '^v2\\.[a-z0-9]{1,16}\\.[A-Za-z0-9_-]{54,}$';
/** A large table takes long to look through; nobody waits for it meanwhile. */
const VALIDATE_WITHIN_MS = 24 * 60 * 60_000;

/** Everybody waits behind whoever waits for such a lock. */
const BRIEFLY = { lockMs: 1_000 };

export type Finalized = 'added' | 'there already' | 'refused';

/**
 * From here on PostgreSQL itself refuses any token that is not v2 (an empty one counts as none). Adding takes a moment's
 * lock; looking at what is stored takes none that gateways would notice. `refused`, and no constraint: a value that is not
 * v2 was written since the table was verified.
 */
export async function finalize(db: Database, shape: TableShape): Promise<Finalized> {
  const table = quoteTable(shape.table);
  const found = await constraint(db.sql, shape);
  if (found?.covers && found.validated) return 'there already';
  if (!found?.covers) {
    await db.transaction(async (sql) => {
      if (found) await sql.query(`ALTER TABLE ${table} DROP CONSTRAINT ${CONSTRAINT}`);
      await sql.query(`ALTER TABLE ${table} ADD CONSTRAINT ${CONSTRAINT} CHECK (${shape.columns.map(quoteName).map((column) => `(${column} IS NULL OR ${column} = '' OR ${column} ~ '${SEALED}')`).join(' AND ')}) NOT VALID`);
    }, BRIEFLY);
  }
  try {
    await patientStatement(db, `ALTER TABLE ${table} VALIDATE CONSTRAINT ${CONSTRAINT}`);
    return 'added';
  } catch (error) {
    if ((error as { code?: unknown }).code !== '23514') throw error;
    await removeConstraint(db, shape);
    return 'refused';
  }
}

/** Whether there was one to remove. */
export async function removeConstraint(db: Database, shape: TableShape): Promise<boolean> {
  if (!(await constraint(db.sql, shape))) return false;
  await db.transaction((sql) => sql.query(`ALTER TABLE ${quoteTable(shape.table)} DROP CONSTRAINT IF EXISTS ${CONSTRAINT}`), BRIEFLY);
  return true;
}

async function constraint(sql: Sql, { table, columns }: TableShape): Promise<{ validated: boolean; covers: boolean } | null> {
  const [row] = await sql.query<{ validated: boolean; covers: boolean }>(
    `SELECT convalidated AS validated, $3::text[] <@ (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY(conkey)) AS covers
     FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2`, [quoteTable(table), CONSTRAINT, columns]);
  return row ?? null;
}

async function patientStatement(db: Database, text: string): Promise<void> {
  const connection = await db.pool.connect();
  try {
    await connection.query(`SET lock_timeout = '1s'; SET statement_timeout = 0`);
    // The client's own bound, which is for statements that answer at once, is lifted for this one.
    await connection.query({ text, query_timeout: VALIDATE_WITHIN_MS } as { text: string });
  } finally {
    // Closed, because its settings must not outlive this statement.
    connection.release(true);
  }
}
