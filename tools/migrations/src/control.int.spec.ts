import { describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import type { RunState, Unreadable } from './control.js';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

describe('a run, seen and steered from another terminal', () => {
  let { postgres, url, db, env } = {} as Ground;
  onFreshDatabase((ground) => {
    ({ postgres, url, db, env } = ground);
  });

  /** A job that would take long enough for anything to be done to it. */
  const slow = ['--execute', '--json', '--chunk-size', '10', '--max-rows-per-second', '50'];
  const scanned = async (): Promise<number> =>
    (
      await db.sql.query<{ scanned: number }>(
        `SELECT (counters->>'scanned')::int AS scanned FROM token_encryption_runs`,
      )
    )[0]?.scanned ?? 0;
  const status = async (
    ...run: string[]
  ): Promise<{ runs: RunState[]; quarantine: Unreadable[] }> =>
    JSON.parse((await h.runJob(['status', ...run, '--json'], { DATABASE_URL: url })).stdout) as {
      runs: RunState[];
      quarantine: Unreadable[];
    };
  async function start(rows = 600, flags = slow): Promise<{ job: h.RunningJob; id: string }> {
    await h.insertRows(
      db,
      h.mixedRows(rows, () => 0.99),
    );
    const job = h.startJob(flags, env);
    await until(async () => (await scanned()) > 0, { timeoutMs: 30_000, what: 'a run under way' });
    const [run] = await db.sql.query<{ id: string }>('SELECT id FROM token_encryption_runs');
    return { job, id: run?.id ?? '' };
  }

  test('is paused, writes nothing while it is, and goes on when asked to', async () => {
    const { job, id } = await start();
    // Whoever steers a run needs the database and no key.
    expect(await h.runJob(['pause', id], { DATABASE_URL: url })).toMatchObject({
      code: 0,
      stdout: `run ${id} is paused\n`,
    });
    const before = await h.fingerprint(db, 'all');
    expect((await status(id)).runs).toMatchObject([{ run: id, status: 'paused', atWork: true }]);
    expect(await h.fingerprint(db, 'all')).toBe(before);
    expect(await h.runJob(['resume', id], env)).toMatchObject({
      code: 0,
      stdout: `run ${id} is going on\n`,
    });
    expect(
      await h.runJob(['pace', id, '--max-rows-per-second', 'none', '--chunk-size', '500'], env),
    ).toMatchObject({ code: 0, stdout: `run ${id} has another pace from its next batch on\n` });
    const exit = await job.exited;
    expect(exit).toMatchObject({ code: 0, json: { run: id, scanned: 600, changed: 600 } });
    expect(exit.stderr).toContain(`paused: go on with \`encrypt-tokens resume ${id}\``);
    expect(exit.stderr).toMatch(/another pace: .*chunkSize 500/);
  });

  test('is paused in the middle of a long rest too, and stopped by a signal while it is paused', async () => {
    const { job, id } = await start(300, [
      '--execute',
      '--json',
      '--chunk-size',
      '100',
      '--max-rows-per-second',
      '1',
    ]);
    expect(await h.runJob(['pause', id], env)).toMatchObject({ stdout: `run ${id} is paused\n` });
    job.child.kill('SIGINT');
    expect(await job.exited).toMatchObject({ code: 130, json: { run: id } });
    expect((await status(id)).runs).toMatchObject([{ status: 'interrupted', atWork: false }]);
    // Who starts it again means it: it does not begin by being paused.
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { run: id, changed: 300 },
    });
  });

  test('is cancelled: it ends with 130, the next run is another, and it is gone on with only by its name', async () => {
    const { job, id } = await start();
    expect(await h.runJob(['cancel', id], env)).toMatchObject({
      code: 0,
      stdout: `run ${id} is cancelled\n`,
    });
    const exit = await job.exited;
    expect(exit).toMatchObject({ code: 130, json: { run: id } });
    for (const verb of ['cancel', 'pause', 'resume'])
      expect(await h.runJob([verb, id], env)).toMatchObject({
        code: 1,
        stderr: `encrypt-tokens: run ${id} is cancelled already: go on with --execute --resume ${id}\n`,
      });
    const another = await h.runJob(['--execute', '--json'], env);
    expect(another).toMatchObject({ code: 0, json: { changed: 600 - exit.json.changed } });
    expect(another.json.run).not.toBe(id);
    expect(await h.runJob(['--execute', '--json', '--resume', id], env)).toMatchObject({
      code: 0,
      json: { run: id, changed: exit.json.changed },
    });
  });

  test('that nobody is at work on is seen to be so; it can be cancelled, and cannot be paused', async () => {
    expect(await h.runJob(['status'], env)).toMatchObject({
      code: 0,
      stdout: 'no run has ever written to this database\n',
    });
    const { job, id } = await start();
    job.child.kill('SIGKILL');
    await job.exited;
    expect((await h.runJob(['status'], env)).stdout).toContain(
      `run ${id}: user_sessions to key k26b, stopped: its process is gone`,
    );
    expect(await h.runJob(['pause', id], env)).toMatchObject({
      code: 1,
      stderr: `encrypt-tokens: nobody is at work on run ${id}: go on with --execute --resume ${id}\n`,
    });
    expect(await h.runJob(['cancel', id], env)).toMatchObject({ code: 0 });
    expect((await status()).runs).toMatchObject([{ run: id, status: 'cancelled' }]);
    expect(await h.runJob(['pause', 'nobody'], env)).toMatchObject({
      code: 1,
      stderr: 'encrypt-tokens: there is no run nobody\n',
    });
    expect(
      await h.runJob(['status', 'nobody'], { DATABASE_URL: await postgres.createDatabase() }),
    ).toMatchObject({ code: 1, stderr: 'encrypt-tokens: there is no run nobody\n' });
  });

  test('tells where the values are that do not open and why, and never what they are', async () => {
    await h.insertRows(db, [
      {
        id: '1',
        stored: { access_token: 'v2.secretish', refresh_token: 'plain', id_token: null },
        tokens: { access_token: null, refresh_token: null, id_token: null },
      },
      {
        id: '2',
        stored: {
          access_token: h.sealed('two', 'elsewhere', 'access_token'),
          refresh_token: null,
          id_token: null,
        },
        tokens: { access_token: null, refresh_token: null, id_token: null },
      },
      {
        id: '3',
        stored: {
          access_token: h.sealed('good', '3', 'access_token'),
          refresh_token: null,
          id_token: null,
        },
        tokens: { access_token: null, refresh_token: null, id_token: null },
      },
    ]);
    const {
      json: { run },
    } = await h.runJob(['--execute', '--json'], env);
    const text = (await h.runJob(['status', String(run)], env)).stdout;
    expect(text).toContain('finished, with values left');
    expect(text).toMatch(
      /access_token of row 1: malformed, since .*\n {2}access_token of row 2: not_authentic, since/,
    );
    const asked = await status(String(run));
    expect(asked).toMatchObject({
      runs: [{ status: 'incomplete', quarantined: 2, atWork: false }],
      quarantine: [
        { table: 'user_sessions', column: 'access_token', row: '1', reason: 'malformed' },
        { row: '2' },
      ],
    });
    expect(text + JSON.stringify(asked)).not.toContain('secretish');
  });

  test('stops when more than the given share of the values does not open, and is gone on with when told to', async () => {
    const rows = h.mixedRows(400, () => 0.99);
    await h.insertRows(db, rows);
    await db.sql.query(`UPDATE user_sessions SET access_token = 'v2.broken' WHERE id > 's-000100'`);
    const exit = await h.runJob(['--execute', '--chunk-size', '20'], env);
    expect([exit.code, exit.stdout]).toEqual([1, '']);
    expect(exit.stderr).toMatch(
      /\d+ of the \d+ values met so far do not open, more than --max-unreadable 0.2 allows. See why with `encrypt-tokens status /,
    );
    const [run] = (await status()).runs;
    expect(run).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('do not open'),
      finishedAt: null,
    });
    expect(await h.runJob(['--execute', '--json', '--max-unreadable', '1'], env)).toMatchObject({
      code: 3,
      json: { run: run?.run, quarantined: 299, changed: 400 },
    });
  });

  test.each([
    [['pause'], 'pause takes the id of a run: see `status`'],
    [['pause', 'x', 'y'], 'unexpected word y'],
    [['pace', 'x'], 'pace takes --chunk-size, --max-rows-per-second, --duty or another bound'],
    [['pace', 'x', '--duty', '2'], '--duty must be a number above 0 and up to 1'],
    [['cancel', 'x', '--duty', '.5'], 'cancel takes no pace'],
    [['status', '--execute'], 'unknown flag --execute'],
    [['stop', 'x'], 'unexpected word stop'],
  ])('%j is wrong usage, refused before anything else is looked at', async (args, message) => {
    expect(await h.runJob(args, { DATABASE_URL: 'not a url' })).toMatchObject({
      code: 2,
      stdout: '',
      stderr: `encrypt-tokens: ${message}\nencrypt-tokens: see --help\n`,
    });
  });
});
