import { randomUUID } from 'node:crypto';
import type { Sql } from '@session-gateway/database';
import type { TableShape } from './tokenTable.js';

/** What a run has counted so far, resumed parts included, whichever processes counted it. */
export interface Counters {
  /** Rows of the sweep under way, or of the last one. */
  scanned: number;
  changed: number;
  lostRace: number;
  /** Values that were current when they were first met. */
  alreadyCurrent: number;
  /** Values that the sweep under way, or the last one, could not open. */
  quarantined: number;
  /** Values that the sweep under way, or the last one, has met. */
  values: number;
  /** Rows in which somebody else has put values that are not current, after a sweep had passed. */
  late: number;
  /** How many of these the sweeps before had found. */
  lateBefore: number;
  remaining: { plain: number; plan: number; otherKid: number };
  durationMs: number;
}

export type RunStatus =
  | 'running'
  | 'paused'
  | 'interrupted'
  | 'failed'
  | 'cancelled'
  | 'done'
  | 'incomplete'
  | 'abandoned';

export interface Run {
  readonly id: string;
  readonly status: RunStatus;
  readonly sweep: number;
  /** The sweep after which a run that is still not clean gives up. */
  readonly lastSweep: number;
  /** When the sweep under way began, by the server's clock. */
  readonly sweepStartedAt: string;
  readonly counters: Counters;
  /** Who took it up last: processes that began earlier write no more. */
  readonly generation: string;
}

/** This process no longer owns the run. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

export class UnknownRunError extends Error {
  override readonly name = 'UnknownRunError';
}

const MAX_SWEEPS = 10;

export const noCounters = (): Counters => ({
  scanned: 0,
  changed: 0,
  lostRace: 0,
  alreadyCurrent: 0,
  quarantined: 0,
  values: 0,
  late: 0,
  lateBefore: 0,
  remaining: { plain: 0, plan: 0, otherKid: 0 },
  durationMs: 0,
});

const TABLES = [
  'token_encryption_runs',
  'token_encryption_ranges',
  'token_encryption_lost_races',
  'token_encryption_quarantine',
];

/** The tables that a run keeps its books in; a migration makes them where the gateway's own tables are. */
export async function createBooks(sql: Sql): Promise<void> {
  await sql.query(`CREATE TABLE IF NOT EXISTS token_encryption_runs (
    id TEXT PRIMARY KEY, table_name TEXT NOT NULL, target_kid TEXT NOT NULL, mode TEXT NOT NULL, status TEXT NOT NULL, checkpoint TEXT, sweep INTEGER NOT NULL DEFAULT 0,
    counters JSONB NOT NULL DEFAULT '{}', owner TEXT, started_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, finished_at TIMESTAMPTZ(6))`);
  // As a version before made it, it lacks these.
  await sql.query(`ALTER TABLE token_encryption_runs ADD COLUMN IF NOT EXISTS request TEXT, ADD COLUMN IF NOT EXISTS pace JSONB, ADD COLUMN IF NOT EXISTS reason TEXT,
    ADD COLUMN IF NOT EXISTS last_sweep INTEGER, ADD COLUMN IF NOT EXISTS sweep_started_at TIMESTAMPTZ(6), ADD COLUMN IF NOT EXISTS throttled_by TEXT`);
  await sql.query(`CREATE TABLE IF NOT EXISTS token_encryption_ranges (
    run_id TEXT NOT NULL, number INTEGER NOT NULL, after_id TEXT, up_to_id TEXT, checkpoint TEXT, owner TEXT, whole BOOLEAN NOT NULL DEFAULT true, done BOOLEAN NOT NULL DEFAULT false,
    wanted INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run_id, number))`);
  await sql.query(
    `CREATE TABLE IF NOT EXISTS token_encryption_lost_races (run_id TEXT NOT NULL, row_id TEXT NOT NULL, digests TEXT[], PRIMARY KEY (run_id, row_id))`,
  );
  await sql.query(`CREATE TABLE IF NOT EXISTS token_encryption_quarantine (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, row_id TEXT NOT NULL, run_id TEXT NOT NULL, reason TEXT NOT NULL,
    first_seen_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, last_seen_at TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (table_name, column_name, row_id))`);
}

export async function hasBooks(sql: Sql): Promise<boolean> {
  const [row] = await sql.query<{ found: boolean }>(
    'SELECT bool_and(to_regclass(name) IS NOT NULL) AS found FROM unnest($1::text[]) AS name',
    [TABLES],
  );
  return row?.found === true;
}

/** Whether this is a gateway's database, which migrations adopt. */
export async function awaitsMigrations(sql: Sql): Promise<boolean> {
  return (
    (
      await sql.query(
        `SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('user_sessions') AND attname = 'keycloak_session_id' AND NOT attisdropped`,
      )
    ).length > 0
  );
}

const RUN = `id, status, sweep, coalesce(last_sweep, 0) AS "lastSweep", coalesce(sweep_started_at, started_at)::text AS "sweepStartedAt", counters, owner AS generation`;

const asRun = (row: Run): Run => ({ ...row, counters: { ...noCounters(), ...row.counters } });

/** The run with this id, or the unfinished one; of a table, target and columns. */
const TO_GO_ON_WITH = `SELECT id FROM token_encryption_runs WHERE table_name = $2 AND target_kid = $3 AND counters->'columns' = $4::jsonb AND (id = $5 OR ($5::text IS NULL AND finished_at IS NULL))
  ORDER BY started_at DESC LIMIT 1`;

/** Whether the run that would be gone on with was last taken up with these keys, and so they have been tried. */
export async function hasTried(
  sql: Sql,
  keys: string,
  shape: TableShape,
  target: string,
  resume: string | null,
): Promise<boolean> {
  const rows = await sql.query(
    `SELECT 1 FROM token_encryption_runs WHERE counters->>'keys' = $1 AND id = (${TO_GO_ON_WITH})`,
    [keys, shape.table, target, columnsOf(shape), resume],
  );
  return rows.length > 0;
}

/**
 * Takes over an unfinished run to the same target, or begins one, for a process that holds the table alone. The
 * checkpoint of a run from before there were ranges comes with it.
 * @throws UnknownRunError
 */
export async function openRun(
  sql: Sql,
  shape: TableShape,
  target: string,
  how: { resume: string | null; restart: boolean; keys: string },
): Promise<Run & { resumed: boolean; checkpoint: string | null }> {
  const generation = randomUUID();
  if (how.resume !== null) await requireRun(sql, how.resume, shape, target);
  if (how.restart) {
    await sql.query(
      `WITH left_behind AS (UPDATE token_encryption_runs SET status = 'abandoned', finished_at = now(), updated_at = now() WHERE table_name = $1 AND finished_at IS NULL RETURNING id),
         their_races AS (DELETE FROM token_encryption_lost_races WHERE run_id IN (SELECT id FROM left_behind))
       DELETE FROM token_encryption_ranges WHERE run_id IN (SELECT id FROM left_behind)`,
      [shape.table],
    );
  }
  const [row] = await sql.query<Run & { checkpoint: string | null }>(
    `UPDATE token_encryption_runs SET owner = $1, status = 'running', request = NULL, pace = NULL, reason = NULL, finished_at = NULL, last_sweep = sweep + ${MAX_SWEEPS}, updated_at = now(),
       counters = counters || jsonb_build_object('keys', $6::text) WHERE id = (${TO_GO_ON_WITH}) RETURNING ${RUN}, checkpoint`,
    [generation, shape.table, target, columnsOf(shape), how.resume, how.keys],
  );
  if (row) return { ...asRun(row), checkpoint: row.checkpoint, resumed: true };
  const id = `${new Date().toISOString().slice(0, 10)}-${randomUUID().slice(0, 8)}`;
  const [begun] = await sql.query<Run>(
    `INSERT INTO token_encryption_runs (id, table_name, target_kid, mode, status, sweep, last_sweep, sweep_started_at, counters, owner) VALUES ($1, $2, $3, 'execute', 'running', 1, ${MAX_SWEEPS}, clock_timestamp(), $4, $5) RETURNING ${RUN}`,
    [
      id,
      shape.table,
      target,
      JSON.stringify({
        ...noCounters(),
        columns: [shape.idColumn, ...shape.columns],
        keys: how.keys,
      }),
      generation,
    ],
  );
  if (!begun) throw new FencedError(`run ${id} is gone`);
  return { ...asRun(begun), checkpoint: null, resumed: false };
}

/**
 * A run that can be gone on with, as its flags say. A cancelled one can, when it is asked for by its name.
 * @throws UnknownRunError
 */
export async function requireRun(
  sql: Sql,
  id: string,
  shape: TableShape,
  target: string,
): Promise<void> {
  const [known] = await sql.query<{ same: boolean; status: RunStatus; finished: boolean }>(
    `SELECT table_name = $2 AND target_kid = $3 AND counters->'columns' = $4::jsonb AS same, status, finished_at IS NOT NULL AS finished FROM token_encryption_runs WHERE id = $1`,
    [id, shape.table, target, columnsOf(shape)],
  );
  if (!known) throw new UnknownRunError(`there is no run ${id}`);
  if (known.finished && known.status !== 'cancelled')
    throw new UnknownRunError(`run ${id} is finished already: start a new one without --resume`);
  if (!known.same)
    throw new UnknownRunError(`run ${id} is for another table, other columns or another target`);
}

const columnsOf = (shape: TableShape): string => JSON.stringify([shape.idColumn, ...shape.columns]);

/** As it stands. @throws UnknownRunError */
export async function readRun(sql: Sql, id: string): Promise<Run> {
  const [row] = await sql.query<Run>(`SELECT ${RUN} FROM token_encryption_runs WHERE id = $1`, [
    id,
  ]);
  if (!row) throw new UnknownRunError(`there is no run ${id}`);
  return asRun(row);
}

/** Writes down why a run rests, for whoever asks; null once it does not. */
export async function saveThrottle(
  sql: Sql,
  { id, generation }: Pick<Run, 'id' | 'generation'>,
  throttledBy: string | null,
): Promise<void> {
  await sql.query(
    'UPDATE token_encryption_runs SET throttled_by = $3 WHERE id = $1 AND owner = $2',
    [id, generation, throttledBy],
  );
}

/** @throws FencedError when the run was taken over */
export async function setStatus(
  sql: Sql,
  { id, generation }: Pick<Run, 'id' | 'generation'>,
  status: RunStatus,
  reason: string | null = null,
): Promise<void> {
  const rows = await sql.query(
    `UPDATE token_encryption_runs SET status = $3, reason = $4, throttled_by = NULL, updated_at = now(), finished_at = CASE WHEN $3 IN ('done', 'incomplete', 'cancelled') THEN now() END,
       checkpoint = CASE WHEN $3 IN ('done', 'incomplete') THEN NULL ELSE checkpoint END WHERE id = $1 AND owner = $2 RETURNING id`,
    [id, generation, status, reason],
  );
  if (rows.length === 0) throw new FencedError(`run ${id} was taken over by another process`);
}

/** Begins the next sweep: what is counted by sweep starts anew. @throws FencedError when the run was taken over */
export async function beginSweep(
  sql: Sql,
  { id, generation, sweep }: Pick<Run, 'id' | 'generation' | 'sweep'>,
): Promise<void> {
  const rows = await sql.query(
    `UPDATE token_encryption_runs SET sweep = sweep + 1, sweep_started_at = clock_timestamp(), checkpoint = NULL, updated_at = now(), counters = counters || jsonb_build_object(
       'scanned', 0, 'quarantined', 0, 'values', 0, 'lateBefore', coalesce((counters->>'late')::bigint, 0), 'remaining', '{"plain":0,"plan":0,"otherKid":0}'::jsonb)
     WHERE id = $1 AND owner = $2 AND sweep = $3 RETURNING id`,
    [id, generation, sweep],
  );
  if (rows.length === 0) throw new FencedError(`run ${id} was taken over by another process`);
}
