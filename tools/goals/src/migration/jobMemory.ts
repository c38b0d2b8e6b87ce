import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import {
  killJobs,
  newDatabase,
  open,
  PROGRAM,
  startJob,
} from '../../../migrations/src/testing/jobHarness.js';
import { runGoal } from '../harness/goal.js';
import { heldBy } from '../harness/process.js';
import { median, rounded } from '../harness/statistics.js';

/** What the collector's leisure may look like; the tokens of all rows are far more. */
const GROWTH_LIMIT_MB = 48;
const SAMPLE_MS = 200;
const TOKEN_BYTES = 323;
/** The known-bad variant: a program that keeps a little of all that passes. */
const HOARD =
  'data:text/javascript,const kept=[];setInterval(()=>kept.push(Buffer.alloc(3e6,1)),100).unref()';

/** The re-encryption job's memory over a table of any size: it must not grow with the rows. */
await runGoal('job-memory', async ({ full, random, progress }) => {
  const rows = full ? 1_000_000 : 60_000;
  const env = (url: string) => ({
    DATABASE_URL: url,
    SESSION_TOKEN_KEYRING: JSON.stringify({
      primary: 'k1',
      keys: [{ kid: 'k1', key: random.bytes(32).toString('base64url') }],
    }),
  });
  const postgres = await startPostgres({
    settings: { shared_buffers: "'256MB'", max_wal_size: "'4GB'" },
  });
  try {
    const url = await seed(postgres, rows);
    const job = await watch(['--execute', '--json', '--duty', '1'], env(url), [], (scanned) =>
      progress(() => `${scanned} of ${2 * rows} rows in two sweeps`),
    );
    const hoarding = await watch(
      ['--execute', '--json', '--duty', '1'],
      env(await seed(postgres, Math.min(rows, 60_000))),
      ['--import', HOARD],
      () => undefined,
    );
    if (job.json.changed !== rows)
      throw new Error(`the job changed ${job.json.changed} of ${rows} rows`);
    return {
      passed: job.growthMb <= GROWTH_LIMIT_MB && hoarding.growthMb > GROWTH_LIMIT_MB,
      rows,
      growthMb: job.growthMb,
      limitMb: GROWTH_LIMIT_MB,
      megabytes: job.megabytes,
      rowsPerSecond: Math.round(rows / (job.json.durationMs / 1000)),
      readMb: rounded((rows * TOKEN_BYTES * 3) / 1e6),
      controls: { hoarding: hoarding.growthMb },
    };
  } finally {
    killJobs();
    await postgres.dispose();
  }
});

async function seed(postgres: TestPostgres, rows: number): Promise<string> {
  const url = await newDatabase(postgres);
  const db = open(url, 1);
  const token = (column: string): string => `'eyJ' || repeat(md5(n || '${column}'), 10)`;
  for (let at = 0; at < rows; at += 20_000) {
    await db.sql.query(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, expires_at, access_token, refresh_token, id_token, metadata, updated_at)
       SELECT 's-' || lpad(n::text, 8, '0'), 'u', 'sid-' || n, now() + interval '1 day', ${token('a')}, ${token('r')}, ${token('i')}, '{}', now() FROM generate_series($1::int, $2::int) AS n`,
      [at, Math.min(rows, at + 20_000) - 1],
    );
  }
  await db.sql.query('ANALYZE user_sessions');
  await db.close();
  return url;
}

/**
 * Runs a job and compares what it holds in its last third with its second: the first is for the pools and the compiler.
 */
async function watch(
  args: readonly string[],
  env: Record<string, string>,
  flags: readonly string[],
  onScanned: (scanned: number) => void,
) {
  const job = startJob(args, env, [process.execPath, ...flags, PROGRAM, 'encrypt-tokens']);
  const db = open(env['DATABASE_URL'] ?? '', 1);
  const samples: number[] = [];
  let asked = 0;
  const timer = setInterval(() => {
    if (job.child.exitCode !== null || job.child.pid === undefined) return;
    try {
      samples.push(heldBy(job.child.pid).megabytes);
    } catch {
      // It has just ended.
    }
    if (asked++ % 25 !== 0) return;
    db.sql
      .query<{ scanned: number }>(
        `SELECT (counters->>'scanned')::int AS scanned FROM token_encryption_runs`,
      )
      .then(
        ([run]) => onScanned(run?.scanned ?? 0),
        () => undefined,
      );
  }, SAMPLE_MS);
  const exit = await job.exited;
  clearInterval(timer);
  await db.close();
  if (exit.code !== 0)
    throw new Error(`the job ended with ${exit.code}: ${exit.stderr.slice(-1_000)}`);
  if (samples.length < 15)
    throw new Error(`only ${samples.length} samples: the job was too quick to say`);
  const third = Math.floor(samples.length / 3);
  const [second, last] = [
    median(samples.slice(third, 2 * third)),
    median(samples.slice(2 * third)),
  ];
  return {
    json: exit.json,
    growthMb: rounded(last - second),
    megabytes: {
      second: rounded(second),
      last: rounded(last),
      most: rounded(Math.max(...samples)),
    },
  };
}
