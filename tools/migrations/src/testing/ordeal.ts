import { fileURLToPath } from 'node:url';
import type { Database } from '@session-gateway/database';
import { type TestPostgres, until } from '@session-gateway/testkit';
import { encryptTokens } from '../encryptTokens.js';
import { parseOptions } from '../options.js';
import type { WriteGuard } from '../tokenTable.js';
import * as h from './jobHarness.js';
import type { Point } from './points.js';
import { startWriters, type Writers, wrongRows } from './tokenWriters.js';

/** A table under writers, and what a job needs to work on it. */
export interface Ground {
  readonly postgres: TestPostgres;
  readonly url: string;
  readonly db: Database;
  readonly env: Readonly<Record<string, string>>;
  readonly rows: readonly h.SeedRow[];
}

export async function prepare(postgres: TestPostgres, rows: readonly h.SeedRow[]): Promise<Ground> {
  const url = await h.newDatabase(postgres);
  const db = h.open(url);
  await h.insertRows(db, rows);
  return { postgres, url, db, env: { ...h.ENV, DATABASE_URL: url }, rows };
}

/** Slow enough that a kill meets it at work. */
const KILLED = ['--execute', '--json', '--chunk-size', '50', '--max-rows-per-second', '4000'];
const KILLED_AT = [
  process.execPath,
  '--import',
  'tsx',
  fileURLToPath(new URL('killedAt.ts', import.meta.url)),
];

interface Checkpoint {
  readonly id: string;
  readonly sweep: number;
  readonly checkpoint: string | null;
}

export interface Kills {
  readonly killed: number;
  /** Runs that came to their end between kills. */
  readonly ended: number;
  /** Checkpoints that went backwards within one sweep of one run. */
  readonly back: number;
}

/** SIGKILL to a job at work, after a random time of up to 0.4 s, `count` times; each time it is started again. */
export async function killAtRandom(
  { db, env }: Ground,
  count: number,
  next: () => number,
  killed: (count: number) => void = () => undefined,
): Promise<Kills> {
  const seen: Checkpoint[] = [];
  let [kills, ended] = [0, 0];
  while (kills < count) {
    const job = h.startJob(KILLED, env);
    await until(() => /^(continuing )?run /m.test(job.stderr()) || job.child.exitCode !== null, {
      timeoutMs: 60_000,
      what: 'a run',
    });
    const armed = setTimeout(() => job.child.kill('SIGKILL'), Math.floor(next() * 400));
    const exit = await job.exited;
    clearTimeout(armed);
    if (exit.signal === 'SIGKILL') kills += 1;
    else if (exit.code === 0 || exit.code === 3) ended += 1;
    else throw new Error(`the job ended with ${exit.code}: ${exit.stderr}`);
    seen.push(
      ...(await db.sql.query<{ id: string; sweep: number; checkpoint: string | null }>(
        'SELECT id, sweep, checkpoint FROM token_encryption_runs ORDER BY started_at DESC LIMIT 1',
      )),
    );
    killed(kills);
  }
  const back = seen.slice(1).filter((run, index) => {
    const earlier = seen[index];
    return (
      earlier?.id === run.id &&
      (run.sweep < earlier.sweep ||
        (run.sweep === earlier.sweep &&
          run.checkpoint !== null &&
          earlier.checkpoint !== null &&
          run.checkpoint < earlier.checkpoint))
    );
  });
  return { killed: kills, ended, back: back.length };
}

/** A job that kills itself at a named point; false when it came to its end without passing it. */
export async function killAt({ env }: Ground, point: Point, nth: number): Promise<boolean> {
  const exit = await h.startJob(
    [point, String(nth), '--execute', '--chunk-size', '50'],
    env,
    KILLED_AT,
  ).exited;
  if (exit.signal !== 'SIGKILL' && exit.code !== 0)
    throw new Error(`the job ended with ${exit.code} instead of dying ${point}: ${exit.stderr}`);
  return exit.signal === 'SIGKILL';
}

/** PostgreSQL killed and started under a job at work, which goes on by itself; resolves when the job has ended. */
export async function restartPostgres(
  { postgres, db, env }: Ground,
  times: number,
): Promise<h.JobExit> {
  const job = h.startJob(
    ['--execute', '--restart', '--json', '--chunk-size', '50', '--max-rows-per-second', '1500'],
    env,
  );
  const id = await until(() => /^run (\S+)/m.exec(job.stderr())?.[1], {
    timeoutMs: 60_000,
    what: 'the run',
  });
  for (let outage = 1; outage <= times; outage++) {
    await until(
      async () => {
        const [run] = await db.sql.query<{ scanned: number }>(
          `SELECT (counters->>'scanned')::int AS scanned FROM token_encryption_runs WHERE id = $1`,
          [id],
        );
        return (run?.scanned ?? 0) > outage * 300;
      },
      { timeoutMs: 60_000, what: 'the job being under way' },
    );
    await postgres.kill();
    await until(() => job.stderr().split('trying again').length > outage, {
      timeoutMs: 30_000,
      what: 'the job noticing',
    });
    await postgres.start();
    await until(() => job.stderr().split('going on').length > outage, {
      timeoutMs: 30_000,
      what: 'the job going on',
    });
  }
  return job.exited;
}

/** Whatever must be true once a job has ended well and the writers have stopped, and is not. */
export async function faultsAtTheEnd({ db, env }: Ground, writers: Writers): Promise<string[]> {
  const verified = await h.runJob(['--verify', '--json'], env);
  const second = await h.runJob(['--execute', '--json'], env);
  return [
    ...writers.lost.map((lost) => `lost in flight: ${lost}`),
    ...(await wrongRows(db, writers.acknowledged)).map(
      (row) => `not what was acknowledged last: ${row}`,
    ),
    ...(verified.code === 0 ? [] : [`--verify ended with ${verified.code}: ${verified.stdout}`]),
    ...(second.code === 0 && second.json.changed === 0 && second.json.lostRace === 0
      ? []
      : [`a second run ended with ${second.code}: ${second.stdout}`]),
  ];
}

/** How many writes a weaker guard loses under the same writers, tried until some are lost. */
export async function lossesOf(
  guard: WriteGuard,
  postgres: TestPostgres,
  next: () => number,
  timeoutMs = 120_000,
): Promise<number> {
  const options = parseOptions(['--execute', '--chunk-size', '500']);
  if (!options) throw new Error('no options');
  return until(
    async () => {
      const { db, rows, url } = await prepare(postgres, h.mixedRows(600, next));
      const job = h.open(url);
      const writers = startWriters(db, rows, next);
      try {
        await until(() => writers.writes() > 20);
        await encryptTokens(options, {
          db: job,
          keyring: h.keyring,
          guard,
          stopRequested: () => false,
          watcher: { progress: () => undefined, note: () => undefined },
        });
        await writers.stop();
        return (
          writers.lost.length + (await wrongRows(db, writers.acknowledged, 'all')).length || null
        );
      } finally {
        await writers.stop();
        await job.close();
        await db.close();
      }
    },
    { timeoutMs, what: 'a lost write' },
  );
}
