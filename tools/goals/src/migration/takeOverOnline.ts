import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { text } from 'node:stream/consumers';
import {
  type OriginalApplication,
  seedOriginalSessions,
  sessionsLost,
  startOriginalApplication,
  startPostgres,
  type TestPostgres,
} from '@session-gateway/testkit';
import pg from 'pg';
import { runGoal } from '../harness/goal.js';
import { p99, rounded } from '../harness/statistics.js';

const MIGRATIONS = 'libs/database/prisma/migrations';
const MIGRATE = ['--import', 'tsx', 'libs/database/src/main.ts', 'migrate'];
/** Nothing of the take-over may hold a statement up so long, whatever else the machine does. */
const LOCK_MS = 1_000;
/** With --full only: who shares a machine's cores shares their times. */
const P99_RATIO = 2;
const SAMPLE_MS = 10_000;
/** A program needs a moment until it is at work. */
const SHORTEST_LIFE_MS = 800;
const LIVES_MS = 4_000;

/**
 * A large database of the original application is taken over while that application reads and writes, by a program that
 * is killed again and again: nothing is lost, no statement fails, and with --full the 99th percentile stays within
 * twice that of an idle database. The known-bad variant is the same SQL in one transaction.
 */
await runGoal('take-over', async ({ full, random, progress }) => {
  const rows = full ? 1_000_000 : 100_000;
  const kills = full ? 50 : 5;
  const postgres = await startPostgres({
    settings: { shared_buffers: "'256MB'", max_wal_size: "'4GB'" },
  });
  try {
    await seed(postgres, rows);
    const url = await postgres.createDatabase(undefined, 'seeded');
    const application = await startOriginalApplication(url, { rows, lockMs: LOCK_MS });
    if (full) await delay(SAMPLE_MS);
    const idle = application.takeTimes();
    const began = performance.now();
    let killed = 0;
    while (killed < kills && (await runAndKill(url, SHORTEST_LIFE_MS + random.below(LIVES_MS)))) {
      killed++;
      progress(() => `killed ${killed} times`);
    }
    const left = await migrate(url).ended;
    const seconds = (performance.now() - began) / 1000;
    const during = application.takeTimes();
    await application.stop();
    const lost = await lostIn(url, application);
    const ratio = p99(during) / p99(idle);
    const inOneTransaction = await failuresInOneTransaction(postgres, rows);
    return {
      passed:
        left.code === 0 &&
        lost.length === 0 &&
        application.failures.length === 0 &&
        inOneTransaction > 0 &&
        (!full || ratio <= P99_RATIO),
      rows,
      killed,
      seconds: Math.round(seconds),
      statements: application.statements(),
      lost: lost.length,
      failed: application.failures.length,
      ...(full ? { p99IdleMs: rounded(p99(idle)), p99Ratio: rounded(ratio) } : {}),
      p99Ms: rounded(p99(during)),
      longestMs: Math.round(during.reduce((most, one) => Math.max(most, one), 0)),
      ...(left.code === 0 ? {} : { said: left.said.slice(-500) }),
      controls: { failedInOneTransaction: inOneTransaction },
    };
  } finally {
    await postgres.dispose();
  }
});

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

async function seed(postgres: TestPostgres, rows: number): Promise<void> {
  const client = await connect(await postgres.createDatabase('seeded'));
  await client.query(await readFile(join(MIGRATIONS, '0_init/migration.sql'), 'utf8'));
  await seedOriginalSessions(client, rows);
  await client.query('ANALYZE');
  await client.end();
}

function migrate(url: string): {
  child: ChildProcess;
  ended: Promise<{ code: number | null; said: string }>;
} {
  const child = spawn(process.execPath, MIGRATE, {
    env: { ...process.env, DATABASE_URL: url },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said = text(child.stderr);
  const ended = once(child, 'close').then(async () => ({ code: child.exitCode, said: await said }));
  return { child, ended };
}

/** Whether it was killed before it had ended. @throws what it said where it failed by itself */
async function runAndKill(url: string, lifeMs: number): Promise<boolean> {
  const { child, ended } = migrate(url);
  const timer = setTimeout(() => child.kill('SIGKILL'), lifeMs);
  const { code, said } = await ended;
  clearTimeout(timer);
  if (code !== null && code !== 0) throw new Error(`the migration ended with ${code}: ${said}`);
  return code === null;
}

async function lostIn(url: string, application: OriginalApplication): Promise<string[]> {
  const client = await connect(url);
  try {
    return await sessionsLost(client, application);
  } finally {
    await client.end();
  }
}

async function failuresInOneTransaction(postgres: TestPostgres, rows: number): Promise<number> {
  const url = await postgres.createDatabase(undefined, 'seeded');
  const application = await startOriginalApplication(url, { rows, lockMs: LOCK_MS });
  const client = await connect(url);
  await client.query(
    await readFile(join(MIGRATIONS, '20250901000100_sealed-sessions/migration.sql'), 'utf8'),
  );
  await client.end();
  await application.stop();
  return application.failures.length;
}
