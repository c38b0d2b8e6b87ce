import { describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';
import { tableHealth, vacuumAdvice } from './vacuum.js';

describe('vacuum and the job', () => {
  let { db, env } = {} as Ground;
  onFreshDatabase(async (ground) => {
    ({ db, env } = ground);
    await h.insertRows(
      db,
      h.mixedRows(300, () => 0.99),
    );
    await db.sql.query(
      `ALTER TABLE user_sessions SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.4, toast.autovacuum_enabled = false)`,
    );
  });
  const slow = [
    '--execute',
    '--json',
    '--vacuum',
    '--chunk-size',
    '10',
    '--max-rows-per-second',
    '100',
  ];
  const settings = async (): Promise<string[]> =>
    (
      await db.sql.query<{ option: string }>(
        `SELECT unnest(c.reloptions) AS option FROM pg_class c WHERE c.oid = 'user_sessions'::regclass UNION ALL SELECT 'toast.' || unnest(t.reloptions) FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = 'user_sessions'::regclass ORDER BY 1`,
      )
    ).map(({ option }) => option);
  const BEFORE = [
    'autovacuum_vacuum_scale_factor=0.4',
    'fillfactor=90',
    'toast.autovacuum_enabled=false',
  ];
  const tuned = (): Promise<unknown> =>
    until(async () => (await settings()).includes('toast.autovacuum_vacuum_scale_factor=0.02'), {
      timeoutMs: 20_000,
      what: 'other settings',
    });

  test("the table's settings are others while a run with --vacuum is under way, and as before at its end", async () => {
    const job = h.startJob(slow, env);
    await tuned();
    expect(await settings()).toEqual(
      expect.arrayContaining([
        'fillfactor=90',
        'autovacuum_vacuum_scale_factor=0.02',
        'toast.autovacuum_enabled=true',
      ]),
    );
    job.child.kill('SIGTERM');
    const exit = await job.exited;
    expect(exit.stderr).toContain('autovacuum treats user_sessions as before again');
    expect(await settings()).toEqual(BEFORE);
  });

  test("a killed run's settings are put back by the next one, with or without --vacuum", async () => {
    for (const next of [slow, ['--execute']]) {
      const job = h.startJob(slow, env);
      await tuned();
      await until(() => /\brun \S+/.test(job.stderr()), {
        timeoutMs: 20_000,
        what: 'a run to go on with',
      });
      job.child.kill('SIGKILL');
      await job.exited;
      expect(await settings()).not.toEqual(BEFORE);
      const second = h.startJob(next, env);
      if (next === slow) {
        await until(() => second.stderr().includes('continuing run'), {
          timeoutMs: 20_000,
          what: 'the killed run going on',
        });
        second.child.kill('SIGTERM');
      }
      await second.exited;
      expect(await settings()).toEqual(BEFORE);
    }
    expect(await db.sql.query('SELECT 1 FROM token_encryption_vacuum')).toEqual([]);
  });

  test("a run reports the table's size and dead rows, and recommends a vacuum where it is worth one", async () => {
    const before = await tableHealth(db.sql, 'user_sessions');
    const { stdout } = await h.runJob(['--execute'], env);
    expect(stdout).toMatch(
      /table +[\d.]+ [kM]B before, [\d.]+ [kM]B after, with [\d,]+ old versions of rows for vacuum/,
    );
    const after = await until(
      async () => {
        const health = await tableHealth(db.sql, 'user_sessions');
        return health.deadRows >= 300 && health;
      },
      { timeoutMs: 20_000, what: 'PostgreSQL counting dead rows' },
    );
    expect(after.bytes).toBeGreaterThan(before.bytes);
    expect(vacuumAdvice('user_sessions', before, after)).toMatch(
      /^VACUUM \(ANALYZE\) "user_sessions" gives the room of \d+ old versions/,
    );
    expect(
      vacuumAdvice('user_sessions', before, {
        bytes: before.bytes * 3,
        liveRows: 300,
        deadRows: 0,
      }),
    ).toMatch(/^the table takes 3\.0 times the room/);
    expect(vacuumAdvice('user_sessions', before, before)).toBeNull();
  });
});
