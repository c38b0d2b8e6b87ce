import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';
import { acknowledgedOf, startWriters, wrongRows, type Writers } from './testing/tokenWriters.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9));

jest.setTimeout(300_000);

describe(`several workers on one run (SEED=${SEED})`, () => {
  const writers: Writers[] = [];
  // Before the database goes that they write to.
  afterEach(async () => {
    for (const running of writers.splice(0)) await running.stop();
  });
  let { db, env } = {} as Ground;
  onFreshDatabase(
    (ground) => {
      ({ db, env } = ground);
    },
    { connections: 10 },
  );

  const slow = [
    '--execute',
    '--json',
    '--workers',
    '2',
    '--chunk-size',
    '10',
    '--max-rows-per-second',
    '50',
  ];
  /** Lets a slow run end soon. */
  const hurry = (id: string): Promise<h.JobExit> =>
    h.runJob(['pace', id, '--max-rows-per-second', 'none', '--chunk-size', '500'], env);
  const owners = async (): Promise<string[]> =>
    (
      await db.sql.query<{ owner: string }>(
        `SELECT DISTINCT split_part(owner, '/', 1) AS owner FROM token_encryption_ranges WHERE checkpoint IS NOT NULL AND owner IS NOT NULL`,
      )
    ).map(({ owner }) => owner);
  async function start(rows: readonly h.SeedRow[]): Promise<{ first: h.RunningJob; id: string }> {
    await h.insertRows(db, rows);
    const first = h.startJob(slow, env);
    const id = await until(
      async () =>
        (
          await db.sql.query<{ id: string }>(
            `SELECT id FROM token_encryption_runs WHERE (counters->>'scanned')::int > 0`,
          )
        )[0]?.id ?? null,
      { timeoutMs: 30_000, what: 'a run under way' },
    );
    return { first, id };
  }

  test('sweep ranges of their own, and with four writers beside them nothing is lost and no row written twice', async () => {
    const next = h.random(SEED);
    const rows = h.mixedRows(1_500, next);
    await h.insertRows(db, rows);
    const running = startWriters(db, rows, next, { plainShare: 0 });
    writers.push(running);
    const exit = await h.runJob(['--execute', '--json', '--workers', '4'], env);
    await running.stop();
    expect(exit).toMatchObject({
      code: 0,
      json: { scanned: 1_500, quarantined: 0, remaining: { plain: 0, plan: 0, otherKid: 0 } },
    });
    expect(exit.json.changed).toBeLessThanOrEqual(1_500);
    expect(running.lost).toEqual([]);
    expect(await wrongRows(db, running.acknowledged)).toEqual([]);
    expect(await db.sql.query('SELECT 1 FROM token_encryption_ranges')).toEqual([]);
    expect(await h.runJob(['--execute', '--json', '--workers', '3'], env)).toMatchObject({
      code: 0,
      json: { scanned: 1_500, changed: 0, lostRace: 0 },
    });
  });

  test('of several machines share the ranges, and each process ends with the result of the whole run', async () => {
    const rows = h.mixedRows(900, () => 0.99);
    const { first, id } = await start(rows);
    const second = h.startJob([...slow, '--join', id], env);
    await until(async () => (await owners()).length > 1, {
      timeoutMs: 60_000,
      what: 'both at work',
    });
    await h.runJob(['pause', id], env);
    // A run that is not joined but begun has to wait all the same.
    expect(await h.runJob(['--execute'], env)).toMatchObject({
      code: 1,
      stderr: `encrypt-tokens: run ${id} is at work on user_sessions: wait for it to end, or stop it\n`,
    });
    await h.runJob(['resume', id], env);
    await hurry(id);
    for (const exit of [await first.exited, await second.exited])
      expect(exit).toMatchObject({
        code: 0,
        json: { run: id, scanned: 900, changed: 900, lostRace: 0 },
      });
    expect(await wrongRows(db, acknowledgedOf(rows))).toEqual([]);
  });

  test('go on without whichever process is killed, the first one too', async () => {
    const rows = h.mixedRows(900, () => 0.99);
    const { first, id } = await start(rows);
    const [second, third] = [
      h.startJob([...slow, '--join', id], env),
      h.startJob([...slow, '--join', id], env),
    ];
    await until(async () => (await owners()).length > 2, {
      timeoutMs: 60_000,
      what: 'all at work',
    });
    second.child.kill('SIGKILL');
    first.child.kill('SIGKILL');
    await hurry(id);
    const exit = await third.exited;
    expect(exit).toMatchObject({ code: 0, json: { run: id, scanned: 900, changed: 900 } });
    expect(await wrongRows(db, acknowledgedOf(rows))).toEqual([]);
  });

  test('leave one by one at a signal, and the run is interrupted when the last one has left', async () => {
    const { first, id } = await start(h.mixedRows(900, () => 0.99));
    const second = h.startJob([...slow, '--join', id], env);
    await until(async () => (await owners()).length > 1, {
      timeoutMs: 60_000,
      what: 'both at work',
    });
    const state = async (): Promise<object | undefined> =>
      (await db.sql.query('SELECT status FROM token_encryption_runs'))[0];
    first.child.kill('SIGTERM');
    expect(await first.exited).toMatchObject({ code: 130 });
    expect(await state()).toEqual({ status: 'running' });
    second.child.kill('SIGTERM');
    expect(await second.exited).toMatchObject({ code: 130 });
    expect(await state()).toEqual({ status: 'interrupted' });
    expect(await h.runJob(['--execute', '--join', id], env)).toMatchObject({
      code: 1,
      stderr: `encrypt-tokens: nobody is at work on run ${id}: continue it with --resume ${id}\n`,
    });
    expect(await h.runJob(['--execute', '--json', '--workers', '2'], env)).toMatchObject({
      code: 0,
      json: { run: id, scanned: 900, changed: 900, alreadyCurrent: 0 },
    });
  });

  test('with connections cut again and again, go on and lose nothing', async () => {
    const rows = h.mixedRows(600, () => 0.99);
    const { first, id } = await start(rows);
    for (let cut = 0; cut < 5 && first.child.exitCode === null; cut++) {
      const before = await db.sql.query<{ scanned: number; sweep: number }>(
        `SELECT sweep, (counters->>'scanned')::int AS scanned FROM token_encryption_runs`,
      );
      await db.sql.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'session-gateway-encrypt-tokens'`,
      );
      await until(
        async () => {
          const [now] = await db.sql.query<{ scanned: number; sweep: number }>(
            `SELECT sweep, (counters->>'scanned')::int AS scanned FROM token_encryption_runs`,
          );
          return (
            first.child.exitCode !== null ||
            now?.sweep !== before[0]?.sweep ||
            (now?.scanned ?? 0) > (before[0]?.scanned ?? 0) + 20
          );
        },
        { timeoutMs: 60_000, what: 'the job going on' },
      );
    }
    await hurry(id);
    const exit = await first.exited;
    expect([
      exit.code,
      exit.stderr.split('\n').filter((line) => line.startsWith('encrypt-tokens:')),
    ]).toEqual([0, []]);
    expect(exit.json).toMatchObject({ scanned: 600, changed: 600 });
    expect(await wrongRows(db, acknowledgedOf(rows))).toEqual([]);
  });

  test('rows that are touched all the time are written when told by their tokens, and nothing is lost', async () => {
    const next = h.random(SEED + 1);
    const rows = h.mixedRows(300, next);
    await h.insertRows(db, rows);
    const state = { stop: false };
    const touching = (async () => {
      while (!state.stop) await db.sql.query('UPDATE user_sessions SET last_accessed_at = now()');
    })();
    const running = startWriters(db, rows, next, { count: 2, plainShare: 0 });
    writers.push(running);
    const exit = await h.runJob(
      ['--execute', '--json', '--cas', 'digest', '--chunk-size', '20'],
      env,
    );
    state.stop = true;
    await touching;
    await running.stop();
    expect([0, 3]).toContain(exit.code);
    expect(running.lost).toEqual([]);
    expect(await h.runJob(['--execute', '--json', '--cas', 'digest'], env)).toMatchObject({
      code: 0,
    });
    expect(await wrongRows(db, running.acknowledged)).toEqual([]);
  });
});
