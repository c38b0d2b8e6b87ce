import type { Sql } from '@session-gateway/database';

/** A value that does not open: where it is and why, never what it is. */
export interface Quarantined {
  readonly column: string;
  readonly rowId: string;
  readonly reason: string;
}

export async function quarantine(
  sql: Sql,
  runId: string,
  table: string,
  values: readonly Quarantined[],
): Promise<void> {
  if (values.length === 0) return;
  await sql.query(
    `INSERT INTO token_encryption_quarantine (run_id, table_name, column_name, row_id, reason, first_seen_at, last_seen_at)
     SELECT $1, $2, *, clock_timestamp(), clock_timestamp() FROM unnest($3::text[], $4::text[], $5::text[])
     ON CONFLICT (table_name, column_name, row_id) DO UPDATE SET run_id = EXCLUDED.run_id, reason = EXCLUDED.reason, last_seen_at = clock_timestamp()`,
    [
      runId,
      table,
      values.map((value) => value.column),
      values.map((value) => value.rowId),
      values.map((value) => value.reason),
    ],
  );
}

/** Of these rows, those whose value in this column is known not to open. */
export async function knownUnreadable(
  sql: Sql,
  table: string,
  column: string,
  rowIds: readonly string[],
): Promise<Set<string>> {
  const rows = await sql.query<{ id: string }>(
    'SELECT row_id AS id FROM token_encryption_quarantine WHERE table_name = $1 AND column_name = $2 AND row_id = ANY($3)',
    [table, column, rowIds],
  );
  return new Set(rows.map(({ id }) => id));
}

/** Lets go of values that the sweep begun at `since`, on the server's clock, did open or no longer met. */
export async function forgetOpened(
  sql: Sql,
  table: string,
  columns: readonly string[],
  since: string,
): Promise<void> {
  await sql.query(
    'DELETE FROM token_encryption_quarantine WHERE table_name = $1 AND column_name = ANY($2) AND last_seen_at < $3::timestamptz',
    [table, columns, since],
  );
}
