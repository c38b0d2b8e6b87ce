import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import {
  faultsAtTheEnd,
  type Ground,
  killAt,
  killAtRandom,
  prepare,
  restartPostgres,
} from './testing/ordeal.js';
import { startWriters, type Writers } from './testing/tokenWriters.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9));
/** Every failure says how to repeat it. */
const seeded = (text: string): string => `${text} (SEED=${SEED})`;

/**
 * The goal F10 puts the job to the same ordeal at length, with the algorithms beside it that are known to lose writes.
 */
describe(seeded('the job, while others write the same rows'), () => {
  let postgres: TestPostgres;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(async () => {
    h.killJobs();
    await postgres?.dispose();
  });

  const cleanups: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function ground(
    rows: number,
    next: () => number,
    how: Parameters<typeof startWriters>[3],
  ): Promise<{ on: Ground; writers: Writers }> {
    const on = await prepare(postgres, h.mixedRows(rows, next));
    const writers = startWriters(on.db, on.rows, next, how);
    cleanups.push(() => on.db.close(), writers.stop);
    return { on, writers };
  }

  test('loses no write of four writers, and touches nothing but tokens', async () => {
    const next = h.random(SEED);
    const untouchable = `SELECT id, md5((to_jsonb(t) - '{access_token,refresh_token,id_token}'::text[])::text) AS md5 FROM user_sessions t`;
    const { on, writers } = await ground(3_000, next, { plainShare: 0 });
    const before = new Map(
      (await on.db.sql.query<{ id: string; md5: string }>(untouchable)).map(({ id, md5 }) => [
        id,
        md5,
      ]),
    );
    const exit = await h.runJob(['--execute', '--json'], on.env);
    await writers.stop();
    expect(exit).toMatchObject({
      code: 0,
      json: {
        mode: 'execute',
        scanned: 3_000,
        quarantined: 0,
        remaining: { plain: 0, plan: 0, otherKid: 0 },
      },
    });
    expect(exit.stdout.trim().split('\n')).toHaveLength(1);
    expect(writers.writes()).toBeGreaterThan(100);
    expect(await faultsAtTheEnd(on, writers)).toEqual([]);
    const after = await on.db.sql.query<{ id: string; md5: string }>(untouchable);
    expect(
      after.filter(({ id, md5 }) => !writers.touched.has(id) && before.get(id) !== md5),
    ).toEqual([]);
  });

  test('ends, with 3 if need be, while an older gateway goes on writing plaintext, and with 0 after that', async () => {
    const { on, writers } = await ground(300, h.random(SEED + 1), { plainShare: 50 });
    const exit = await h.runJob(['--execute', '--json'], on.env);
    await writers.stop();
    expect([0, 3]).toContain(exit.code);
    expect(await h.runJob(['--execute', '--json'], on.env)).toMatchObject({ code: 0 });
    expect(await faultsAtTheEnd(on, writers)).toEqual([]);
  });

  test('killed at random and at the points that matter most, and PostgreSQL killed under it, it ends with nothing lost', async () => {
    const next = h.random(SEED + 2);
    const { on, writers } = await ground(1_000, next, { count: 2 });
    expect(await killAtRandom(on, 3, next)).toMatchObject({ killed: 3, back: 0 });
    for (const point of ['after the write', 'after the checkpoint', 'after the commit'] as const)
      expect([point, await killAt(on, point, 2)]).toEqual([point, true]);
    writers.sealOnly();
    expect(await restartPostgres(on, 1)).toMatchObject({ code: 0 });
    await writers.stop();
    expect(await faultsAtTheEnd(on, writers)).toEqual([]);
  });
});
