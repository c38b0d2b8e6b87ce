import type { Database, Sql } from '@session-gateway/database';
import { type PaceLimits, rest } from './pace.js';
import { type Counters, hasBooks, noCounters, type RunStatus, UnknownRunError } from './runs.js';
import { isAtWork } from './tableLock.js';

/** What can be asked of a run from another terminal. */
export const VERBS = ['pause', 'resume', 'cancel', 'status', 'pace'] as const;
export type Verb = (typeof VERBS)[number];

export interface ControlOptions {
  readonly verb: Verb;
  /** Null: of `status` only, all runs. */
  readonly run: string | null;
  readonly pace: Partial<PaceLimits>;
  readonly json: boolean;
}

/** How a run stands. */
export interface RunState extends Counters {
  readonly run: string;
  readonly table: string;
  readonly target: string;
  readonly status: RunStatus;
  /** Whether any process is at work on it. */
  readonly atWork: boolean;
  readonly sweep: number;
  readonly throttledBy: string | null;
  readonly reason: string | null;
  readonly startedAt: Date;
  readonly updatedAt: Date;
  readonly finishedAt: Date | null;
}

/** Where a value that does not open is, and why; never what it is. */
export interface Unreadable { readonly table: string; readonly column: string; readonly row: string; readonly reason: string; readonly firstSeenAt: Date; readonly lastSeenAt: Date }

export interface Controlled {
  readonly lines: readonly string[];
  /** Of the run or runs that were asked about. */
  readonly runs: readonly RunState[];
  readonly quarantine: readonly Unreadable[];
}

/** A batch ends within three seconds; the process may be in the middle of one, and looks twice a second. */
const HONOURED_WITHIN_MS = 6_000;
const LOOK_EVERY_MS = 100;
const LATEST_RUNS = 20;
const LISTED = 200;

/** Does what was asked, and says when the run has honoured it. @throws UnknownRunError */
export async function control({ verb, run, pace }: ControlOptions, { sql }: Database): Promise<Controlled> {
  if (!(await hasBooks(sql))) {
    if (run !== null) throw new UnknownRunError(`there is no run ${run}`);
    return { lines: ['no run has ever written to this database'], runs: [], quarantine: [] };
  }
  if (run === null) return status(await states(sql, null), []);
  const [state] = await states(sql, run);
  if (!state) throw new UnknownRunError(`there is no run ${run}`);
  if (verb === 'status') return status([state], await unreadable(sql, state));
  if (state.finishedAt) throw new UnknownRunError(`run ${run} is ${said(state)} already${state.status === 'cancelled' ? `: go on with --execute --resume ${run}` : ''}`);

  if (verb === 'cancel' && !state.atWork) {
    await sql.query(`UPDATE token_encryption_runs SET status = 'cancelled', finished_at = now(), updated_at = now() WHERE id = $1`, [run]);
    return one(sql, run, `run ${run} is cancelled. What it has written stays; --execute --resume ${run} would go on with it`);
  }
  if (!state.atWork) throw new UnknownRunError(`nobody is at work on run ${run}: go on with --execute --resume ${run}`);
  if (verb === 'pace') {
    await sql.query(`UPDATE token_encryption_runs SET pace = coalesce(pace, '{}') || $2::jsonb WHERE id = $1`, [run, JSON.stringify(pace)]);
    return one(sql, run, `run ${run} has another pace from its next batch on`);
  }
  await sql.query('UPDATE token_encryption_runs SET request = $2 WHERE id = $1', [run, verb === 'resume' ? null : verb]);
  const wanted: Readonly<Record<string, RunStatus>> = { pause: 'paused', cancel: 'cancelled', resume: 'running' };
  const [now] = await honoured(sql, run, wanted[verb] ?? 'running');
  if (!now) throw new UnknownRunError(`run ${run} is gone`);
  if (now.finishedAt && now.status !== 'cancelled') return one(sql, run, `run ${run} came to its end first: ${said(now)}`);
  if (now.status !== wanted[verb]) return one(sql, run, `run ${run} has been asked to ${verb}, and is still ${said(now)}: see its status`);
  return one(sql, run, verb === 'resume' ? `run ${run} is going on` : `run ${run} is ${said(now)}`);
}

async function honoured(sql: Sql, run: string, wanted: RunStatus): Promise<RunState[]> {
  for (const end = Date.now() + HONOURED_WITHIN_MS; ; await rest(LOOK_EVERY_MS, () => false)) {
    const found = await states(sql, run);
    if (found[0]?.status === wanted || found[0]?.finishedAt || Date.now() >= end) return found;
  }
}

async function one(sql: Sql, run: string, line: string): Promise<Controlled> {
  return { lines: [line], runs: await states(sql, run), quarantine: [] };
}

async function states(sql: Sql, run: string | null): Promise<RunState[]> {
  const rows = await sql.query<Omit<RunState, 'atWork' | keyof Counters> & { counters: Counters & { columns?: unknown; keys?: unknown } }>(
    `SELECT id AS run, table_name AS "table", target_kid AS target, status, sweep, counters, throttled_by AS "throttledBy", reason, started_at AS "startedAt", updated_at AS "updatedAt", finished_at AS "finishedAt"
     FROM token_encryption_runs WHERE $1::text IS NULL OR id = $1 ORDER BY started_at DESC LIMIT ${LATEST_RUNS}`, [run]);
  const atWork = new Map<string, boolean>();
  for (const { table, finishedAt } of rows) if (!finishedAt && !atWork.has(table)) atWork.set(table, await isAtWork(sql, table));
  return rows.map(({ counters: { columns: _, keys: __, ...counters }, ...row }) => ({ ...row, ...noCounters(), ...counters, atWork: !row.finishedAt && (atWork.get(row.table) ?? false) }));
}

function unreadable(sql: Sql, { table }: RunState): Promise<Unreadable[]> {
  return sql.query<Unreadable & object>(
    `SELECT table_name AS "table", column_name AS "column", row_id AS "row", reason, first_seen_at AS "firstSeenAt", last_seen_at AS "lastSeenAt"
     FROM token_encryption_quarantine WHERE table_name = $1 ORDER BY row_id, column_name LIMIT ${LISTED + 1}`, [table]);
}

function status(runs: readonly RunState[], quarantine: readonly Unreadable[]): Controlled {
  const listed = quarantine.slice(0, LISTED);
  return {
    runs, quarantine: listed,
    lines: [
      ...(runs.length === 0 ? ['no run has ever written to this database'] : runs.flatMap(told)),
      ...(listed.length === 0 ? [] : ['', 'values that do not open', ...listed.map(({ column, row, reason, firstSeenAt }) => `  ${column} of row ${row}: ${reason}, since ${firstSeenAt.toISOString()}`)]),
      ...(quarantine.length > LISTED ? [`  and more: SELECT * FROM token_encryption_quarantine`] : []),
    ],
  };
}

function told(state: RunState): string[] {
  const { run, table, target, sweep, scanned, changed, lostRace, late, quarantined, remaining, throttledBy, reason, updatedAt } = state;
  const rows = (count: number): string => `${count} row${count === 1 ? '' : 's'}`;
  return [
    `run ${run}: ${table} to ${target === 'plain' ? 'plaintext' : `key ${target}`}, ${said(state)}, last heard of ${updatedAt.toISOString()}`,
    `  sweep ${sweep}: ${rows(scanned)} seen, ${changed} changed so far, ${lostRace} lost races; of this sweep ${quarantined} values do not open and ${remaining.plain + remaining.plan + remaining.otherKid} remain`,
    ...(late > 0 ? [`  ${rows(late)} written meanwhile by programs that do not seal under ${target}`] : []),
    ...(throttledBy === null ? [] : [`  rests: ${throttledBy}`]),
    ...(reason === null ? [] : [`  because: ${reason}`]),
  ];
}

/** In words. What a killed process has left behind is not at work, whatever its last word was. */
function said({ status: word, atWork, finishedAt }: RunState): string {
  return !finishedAt && !atWork && (word === 'running' || word === 'paused') ? 'stopped: its process is gone' : word === 'done' ? 'finished' : word === 'incomplete' ? 'finished, with values left' : word;
}
