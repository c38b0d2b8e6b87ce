import { createKeyring } from '@session-gateway/keycloak-auth';
import { startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import {
  COLUMNS,
  insertRows,
  killJobs,
  newDatabase,
  open,
  runJob,
  sealed,
  startJob,
  tokenOf,
} from '../../../migrations/src/testing/jobHarness.js';
import { runGoal } from '../harness/goal.js';
import { p99, rounded } from '../harness/statistics.js';
import type { Random } from '../harness/random.js';

const RATE_LIMIT = 0.8;
const LATENCY_LIMIT = 2;
const CI = { rows: 8_000, rounds: 5, windows: 3, windowMs: 5_000 };
const FULL = { rows: 50_000, rounds: 7, windows: 8, windowMs: 15_000 };
const CHUNK = 100;
/** What a gateway under some load does: so many renewals at once, each followed by a pause. */
const WRITERS = 4;
const PAUSE_MS = 8;
let copies = 0;

await runGoal('P4', async ({ full, random, progress }) => {
  const size = full ? FULL : CI;
  const keyringJson = JSON.stringify({
    primary: 'k2',
    keys: ['k1', 'k2'].map((kid) => ({ kid, key: random.bytes(32).toString('base64url') })),
  });
  const keyring = createKeyring({ keyringJson });
  const postgres = await startPostgres({
    durable: true,
    settings: { shared_buffers: "'256MB'", max_wal_size: "'2GB'" },
  });
  try {
    const template = await seed(postgres, size.rows);
    const env = (url: string): Record<string, string> => ({
      DATABASE_URL: url,
      SESSION_TOKEN_KEYRING: keyringJson,
    });

    // One after the other in turn, so that whatever slows the machine slows both.
    const ratios: {
      ratio: number;
      whole: number;
      jobRowsPerSecond: number;
      bareRowsPerSecond: number;
    }[] = [];
    for (let round = 0; round < size.rounds; round++) {
      const timeBare = async (): Promise<number> => bare(await copy(postgres, template), keyring);
      const timeJob = async (): Promise<{ writingMs: number; wholeMs: number }> =>
        job(env(await copy(postgres, template)), size.rows);
      const first = round % 2 === 0 ? await timeBare() : null;
      const { writingMs, wholeMs } = await timeJob();
      const bareMs = first ?? (await timeBare());
      ratios.push({
        ratio: bareMs / writingMs,
        whole: bareMs / wholeMs,
        jobRowsPerSecond: Math.round((size.rows / writingMs) * 1000),
        bareRowsPerSecond: Math.round((size.rows / bareMs) * 1000),
      });
      progress(
        () =>
          `round ${round + 1} of ${size.rounds}: ${ratios.map(({ ratio }) => ratio.toFixed(2)).join(', ')}`,
      );
    }
    ratios.sort((a, b) => a.ratio - b.ratio);
    const rate = ratios[Math.floor(ratios.length / 2)];
    if (!rate) throw new Error('no round was measured');

    const url = await copy(postgres, template);
    const measured = await latencies(url, env(url), keyring, size, random, progress);
    return {
      passed:
        rate.ratio >= RATE_LIMIT &&
        measured.ratio <= LATENCY_LIMIT &&
        measured.control > measured.ratio,
      rate: rounded(rate.ratio),
      rateLimit: RATE_LIMIT,
      withTheCleanSweep: rounded(rate.whole),
      jobRowsPerSecond: rate.jobRowsPerSecond,
      bareRowsPerSecond: rate.bareRowsPerSecond,
      rates: ratios.map(({ ratio }) => rounded(ratio)),
      rows: size.rows,
      latency: rounded(measured.ratio),
      latencyLimit: LATENCY_LIMIT,
      p99IdleMs: rounded(measured.idle),
      p99JobMs: rounded(measured.busy),
      writes: measured.writes,
      controls: { 'batches of 5,000 rows without a rest': rounded(measured.control) },
    };
  } finally {
    killJobs();
    await postgres.dispose();
  }
});

async function seed(postgres: TestPostgres, rows: number): Promise<string> {
  const url = await newDatabase(postgres);
  const db = open(url);
  await insertRows(
    db,
    Array.from({ length: rows }, (_, index) => {
      const id = `s-${String(index).padStart(6, '0')}`;
      const tokens = Object.fromEntries(
        COLUMNS.map((column) => [column, tokenOf(`${id}/${column}`)]),
      ) as Record<(typeof COLUMNS)[number], string>;
      return { id, stored: tokens, tokens };
    }),
  );
  await db.sql.query('VACUUM ANALYZE user_sessions');
  await db.close();
  return new URL(url).pathname.slice(1);
}

async function copy(postgres: TestPostgres, template: string): Promise<string> {
  const url = await postgres.createDatabase(`p4_${(copies += 1)}`, template);
  await postgres.query('CHECKPOINT');
  return url;
}

/**
 * The same rows read and the same bytes written in the same batches, by id, with nothing looked at and nothing sealed.
 */
async function bare(url: string, keyring: ReturnType<typeof createKeyring>): Promise<number> {
  const db = open(url, 2);
  try {
    const ids = await db.sql.query<{ id: string }>('SELECT id FROM user_sessions ORDER BY id');
    // Whose bytes they are does not matter here, only how many: prepared before the clock starts.
    const values = COLUMNS.map((column) =>
      sealed(tokenOf(`s-000000/${column}`), 's-000000', column, 'k2', 'user_sessions', keyring),
    );
    const began = performance.now();
    for (let at = 0, after = ''; at < ids.length; at += CHUNK) {
      after = await db.transaction(async (sql) => {
        const rows = await sql.query<{ id: string }>(
          'SELECT id, access_token, refresh_token, id_token FROM user_sessions WHERE id > $1 ORDER BY id LIMIT $2',
          [after, CHUNK],
        );
        await sql.query(
          `UPDATE user_sessions t SET access_token = w.a, refresh_token = w.r, id_token = w.i FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w(id, a, r, i) WHERE t.id = w.id`,
          [rows.map(({ id }) => id), ...values.map((value) => rows.map(() => value))],
        );
        return rows.at(-1)?.id ?? after;
      });
    }
    return performance.now() - began;
  } finally {
    await db.close();
  }
}

/**
 * The program at full pace, on PostgreSQL's clock: its writing sweep, up to the start of the next, and the whole run
 * with the sweep that finds nothing left.
 */
async function job(
  env: Record<string, string>,
  rows: number,
): Promise<{ writingMs: number; wholeMs: number }> {
  const exit = await runJob(
    ['--execute', '--json', '--duty', '1', '--chunk-size', String(CHUNK)],
    env,
  );
  if (exit.code !== 0 || exit.json.changed !== rows)
    throw new Error(`the job ended with ${exit.code}: ${exit.stderr}`);
  const db = open(env['DATABASE_URL'] ?? '', 1);
  try {
    const [run] = await db.sql.query<{ sweep: number; writingMs: number; wholeMs: number }>(
      `SELECT sweep, 1000 * extract(epoch FROM sweep_started_at - started_at)::float8 AS "writingMs", 1000 * extract(epoch FROM finished_at - started_at)::float8 AS "wholeMs" FROM token_encryption_runs`,
    );
    if (run?.sweep !== 2)
      throw new Error(
        `the job took ${run?.sweep} sweeps instead of one that writes and one that finds nothing`,
      );
    return run;
  } finally {
    await db.close();
  }
}

/**
 * How long a gateway's write takes, at the 99th percentile: with nobody else, with the job, and with
 * a job that is in a hurry.
 */
async function latencies(
  url: string,
  env: Record<string, string>,
  keyring: ReturnType<typeof createKeyring>,
  size: typeof CI,
  random: Random,
  progress: (line: () => string) => void,
) {
  const db = open(url, WRITERS);
  const taken = { idle: [] as number[], busy: [] as number[], hurried: [] as number[] };
  const renew = async (into: number[], until: number): Promise<void> => {
    while (performance.now() < until) {
      const id = `s-${String(random.below(size.rows)).padStart(6, '0')}`;
      const values = COLUMNS.map((column) =>
        sealed(
          tokenOf(`${id}/${column}/${random.below(1e9)}`),
          id,
          column,
          'k2',
          'user_sessions',
          keyring,
        ),
      );
      const began = performance.now();
      await db.sql.query(
        'UPDATE user_sessions SET access_token = $2, refresh_token = $3, id_token = $4, version = version + 1, updated_at = now() WHERE id = $1',
        [id, ...values],
      );
      into.push(performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  };
  const measure = (into: number[]): Promise<unknown> =>
    Promise.all(
      Array.from({ length: WRITERS }, () => renew(into, performance.now() + size.windowMs)),
    );
  /** Each run rewrites every row once more, for the other key, until its window is over. */
  const under = async (into: number[], flags: readonly string[]): Promise<void> => {
    const open = { window: true };
    const runs = (async () => {
      for (let run = 0; open.window; run++) {
        const running = startJob(
          ['--execute', '--restart', '--json', '--to', run % 2 === 0 ? 'k1' : 'k2', ...flags],
          env,
        );
        await Promise.race([running.exited, until(() => !open.window, { timeoutMs: 600_000 })]);
        running.child.kill('SIGTERM');
        await running.exited;
      }
    })();
    await until(
      async () =>
        (
          await db.sql.query(
            `SELECT 1 FROM token_encryption_runs WHERE status = 'running' AND (counters->>'scanned')::int > 0`,
          )
        ).length > 0,
      { timeoutMs: 30_000, what: 'the job being under way' },
    );
    await measure(into);
    open.window = false;
    await runs;
  };
  try {
    await measure([]);
    for (let window = 0; window < size.windows; window++) {
      await measure(taken.idle);
      await under(taken.busy, []);
      await under(taken.hurried, ['--chunk-size', '5000', '--duty', '1']);
      progress(
        () =>
          `window ${window + 1} of ${size.windows}: p99 ${p99(taken.idle).toFixed(1)} ms idle, ${p99(taken.busy).toFixed(1)} ms with the job, ${p99(taken.hurried).toFixed(1)} ms with one in a hurry`,
      );
    }
    const [idle, busy, hurried] = [p99(taken.idle), p99(taken.busy), p99(taken.hurried)];
    return {
      idle,
      busy,
      ratio: busy / idle,
      control: hurried / idle,
      writes: taken.idle.length + taken.busy.length,
    };
  } finally {
    await db.close();
  }
}
