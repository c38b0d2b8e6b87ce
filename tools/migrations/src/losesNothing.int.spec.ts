import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Database } from '@session-gateway/database';
import { startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import { encryptTokens } from './encryptTokens.js';
import { parseOptions } from './options.js';
import * as h from './testing/jobHarness.js';
import { type Acknowledged, startWriters, wrongRows } from './testing/tokenWriters.js';
import type { WriteGuard } from './tokenTable.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9));
/** Every failure says how to repeat it. */
const seeded = (text: string): string => `${text} (SEED=${SEED})`;

describe(seeded('the job, while others write the same rows'), () => {
  let postgres: TestPostgres;
  beforeAll(async () => { postgres = await startPostgres(); });
  afterAll(async () => {
    h.killJobs();
    await postgres?.dispose();
  });

  const cleanups: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  const write: typeof startWriters = (...how) => {
    const writers = startWriters(...how);
    cleanups.push(writers.stop);
    return writers;
  };

  async function database(rows: readonly h.SeedRow[]): Promise<{ url: string; db: Database; env: Record<string, string> }> {
    const url = await h.newDatabase(postgres);
    const db = h.open(url);
    cleanups.push(() => db.close());
    await h.insertRows(db, rows);
    return { url, db, env: { ...h.ENV, DATABASE_URL: url } };
  }

  /** What must be true after every run that ended well. */
  async function expectAllSealed(db: Database, env: Record<string, string>, acknowledged: Acknowledged): Promise<void> {
    expect(await wrongRows(db, acknowledged)).toEqual([]);
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({ code: 0, json: { mode: 'verify', run: null, quarantined: 0, remaining: { plain: 0, plan: 0, otherKid: 0 } } });
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({ code: 0, json: { changed: 0, lostRace: 0 } });
  }

  test('loses no write of four writers on ten thousand rows, and touches nothing but tokens', async () => {
    const next = h.random(SEED);
    const rows = h.mixedRows(10_000, next);
    const { db, env } = await database(rows);
    const untouchable = `SELECT id, md5((to_jsonb(t) - '{access_token,refresh_token,id_token}'::text[])::text) AS md5 FROM user_sessions t`;
    const before = new Map((await db.sql.query<{ id: string; md5: string }>(untouchable)).map(({ id, md5 }) => [id, md5]));
    const writers = write(db, rows, next, { plainShare: 0 });
    const exit = await h.runJob(['--execute', '--json'], env);
    await writers.stop();
    expect(exit).toMatchObject({ code: 0, json: { mode: 'execute', scanned: 10_000, quarantined: 0, remaining: { plain: 0, plan: 0, otherKid: 0 } } });
    expect(exit.stdout.trim().split('\n')).toHaveLength(1);
    expect(writers.lost).toEqual([]);
    expect(writers.writes()).toBeGreaterThan(100);
    await expectAllSealed(db, env, writers.acknowledged);
    const after = await db.sql.query<{ id: string; md5: string }>(untouchable);
    expect(after.filter(({ id, md5 }) => !writers.touched.has(id) && before.get(id) !== md5)).toEqual([]);
  });

  test('ends, with 3 if need be, while an older gateway goes on writing plaintext, and with 0 after that', async () => {
    const next = h.random(SEED + 1);
    const rows = h.mixedRows(300, next);
    const { db, env } = await database(rows);
    const writers = write(db, rows, next, { plainShare: 50 });
    const exit = await h.runJob(['--execute', '--json'], env);
    await writers.stop();
    expect([0, 3]).toContain(exit.code);
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({ code: 0 });
    expect(writers.lost).toEqual([]);
    await expectAllSealed(db, env, writers.acknowledged);
  });

  test.each<[WriteGuard]>([['none'], ['skip-locked-only']])('with the guard "%s" instead of the xmin compare, the same writers lose writes', async (guard) => {
    const next = h.random(SEED + 2);
    const options = parseOptions(['--execute', '--chunk-size', '500']);
    const lost = await until(async () => {
      const rows = h.mixedRows(600, next);
      const { url, db } = await database(rows);
      const job = h.open(url);
      cleanups.push(() => job.close());
      const writers = write(db, rows, next);
      await until(() => writers.writes() > 20);
      await encryptTokens(options!, { db: job, keyring: h.keyring, guard, stopRequested: () => false, watcher: { progress: () => undefined, note: () => undefined } });
      await writers.stop();
      const wrong = await wrongRows(db, writers.acknowledged, 'all');
        return writers.lost.length + wrong.length > 0;
    }, { timeoutMs: 90_000, what: 'a lost write' });
    expect(lost).toBe(true);
  });

  test('killed again and again at random moments and started again, it ends with nothing lost', async () => {
    const next = h.random(SEED + 3);
    const rows = h.mixedRows(5_000, next);
    const { db, env } = await database(rows);
    const writers = write(db, rows, next, { count: 2, plainShare: 0 });
    let last: h.JobExit | undefined;
    let kills = 0;
    const seen: { id: string; sweep: number; checkpoint: string | null }[] = [];
    for (let starts = 0; starts < 40 && last?.code !== 0; starts++) {
      const job = h.startJob(['--execute', '--json', '--chunk-size', '50', '--max-rows-per-second', '4000'], env);
      if (kills < 15) {
        await until(() => /^(continuing )?run /m.test(job.stderr()) || job.child.exitCode !== null, { timeoutMs: 30_000, what: 'a run' });
        const untilKill = Math.floor(next() * 400);
        const armed = setTimeout(() => job.child.kill('SIGKILL'), untilKill);
        last = await job.exited;
        clearTimeout(armed);
        if (last.signal === 'SIGKILL') kills += 1;
        else if (last.code === 0) last = undefined;
      } else last = await job.exited;
      const [run] = await db.sql.query<{ id: string; sweep: number; checkpoint: string | null }>('SELECT id, sweep, checkpoint FROM token_encryption_runs ORDER BY started_at DESC LIMIT 1');
      if (run) seen.push(run);
    }
    await writers.stop();
    expect(kills).toBeGreaterThanOrEqual(15);
    expect(last).toMatchObject({ code: 0, json: { scanned: 5_000, quarantined: 0, remaining: { plain: 0, plan: 0, otherKid: 0 } } });
    expect(writers.lost).toEqual([]);
    // Within one sweep of one run a checkpoint only moves on.
    const back = seen.slice(1).filter((run, index) => {
      const earlier = seen[index];
      return earlier?.id === run.id && (run.sweep < earlier.sweep || (run.sweep === earlier.sweep && run.checkpoint !== null && earlier.checkpoint !== null && run.checkpoint < earlier.checkpoint));
    });
    expect(back).toEqual([]);
    // Every row was changed at least once by some run, and hardly more often than writers gave reason to.
    const [sum] = await db.sql.query<{ changed: number }>(`SELECT sum((counters->>'changed')::int)::int AS changed FROM token_encryption_runs`);
    expect(sum?.changed).toBeGreaterThan(5_000 - writers.touched.size - 1);
    expect(sum?.changed).toBeLessThanOrEqual(5_000);
    await expectAllSealed(db, env, writers.acknowledged);
  });

  test('PostgreSQL killed and started in the middle, it goes on by itself in the same process', async () => {
    const next = h.random(SEED + 4);
    const rows = h.mixedRows(4_000, next);
    const { db, env } = await database(rows);
    const writers = write(db, rows, next, { count: 2, plainShare: 0 });
    const job = h.startJob(['--execute', '--json', '--chunk-size', '50', '--max-rows-per-second', '1500'], env);
    for (let outage = 1; outage <= 2; outage++) {
      await until(async () => {
        const [run] = await db.sql.query<{ scanned: number }>(`SELECT (counters->>'scanned')::int AS scanned FROM token_encryption_runs`);
        return (run?.scanned ?? 0) > outage * 500;
      }, { timeoutMs: 30_000, what: 'the job being under way' });
      await postgres.kill();
      await until(() => job.stderr().split('trying again').length > outage, { what: 'the job noticing' });
      await postgres.start();
      await until(() => job.stderr().split('going on').length > outage, { timeoutMs: 30_000, what: 'the job going on' });
    }
    const exit = await job.exited;
    await writers.stop();
    expect(exit).toMatchObject({ code: 0, json: { scanned: 4_000, quarantined: 0 } });
    expect(writers.lost).toEqual([]);
    await expectAllSealed(db, env, writers.acknowledged);
  });
});
