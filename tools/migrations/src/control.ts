import type { Database } from '@session-gateway/database';
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
export interface Unreadable {
  readonly table: string;
  readonly column: string;
  readonly row: string;
  readonly reason: string;
  readonly firstSeenAt: Date;
  readonly lastSeenAt: Date;
}

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
export async function control(
  { verb, run, pace }: ControlOptions,
  db: Database,
): Promise<Controlled> {
  const { sql } = db;
  if (!(await hasBooks(sql))) {
    if (run !== null) throw new UnknownRunError(`there is no run ${run}`);
    return { lines: ['no run has ever written to this database'], runs: [], quarantine: [] };
  }
  if (run === null) return status(await states(db, null), []);
  const [state] = await states(db, run);
  if (!state) throw new UnknownRunError(`there is no run ${run}`);
  if (verb === 'status') return status([state], await unreadable(db, state));
  if (state.finishedAt)
    throw new UnknownRunError(
      `run ${run} is ${said(state)} already${state.status === 'cancelled' ? `: go on with --execute --resume ${run}` : ''}`,
    );

  if (verb === 'cancel' && !state.atWork) {
    await sql.query(
      `UPDATE token_encryption_runs SET status = 'cancelled', finished_at = now(), updated_at = now() WHERE id = $1`,
      [run],
    );
    return one(
      db,
      run,
      `run ${run} is cancelled. What it has written stays; --execute --resume ${run} would go on with it`,
    );
  }
  if (!state.atWork)
    throw new UnknownRunError(
      `nobody is at work on run ${run}: go on with --execute --resume ${run}`,
    );
  if (verb === 'pace') {
    await sql.query(
      `UPDATE token_encryption_runs SET pace = coalesce(pace, '{}') || $2::jsonb WHERE id = $1`,
      [run, JSON.stringify(pace)],
    );
    return one(db, run, `run ${run} has another pace from its next batch on`);
  }
  const { tokenEncryptionRun } = await db.typed();
  await tokenEncryptionRun.updateMany({
    where: { id: run },
    data: { request: verb === 'resume' ? null : verb },
  });
  const wanted: Readonly<Record<string, RunStatus>> = {
    pause: 'paused',
    cancel: 'cancelled',
    resume: 'running',
  };
  const [now] = await honoured(db, run, wanted[verb] ?? 'running');
  if (!now) throw new UnknownRunError(`run ${run} is gone`);
  if (now.finishedAt && now.status !== 'cancelled')
    return one(db, run, `run ${run} came to its end first: ${said(now)}`);
  if (now.status !== wanted[verb])
    return one(
      db,
      run,
      `run ${run} has been asked to ${verb}, and is still ${said(now)}: see its status`,
    );
  return one(db, run, verb === 'resume' ? `run ${run} is going on` : `run ${run} is ${said(now)}`);
}

async function honoured(db: Database, run: string, wanted: RunStatus): Promise<RunState[]> {
  const end = Date.now() + HONOURED_WITHIN_MS;
  for (;;) {
    const found = await states(db, run);
    if (found[0]?.status === wanted || found[0]?.finishedAt || Date.now() >= end) return found;
    await rest(LOOK_EVERY_MS, () => false);
  }
}

async function one(db: Database, run: string, line: string): Promise<Controlled> {
  return { lines: [line], runs: await states(db, run), quarantine: [] };
}

async function states(db: Database, run: string | null): Promise<RunState[]> {
  const { tokenEncryptionRun } = await db.typed();
  const rows = await tokenEncryptionRun.findMany({
    where: run === null ? {} : { id: run },
    orderBy: { startedAt: 'desc' },
    take: LATEST_RUNS,
  });
  const atWork = new Map<string, boolean>();
  for (const { tableName, finishedAt } of rows)
    if (!finishedAt && !atWork.has(tableName))
      atWork.set(tableName, await isAtWork(db.sql, tableName));
  return rows.map((row) => ({
    run: row.id,
    table: row.tableName,
    target: row.targetKid,
    status: row.status as RunStatus,
    sweep: row.sweep,
    throttledBy: row.throttledBy,
    reason: row.reason,
    startedAt: row.startedAt,
    updatedAt: row.updatedAt,
    finishedAt: row.finishedAt,
    ...countersOf(row.counters),
    atWork: !row.finishedAt && (atWork.get(row.tableName) ?? false),
  }));
}

/** Of what a run keeps with its counters, only what is told of it. */
function countersOf(stored: unknown): Counters {
  const counters: Counters & { columns?: unknown; keys?: unknown } = {
    ...noCounters(),
    ...(stored as Counters),
  };
  delete counters.columns;
  delete counters.keys;
  return counters;
}

async function unreadable(db: Database, { table }: RunState): Promise<Unreadable[]> {
  const { tokenEncryptionQuarantine } = await db.typed();
  const rows = await tokenEncryptionQuarantine.findMany({
    where: { tableName: table },
    orderBy: [{ rowId: 'asc' }, { columnName: 'asc' }],
    take: LISTED + 1,
  });
  return rows.map(({ tableName, columnName, rowId, reason, firstSeenAt, lastSeenAt }) => ({
    table: tableName,
    column: columnName,
    row: rowId,
    reason,
    firstSeenAt,
    lastSeenAt,
  }));
}

function status(runs: readonly RunState[], quarantine: readonly Unreadable[]): Controlled {
  const listed = quarantine.slice(0, LISTED);
  return {
    runs,
    quarantine: listed,
    lines: [
      ...(runs.length === 0 ? ['no run has ever written to this database'] : runs.flatMap(told)),
      ...(listed.length === 0
        ? []
        : [
            '',
            'values that do not open',
            ...listed.map(
              ({ column, row, reason, firstSeenAt }) =>
                `  ${column} of row ${row}: ${reason}, since ${firstSeenAt.toISOString()}`,
            ),
          ]),
      ...(quarantine.length > LISTED
        ? [`  and more: SELECT * FROM token_encryption_quarantine`]
        : []),
    ],
  };
}

function told(state: RunState): string[] {
  const {
    run,
    table,
    target,
    sweep,
    scanned,
    changed,
    lostRace,
    late,
    quarantined,
    remaining,
    throttledBy,
    reason,
    updatedAt,
  } = state;
  const rows = (count: number): string => `${count} row${count === 1 ? '' : 's'}`;
  return [
    `run ${run}: ${table} to ${target === 'plain' ? 'plaintext' : `key ${target}`}, ${said(state)}, last heard of ${updatedAt.toISOString()}`,
    `  sweep ${sweep}: ${rows(scanned)} seen, ${changed} changed so far, ${lostRace} lost races; of this sweep ${quarantined} values do not open and ${remaining.plain + remaining.plan + remaining.otherKid} remain`,
    ...(late > 0
      ? [`  ${rows(late)} written meanwhile by programs that do not seal under ${target}`]
      : []),
    ...(throttledBy === null ? [] : [`  rests: ${throttledBy}`]),
    ...(reason === null ? [] : [`  because: ${reason}`]),
  ];
}

/** In words. What a killed process has left behind is not at work, whatever its last word was. */
function said({ status: word, atWork, finishedAt }: RunState): string {
  if (!finishedAt && !atWork && (word === 'running' || word === 'paused'))
    return 'stopped: its process is gone';
  if (word === 'done') return 'finished';
  return word === 'incomplete' ? 'finished, with values left' : word;
}
