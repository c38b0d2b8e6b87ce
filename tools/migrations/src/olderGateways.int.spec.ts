import { describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

describe('while an older gateway writes in its own form', () => {
  let { db, env } = {} as Ground;
  onFreshDatabase(async (ground) => {
    ({ db, env } = ground);
    await h.insertRows(
      db,
      h.mixedRows(60, () => 0.99),
    );
  });

  /** One row gets a token from a program that knows nothing of v2, each time the job begins another sweep. */
  async function writeAtEachSweep(value: string): Promise<void> {
    await db.sql.query(
      `CREATE FUNCTION write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE user_sessions SET access_token = '${value}', version = version + 1 WHERE id = 's-000007'; RETURN NEW; END $$`,
    );
    await db.sql.query(
      'CREATE TRIGGER older_gateway AFTER UPDATE ON token_encryption_runs FOR EACH ROW WHEN (NEW.sweep > OLD.sweep) EXECUTE FUNCTION write()',
    );
  }
  const replaceIt = (): Promise<unknown> =>
    db.sql.query('DROP TRIGGER older_gateway ON token_encryption_runs');

  test.each([
    ['plaintext', () => h.tokenOf('older')],
    ['the older format', () => h.planValue(h.tokenOf('older'))],
    ['the key before', () => h.sealed(h.tokenOf('older'), 's-000007', 'access_token', 'k26a')],
  ])(
    'writing %s, it is noticed and named, the job ends with 3, and catches up once it is gone',
    async (_, value) => {
      await writeAtEachSweep(value());
      const exit = await h.runJob(['--execute', '--json'], env);
      expect(exit).toMatchObject({
        code: 3,
        json: { scanned: 60, changed: 69, lostRace: 0, quarantined: 0 },
      });
      expect(exit.stderr).toContain(
        'sweep 2 found 1 row written meanwhile by a program that does not seal under k26b: an older gateway is still at work',
      );
      expect(exit.stderr).toMatch(
        /written meanwhile +9 rows, by a program that does not write under key k26b/,
      );
      expect(exit.stderr).toContain('replace the older gateways first, then run it again');
      expect((await h.runJob(['status'], env)).stdout).toMatch(
        /finished, with values left, .*\n.*\n {2}9 rows written meanwhile by programs that do not seal under k26b/,
      );

      await replaceIt();
      expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
        code: 0,
        json: { changed: 0, remaining: { plain: 0, plan: 0, otherKid: 0 } },
      });
      expect(await h.runJob(['--verify'], env)).toMatchObject({ code: 0 });
    },
  );

  test('and winning races against the job, each of its rows is counted, and none that was only locked or sealed by others', async () => {
    const ids = (from: number, to: number): string[] =>
      Array.from({ length: to - from }, (_, index) => `s-${String(from + index).padStart(6, '0')}`);
    const write = (id: string, token: string): Promise<unknown> =>
      db.sql.query('UPDATE user_sessions SET access_token = $2 WHERE id = $1', [id, token]);
    const lost = async (): Promise<number> =>
      (
        await db.sql.query<{ lost: number }>(
          `SELECT (counters->>'lostRace')::int AS lost FROM token_encryption_runs`,
        )
      )[0]?.lost ?? 0;
    const others = await db.pool.connect();
    await others.query('BEGIN');
    for (const id of ids(0, 12))
      await others.query('UPDATE user_sessions SET access_token = $2 WHERE id = $1', [
        id,
        h.tokenOf(`older ${id}`),
      ]);
    for (const id of ids(12, 30))
      await others.query(
        'UPDATE user_sessions SET access_token = $2, refresh_token = $3, id_token = $4 WHERE id = $1',
        [id, ...h.COLUMNS.map((column) => h.sealed('new', id, column))],
      );
    for (const id of ids(30, 40))
      await others.query('UPDATE user_sessions SET version = version + 1 WHERE id = $1', [id]);
    const job = h.startJob(['--execute', '--json'], env);
    await until(async () => (await lost()) >= 80, {
      timeoutMs: 30_000,
      what: 'the rows being lost twice',
    });
    await others.query('COMMIT');
    others.release();
    const exit = await job.exited;
    // One that is sealed when the job meets it again is no race that an older gateway has won.
    expect(exit).toMatchObject({ code: 0, json: { changed: 42, quarantined: 0 } });
    expect(exit.json.lostRace).toBeGreaterThanOrEqual(80);
    expect(exit.stderr).toMatch(
      /sweep \d+ found 12 rows written meanwhile by a program that does not seal under k26b/,
    );
    expect(exit.stderr).toMatch(
      /written meanwhile +12 rows, by a program that does not write under key k26b/,
    );
    expect(await db.sql.query('SELECT 1 FROM token_encryption_lost_races')).toEqual([]);
    await write('s-000007', 'once more');
    expect((await h.runJob(['--execute', '--json'], env)).stderr).not.toContain(
      'written meanwhile',
    );
  });

  test('that stops in time, the job ends with 0 by itself, and says what it has met', async () => {
    await writeAtEachSweep('a token');
    const job = h.startJob(
      ['--execute', '--json', '--chunk-size', '10', '--max-rows-per-second', '100'],
      env,
    );
    await until(() => job.stderr().includes('an older gateway is still at work'), {
      timeoutMs: 60_000,
      what: 'the older gateway being noticed',
    });
    await replaceIt();
    expect(await job.exited).toMatchObject({
      code: 0,
      json: { remaining: { plain: 0, plan: 0, otherKid: 0 } },
    });
    expect(await h.runJob(['--verify'], env)).toMatchObject({ code: 0 });
  });
});
