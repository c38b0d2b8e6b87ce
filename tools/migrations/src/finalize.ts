import { type Database, lockHolder, lockTables, type Sql } from '@session-gateway/database';
import { rest } from './pace.js';
import { quoteName, quoteTable, type TableShape } from './tokenTable.js';

/** The constraint's name, the same on every table. */
export const CONSTRAINT = 'sealed_tokens_only';
const SEALED = '^v2\\.[a-z0-9]{1,16}\\.[A-Za-z0-9_-]{54,}$';
/** A large table takes long to look through; nobody waits for it meanwhile. */
const VALIDATE_WITHIN_MS = 24 * 60 * 60_000;

/** Everybody waits behind whoever waits for such a lock: a short try, then a pause. */
const BRIEFLY = { lockMs: 100 };
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** As long as a backup may take. */
const PATIENCE_MS = 60 * 60_000;

/** While a table is busy. */
export interface Waiting {
  readonly note: (line: string) => void;
  readonly stopRequested: () => boolean;
}

export type Finalized = 'added' | 'there already' | 'refused';

/**
 * From here on PostgreSQL itself refuses any token that is not v2 (an empty one counts as none). Adding takes a
 * moment's lock; looking at what is stored takes none that gateways would notice. `refused`, and no constraint: a value
 * that is not v2 was written since the table was verified. Null when the job is to stop while it waits for a lock.
 */
export async function finalize(
  db: Database,
  shape: TableShape,
  waiting: Waiting,
): Promise<Finalized | null> {
  const table = quoteTable(shape.table);
  const found = await constraint(db.sql, shape);
  if (found?.covers && found.validated) return 'there already';
  if (!found?.covers) {
    const added = await changeBriefly(db, shape, waiting, async (sql) => {
      if (found) await sql.query(`ALTER TABLE ${table} DROP CONSTRAINT ${CONSTRAINT}`);
      await sql.query(
        `ALTER TABLE ${table} ADD CONSTRAINT ${CONSTRAINT} CHECK (${shape.columns
          .map(quoteName)
          .map((column) => `(${column} IS NULL OR ${column} = '' OR ${column} ~ '${SEALED}')`)
          .join(' AND ')}) NOT VALID`,
      );
    });
    if (!added) return null;
  }
  try {
    const validated = await insist(db, shape, waiting, () =>
      patientStatement(db, `ALTER TABLE ${table} VALIDATE CONSTRAINT ${CONSTRAINT}`),
    );
    return validated ? 'added' : null;
  } catch (error) {
    if ((error as { code?: unknown }).code !== '23514') throw error;
    const quiet = { ...waiting, note: () => undefined };
    return (await removeConstraint(db, shape, quiet)) === null ? null : 'refused';
  }
}

/** Whether there was one to remove; null when the job is to stop while it waits for a lock. */
export async function removeConstraint(
  db: Database,
  shape: TableShape,
  waiting: Waiting,
): Promise<boolean | null> {
  if (!(await constraint(db.sql, shape))) return false;
  const removed = await changeBriefly(db, shape, waiting, (sql) =>
    sql.query(`ALTER TABLE ${quoteTable(shape.table)} DROP CONSTRAINT IF EXISTS ${CONSTRAINT}`),
  );
  if (!removed) return null;
  waiting.note('the constraint that --finalize added is gone: it refuses plaintext');
  return true;
}

/** A change of the table's shape under a short lock. False when the job is to stop while it waits. */
function changeBriefly(
  db: Database,
  shape: TableShape,
  waiting: Waiting,
  change: (sql: Sql) => Promise<unknown>,
): Promise<boolean> {
  return insist(db, shape, waiting, () =>
    db.transaction(async (sql) => {
      await lockTables(sql, [quoteTable(shape.table)]);
      await change(sql);
    }, BRIEFLY),
  );
}

/** Tries again with growing pauses while somebody has the table open, and says who. False when the job is to stop. */
async function insist(
  db: Database,
  { table }: TableShape,
  { note, stopRequested }: Waiting,
  once: () => Promise<unknown>,
): Promise<boolean> {
  const giveUpAt = Date.now() + PATIENCE_MS;
  let told: string | null = null;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.6, LONGEST_PAUSE_MS)) {
    try {
      await once();
      return true;
    } catch (error) {
      if ((error as { code?: unknown }).code !== '55P03' || Date.now() + pause > giveUpAt)
        throw error;
    }
    const holder = await lockHolder(db.sql, [quoteTable(table)]).catch(() => null);
    const reason = `waiting for a lock: ${holder ?? `another session has ${table} open`}`;
    if (reason !== told) note(reason);
    told = reason;
    await rest(pause, stopRequested);
    if (stopRequested()) return false;
  }
}

async function constraint(
  sql: Sql,
  { table, columns }: TableShape,
): Promise<{ validated: boolean; covers: boolean } | null> {
  const [row] = await sql.query<{ validated: boolean; covers: boolean }>(
    `SELECT convalidated AS validated, $3::text[] <@ (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY(conkey)) AS covers
     FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2`,
    [quoteTable(table), CONSTRAINT, columns],
  );
  return row ?? null;
}

async function patientStatement(db: Database, text: string): Promise<void> {
  const connection = await db.pool.connect();
  try {
    // Waiting in this mode holds up nobody, and autovacuum gives way to it only after a while.
    await connection.query(`SET lock_timeout = '10s'; SET statement_timeout = 0`);
    // The client's own bound, which is for statements that answer at once, is lifted for this one.
    await connection.query({ text, query_timeout: VALIDATE_WITHIN_MS } as { text: string });
  } finally {
    // Closed, because its settings must not outlive this statement.
    connection.release(true);
  }
}
