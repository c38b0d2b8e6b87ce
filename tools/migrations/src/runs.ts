import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Database, Sql } from '@session-gateway/database';
import type { TableShape } from './tokenTable.js';

/** What a run has counted so far, resumed parts included. */
export interface Counters {
  /** Rows of the sweep under way, or of the last one. */
  scanned: number;
  changed: number;
  lostRace: number;
  /** Values that were current when they were first met. */
  alreadyCurrent: number;
  /** Values that the sweep under way, or the last one, could not open. */
  quarantined: number;
  remaining: { plain: number; plan: number; otherKid: number };
  durationMs: number;
}

export interface Run {
  readonly id: string;
  /** The id up to which the sweep has come; null at its start. */
  readonly checkpoint: string | null;
  readonly sweep: number;
  readonly counters: Counters;
  /** Whether an earlier process left it unfinished. */
  readonly resumed: boolean;
}

/** This process no longer owns the run. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** Another process is at work on the same table. */
export class RunHeldError extends Error {
  override readonly name = 'RunHeldError';
}

export class UnknownRunError extends Error {
  override readonly name = 'UnknownRunError';
}

export const noCounters = (): Counters => (
  { scanned: 0, changed: 0, lostRace: 0, alreadyCurrent: 0, quarantined: 0, remaining: { plain: 0, plan: 0, otherKid: 0 }, durationMs: 0 });

export interface TableLock {
  /** False once the connection that holds it is gone. */
  held(): boolean;
  /** May be called again. */
  release(): void;
}

const LOCK_WAIT_MS = 5_000;

/**
 * Holds the table for this process as long as its connection lives, which a killed process's does not.
 * @throws RunHeldError after five seconds, naming the run that is under way
 */
export async function lockTable(db: Database, table: string): Promise<TableLock> {
  const connection = await db.pool.connect();
  let lost = false;
  connection.on('error', () => { lost = true; });
  connection.on('end', () => { lost = true; });
  try {
    for (const end = Date.now() + LOCK_WAIT_MS; ; ) {
      const { rows: [row] } = await connection.query<{ locked: boolean }>(`SELECT pg_try_advisory_lock(hashtextextended('session-gateway encrypt-tokens ' || $1, 0)) AS locked`, [table]);
      if (row?.locked) break;
      if (Date.now() >= end) {
        const { rows: [running] } = await connection.query<{ id: string }>(
          `SELECT id FROM token_encryption_runs WHERE table_name = $1 AND finished_at IS NULL ORDER BY updated_at DESC LIMIT 1`, [table]).catch(() => ({ rows: [] as { id: string }[] }));
        throw new RunHeldError(`${running ? `run ${running.id} is` : 'another run is'} at work on ${table}: wait for it to end, or stop it`);
      }
      await delay(100);
    }
  } catch (error) {
    connection.release(true);
    throw error;
  }
  let released = false;
  return {
    held: () => !lost && !released,
    release() {
      // Closing the connection is what frees the lock, whatever state it is in.
      if (!released) connection.release(true);
      released = true;
    },
  };
}

/** The tables that a run keeps its books in; a migration makes them where the gateway's own tables are. */
export async function createBooks(sql: Sql): Promise<void> {
  await sql.query(`CREATE TABLE IF NOT EXISTS token_encryption_runs (
    id TEXT PRIMARY KEY, table_name TEXT NOT NULL, target_kid TEXT NOT NULL, mode TEXT NOT NULL, status TEXT NOT NULL, checkpoint TEXT, sweep INTEGER NOT NULL DEFAULT 0,
    counters JSONB NOT NULL DEFAULT '{}', owner TEXT, started_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, finished_at TIMESTAMPTZ(6))`);
  await sql.query(`CREATE TABLE IF NOT EXISTS token_encryption_quarantine (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, row_id TEXT NOT NULL, run_id TEXT NOT NULL, reason TEXT NOT NULL,
    first_seen_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, last_seen_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (table_name, column_name, row_id))`);
}

export async function hasBooks(sql: Sql): Promise<boolean> {
  const [row] = await sql.query<{ found: boolean }>(`SELECT to_regclass('token_encryption_runs') IS NOT NULL AND to_regclass('token_encryption_quarantine') IS NOT NULL AS found`);
  return row?.found === true;
}

/** Takes over an unfinished run to the same target, or begins one. */
export async function openRun(sql: Sql, shape: TableShape, target: string, owner: string, how: { resume: string | null; restart: boolean }): Promise<Run> {
  const columns = JSON.stringify([shape.idColumn, ...shape.columns]);
  if (how.resume !== null) {
    const [known] = await sql.query<{ same: boolean; finished: boolean }>(
      `SELECT table_name = $2 AND target_kid = $3 AND counters->'columns' = $4::jsonb AS same, finished_at IS NOT NULL AS finished FROM token_encryption_runs WHERE id = $1`,
      [how.resume, shape.table, target, columns]);
    if (!known) throw new UnknownRunError(`there is no run ${how.resume}`);
    if (known.finished) throw new UnknownRunError(`run ${how.resume} is finished already: start a new one without --resume`);
    if (!known.same) throw new UnknownRunError(`run ${how.resume} is for another table, other columns or another target`);
  }
  if (how.restart) {
    await sql.query(`UPDATE token_encryption_runs SET status = 'abandoned', finished_at = now(), updated_at = now() WHERE table_name = $1 AND finished_at IS NULL`, [shape.table]);
  }
  const [row] = await sql.query<{ id: string; checkpoint: string | null; sweep: number; counters: Counters }>(
    `UPDATE token_encryption_runs SET owner = $1, status = 'running', updated_at = now() WHERE id = (
       SELECT id FROM token_encryption_runs WHERE finished_at IS NULL AND table_name = $2 AND target_kid = $3 AND counters->'columns' = $4::jsonb AND ($5::text IS NULL OR id = $5)
       ORDER BY started_at DESC LIMIT 1) RETURNING id, checkpoint, sweep, counters`,
    [owner, shape.table, target, columns, how.resume]);
  if (row) return { id: row.id, checkpoint: row.checkpoint, sweep: row.sweep, counters: { ...noCounters(), ...row.counters }, resumed: true };
  const id = `${new Date().toISOString().slice(0, 10)}-${randomUUID().slice(0, 8)}`;
  await sql.query(`INSERT INTO token_encryption_runs (id, table_name, target_kid, mode, status, sweep, counters, owner) VALUES ($1, $2, $3, 'execute', 'running', 1, $4, $5)`,
    [id, shape.table, target, JSON.stringify({ ...noCounters(), columns: [shape.idColumn, ...shape.columns] }), owner]);
  return { id, checkpoint: null, sweep: 1, counters: noCounters(), resumed: false };
}

/**
 * Writes down how far a run has come, in the transaction of the batch that brought it there.
 * @throws FencedError when another process has taken the run over
 */
export async function saveRun(
  sql: Sql, id: string, owner: string, state: { checkpoint: string | null; sweep: number; counters: Counters; status?: 'running' | 'interrupted' | 'failed' | 'done' | 'incomplete' },
): Promise<void> {
  const { status = 'running' } = state;
  const rows = await sql.query(
    `UPDATE token_encryption_runs SET checkpoint = $3, sweep = $4, counters = counters || $5::jsonb, status = $6, updated_at = now(),
       finished_at = CASE WHEN $6 IN ('done', 'incomplete') THEN now() END WHERE id = $1 AND owner = $2 RETURNING id`,
    [id, owner, state.checkpoint, state.sweep, JSON.stringify(state.counters), status]);
  if (rows.length === 0) throw new FencedError(`run ${id} was taken over by another process`);
}

export async function reloadRun(sql: Sql, id: string): Promise<Pick<Run, 'checkpoint' | 'sweep' | 'counters'>> {
  const [row] = await sql.query<{ checkpoint: string | null; sweep: number; counters: Counters }>('SELECT checkpoint, sweep, counters FROM token_encryption_runs WHERE id = $1', [id]);
  if (!row) throw new FencedError(`run ${id} is gone`);
  return { ...row, counters: { ...noCounters(), ...row.counters } };
}

export interface Quarantined { readonly column: string; readonly rowId: string; readonly reason: string }

export async function quarantine(sql: Sql, runId: string, table: string, values: readonly Quarantined[]): Promise<void> {
  if (values.length === 0) return;
  await sql.query(
    `INSERT INTO token_encryption_quarantine (run_id, table_name, column_name, row_id, reason, first_seen_at, last_seen_at)
     SELECT $1, $2, *, clock_timestamp(), clock_timestamp() FROM unnest($3::text[], $4::text[], $5::text[])
     ON CONFLICT (table_name, column_name, row_id) DO UPDATE SET run_id = EXCLUDED.run_id, reason = EXCLUDED.reason, last_seen_at = clock_timestamp()`,
    [runId, table, values.map((value) => value.column), values.map((value) => value.rowId), values.map((value) => value.reason)]);
}

/** Of these rows, those whose value in this column is known not to open. */
export async function knownUnreadable(sql: Sql, table: string, column: string, rowIds: readonly string[]): Promise<Set<string>> {
  const rows = await sql.query<{ id: string }>(
    'SELECT row_id AS id FROM token_encryption_quarantine WHERE table_name = $1 AND column_name = $2 AND row_id = ANY($3)', [table, column, rowIds]);
  return new Set(rows.map(({ id }) => id));
}

/** The clock that quarantine is dated by. */
export async function serverTime(sql: Sql): Promise<string> {
  const [row] = await sql.query<{ now: string }>('SELECT clock_timestamp()::text AS now');
  return row?.now ?? '-infinity';
}

/** Lets go of values that the sweep begun at `since`, on the server's clock, did open or no longer met. */
export async function forgetOpened(sql: Sql, table: string, columns: readonly string[], since: string): Promise<void> {
  await sql.query('DELETE FROM token_encryption_quarantine WHERE table_name = $1 AND column_name = ANY($2) AND last_seen_at < $3::timestamptz', [table, columns, since]);
}
