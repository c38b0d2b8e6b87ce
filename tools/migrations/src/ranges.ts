import type { Database, Sql } from '@session-gateway/database';
import { processIsGone } from './tableLock.js';
import type { TokenTable } from './tokenTable.js';

/** Rows of a table that one worker sweeps: those with ids above `afterId` up to `upToId`. */
export interface Range {
  readonly number: number;
  /** Null: from the first row. */
  readonly afterId: string | null;
  /** Null: to the last row. */
  readonly upToId: string | null;
  /** The id up to which this sweep has come; null at its start. */
  readonly checkpoint: string | null;
}

/** What all the ranges of a sweep came to. */
export interface Swept {
  readonly done: boolean;
  /** Whether each was swept from its start by one process. */
  readonly whole: boolean;
  /** Rows that needed writing. */
  readonly wanted: number;
  /** Those of them that somebody else was writing. */
  readonly lost: number;
}

/** A table larger than this is cut anyhow, so that others can join in. */
const ROWS = 50_000;
const MOST = 64;
/** More ranges than workers, because some are slower than others. */
const PER_WORKER = 4;

const RANGE = `number, after_id AS "afterId", up_to_id AS "upToId", checkpoint`;

/**
 * Cuts the table for a run that has no ranges yet. Together they hold every id there is or will be. `checkpoint` is
 * that of a run from before there were ranges.
 */
export async function cutRanges(
  db: Database,
  run: string,
  table: TokenTable,
  { workers, total, checkpoint }: { workers: number; total: number; checkpoint: string | null },
): Promise<void> {
  // Whoever took the run up took its ranges too: this process holds the table alone.
  await db.sql.query('UPDATE token_encryption_ranges SET owner = NULL WHERE run_id = $1', [run]);
  if (
    (await db.sql.query('SELECT 1 FROM token_encryption_ranges WHERE run_id = $1 LIMIT 1', [run]))
      .length > 0
  )
    return;
  const parts =
    checkpoint === null
      ? Math.min(MOST, Math.max(workers === 1 ? 1 : workers * PER_WORKER, Math.ceil(total / ROWS)))
      : 1;
  const cuts = parts === 1 ? [] : await table.cuts(db.sql, parts, total);
  await db.sql.query(
    `INSERT INTO token_encryption_ranges (run_id, number, after_id, up_to_id, checkpoint, whole)
     SELECT $1, n, a, u, $4, $4::text IS NULL FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS r(a, u, n)`,
    [run, [null, ...cuts], [...cuts, null], checkpoint],
  );
}

/** A range that nobody is at work on; null when there is none. `worker` begins with the name of its process. */
export async function claimRange(sql: Sql, run: string, worker: string): Promise<Range | null> {
  const [range] = await sql.query<Range>(
    `UPDATE token_encryption_ranges SET owner = $2, whole = checkpoint IS NULL WHERE run_id = $1 AND number = (
       SELECT number FROM token_encryption_ranges r WHERE run_id = $1 AND NOT done AND (owner IS NULL OR ${processIsGone(`split_part(r.owner, '/', 1)`)})
       ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING ${RANGE}`,
    [run, worker],
  );
  return range ?? null;
}

/** What was committed of a range that this worker has; null when it is another's by now. */
export async function reloadRange(
  sql: Sql,
  run: string,
  number: number,
  worker: string,
): Promise<Range | null> {
  const [range] = await sql.query<Range>(
    `SELECT ${RANGE} FROM token_encryption_ranges WHERE run_id = $1 AND number = $2 AND owner = $3 AND NOT done`,
    [run, number, worker],
  );
  return range ?? null;
}

/** The sweep has come to the range's end. */
export async function endRange(
  sql: Sql,
  run: string,
  { number }: Range,
  worker: string,
): Promise<void> {
  await sql.query(
    'UPDATE token_encryption_ranges SET done = true WHERE run_id = $1 AND number = $2 AND owner = $3',
    [run, number, worker],
  );
}

/** Lets go of what this process had. */
export async function releaseRanges(sql: Sql, run: string, process: string): Promise<void> {
  await sql.query(
    `UPDATE token_encryption_ranges SET owner = NULL WHERE run_id = $1 AND NOT done AND split_part(owner, '/', 1) = $2`,
    [run, process],
  );
}

/** Locks the ranges and sums them up. In a transaction. */
export async function sumRanges(sql: Sql, run: string): Promise<Swept> {
  const ranges = await sql.query<{ done: boolean; whole: boolean; wanted: number; lost: number }>(
    'SELECT done, whole, wanted, lost FROM token_encryption_ranges WHERE run_id = $1 ORDER BY number FOR UPDATE',
    [run],
  );
  return {
    done: ranges.every(({ done }) => done),
    whole: ranges.every(({ whole }) => whole),
    wanted: ranges.reduce((sum, { wanted }) => sum + wanted, 0),
    lost: ranges.reduce((sum, { lost }) => sum + lost, 0),
  };
}

/** All of them are to be swept again. */
export async function resetRanges(sql: Sql, run: string): Promise<void> {
  await sql.query(
    'UPDATE token_encryption_ranges SET checkpoint = NULL, owner = NULL, whole = true, done = false, wanted = 0, lost = 0 WHERE run_id = $1',
    [run],
  );
}

/** A finished run needs them no more. */
export async function dropRanges(sql: Sql, run: string): Promise<void> {
  await sql.query('DELETE FROM token_encryption_ranges WHERE run_id = $1', [run]);
}
