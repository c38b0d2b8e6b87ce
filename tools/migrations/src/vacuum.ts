import type { Database, Sql } from '@session-gateway/database';
import { quoteTable } from './tokenTable.js';

/** How a table stands, by PostgreSQL's own books: sizes are exact, rows are estimates. */
export interface TableHealth {
  /** With indexes and TOAST, where long tokens are. */
  readonly bytes: number;
  readonly liveRows: number;
  /** Old versions, of the table and of its TOAST, whose room vacuum has not given back yet. */
  readonly deadRows: number;
}

/**
 * What autovacuum goes by while a run rewrites a table: it starts at a fiftieth of dead rows instead of a
 * fifth, and does not idle.
 */
const DURING: Readonly<Record<string, string>> = Object.fromEntries(
  ['', 'toast.'].flatMap((prefix) => [
    [`${prefix}autovacuum_enabled`, 'true'],
    [`${prefix}autovacuum_vacuum_scale_factor`, '0.02'],
    [`${prefix}autovacuum_vacuum_threshold`, '1000'],
    [`${prefix}autovacuum_vacuum_cost_delay`, '0'],
  ]),
);
/** ALTER TABLE … SET waits for a vacuum of the table only; nobody else waits for it. */
const BRIEFLY = { lockMs: 3_000 };
/** Above this share of dead rows a vacuum is worth a person's while. */
const WORTH_A_VACUUM = 0.2;

export async function tableHealth(sql: Sql, table: string): Promise<TableHealth> {
  const [row] = await sql.query<{ bytes: string; live: string; dead: string }>(
    `SELECT pg_total_relation_size(c.oid) AS bytes, coalesce(s.n_live_tup, 0) AS live,
       coalesce(s.n_dead_tup, 0) + coalesce((SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = c.reltoastrelid), 0) AS dead
     FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = to_regclass($1)`,
    [quoteTable(table)],
  );
  return {
    bytes: Number(row?.bytes ?? 0),
    liveRows: Number(row?.live ?? 0),
    deadRows: Number(row?.dead ?? 0),
  };
}

/** What to do about the room that a run has left behind; null when nothing. */
export function vacuumAdvice(
  table: string,
  before: TableHealth,
  after: TableHealth,
): string | null {
  if (after.deadRows > WORTH_A_VACUUM * Math.max(1, after.liveRows)) {
    return `VACUUM (ANALYZE) ${quoteTable(table)} gives the room of ${after.deadRows} old versions of rows back to the table; autovacuum will, too, in its own time`;
  }
  return before.bytes > 0 && after.bytes > 2 * before.bytes
    ? `the table takes ${(after.bytes / before.bytes).toFixed(1)} times the room that it took: new rows will fill it; VACUUM FULL ${quoteTable(table)} gives it back to the disk, and locks the table meanwhile`
    : null;
}

/**
 * Lets autovacuum follow a run closely, and remembers what was set before; both or neither. What was remembered
 * already, by a run that was killed, stays what will be put back.
 */
export async function tuneVacuum(db: Database, table: string): Promise<void> {
  await booksOfVacuum(db.sql);
  await db.transaction(async (sql) => {
    await sql.query(
      'INSERT INTO token_encryption_vacuum (table_name, former) VALUES ($1, $2) ON CONFLICT (table_name) DO NOTHING',
      [table, JSON.stringify(await settings(sql, table))],
    );
    await sql.query(
      `ALTER TABLE ${quoteTable(table)} SET (${Object.entries(DURING)
        .map(([name, value]) => `${name} = ${value}`)
        .join(', ')})`,
    );
  }, BRIEFLY);
}

/** Puts back what a run has changed, however that run ended; false when there is nothing to put back. */
export async function restoreVacuum(db: Database, table: string): Promise<boolean> {
  const [books] = await db.sql.query<{ found: boolean }>(
    `SELECT to_regclass('token_encryption_vacuum') IS NOT NULL AS found`,
  );
  if (!books?.found) return false;
  return db.transaction(async (sql) => {
    const [row] = await sql.query<{ former: Record<string, string> }>(
      'DELETE FROM token_encryption_vacuum WHERE table_name = $1 RETURNING former',
      [table],
    );
    if (!row) return false;
    const ours = Object.keys(DURING);
    const former = Object.entries(row.former).filter(
      ([name, value]) => ours.includes(name) && /^[\w.+-]+$/.test(value),
    );
    await sql.query(`ALTER TABLE ${quoteTable(table)} RESET (${ours.join(', ')})`);
    if (former.length > 0)
      await sql.query(
        `ALTER TABLE ${quoteTable(table)} SET (${former.map(([name, value]) => `${name} = ${value}`).join(', ')})`,
      );
    return true;
  }, BRIEFLY);
}

async function settings(sql: Sql, table: string): Promise<Record<string, string>> {
  const rows = await sql.query<{ name: string; value: string }>(
    `SELECT o.prefix || split_part(o.option, '=', 1) AS name, substr(o.option, strpos(o.option, '=') + 1) AS value FROM (
       SELECT '' AS prefix, unnest(reloptions) AS option FROM pg_class WHERE oid = to_regclass($1)
       UNION ALL SELECT 'toast.', unnest(t.reloptions) FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = to_regclass($1)) AS o`,
    [quoteTable(table)],
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

/** A migration makes it where the gateway's own tables are. */
async function booksOfVacuum(sql: Sql): Promise<void> {
  await sql.query(
    'CREATE TABLE IF NOT EXISTS token_encryption_vacuum (table_name TEXT PRIMARY KEY, former JSONB NOT NULL, set_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP)',
  );
}
