import type { Database } from '@session-gateway/database';
import { openTokenTable, TableError } from './tokenTable.js';

const PAGE_ROWS = 20_000;

/** Tables beside the gateway's own that a re-encryption job has worked on and that hold values under a key. */
export async function otherTablesWith(db: Database, kid: string): Promise<string[]> {
  const shapes = await db.sql.query<{ table: string; columns: string[] | null }>(
    `SELECT DISTINCT table_name AS "table", counters->'columns' AS columns FROM token_encryption_runs WHERE table_name <> 'user_sessions'`,
  );
  const found = new Set<string>();
  for (const { table, columns } of shapes) {
    const [idColumn, ...tokenColumns] = columns ?? [];
    if (
      idColumn !== undefined &&
      !found.has(table) &&
      (await holds(db, { table, idColumn, columns: tokenColumns }, kid))
    )
      found.add(table);
  }
  return [...found];
}

async function holds(
  db: Database,
  shape: { table: string; idColumn: string; columns: string[] },
  kid: string,
): Promise<boolean> {
  try {
    const table = await openTokenTable(db.sql, shape);
    for (let after: string | null = null; ;) {
      const page: Awaited<ReturnType<typeof table.survey>> = await table.survey(
        db.sql,
        after,
        PAGE_ROWS,
      );
      if (page.found.some((candidates) => candidates.kid === kid)) return true;
      if (page.last === null) return false;
      after = page.last;
    }
  } catch (error) {
    // No value of it is left to lose.
    if (error instanceof TableError && error.gone) return false;
    throw error;
  }
}
