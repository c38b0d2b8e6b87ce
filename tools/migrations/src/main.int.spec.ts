import { describe, expect, test } from '@jest/globals';
import { freePort, until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

const SECRET = 'a-password-nobody-may-see';

describe('the program', () => {
  let { postgres, url, db, env } = {} as Ground;
  onFreshDatabase((ground) => {
    ({ postgres, url, db, env } = ground);
  });

  const run = async (): Promise<
    { id: string; status: string; finished: boolean; scanned: number } | undefined
  > =>
    (
      await db.sql.query<{ id: string; status: string; finished: boolean; scanned: number }>(
        `SELECT id, status, finished_at IS NOT NULL AS finished, (counters->>'scanned')::int AS scanned FROM token_encryption_runs ORDER BY started_at DESC LIMIT 1`,
      )
    )[0];
  const underWay = (rows = 1): Promise<string> =>
    until(
      async () => {
        const found = await run();
        return found && found.scanned >= rows ? found.id : null;
      },
      { timeoutMs: 20_000, what: 'a run under way' },
    );
  /** A job that would take long enough for anything to be done to it. */
  const slow = ['--execute', '--json', '--chunk-size', '10', '--max-rows-per-second', '100'];

  test.each([
    [['--exectue'], 'unknown flag --exectue'],
    [['now'], 'unexpected word now'],
    [['--chunk-size', '0'], '--chunk-size must be a whole number from 1 to 10000'],
    [['--dry-run', '--execute'], '--dry-run and --execute exclude each other'],
    [
      ['--execute', '--to', 'plain'],
      '--to plain writes tokens in the clear: add --i-understand-tokens-will-be-plaintext',
    ],
  ])('%j is wrong usage, refused before anything else is looked at', async (args, message) => {
    const exit = await h.runJob(args, { DATABASE_URL: 'not a url' });
    expect(exit).toMatchObject({
      code: 2,
      stdout: '',
      stderr: `encrypt-tokens: ${message}\nencrypt-tokens: see --help\n`,
    });
  });

  test('configuration is refused with 78, all of it at once, and no value is shown', async () => {
    const exit = await h.runJob(['--execute'], {
      DATABASE_URL: `mysql://user:${SECRET}@host/db`,
      SESSION_TOKEN_ENCRYPTION_KEY: SECRET,
      SESSION_TOKEN_KEYRING: `{"${SECRET}`,
    });
    expect([exit.code, exit.stdout]).toEqual([78, '']);
    for (const name of ['DATABASE_URL', 'SESSION_TOKEN_ENCRYPTION_KEY', 'SESSION_TOKEN_KEYRING'])
      expect(exit.stderr).toContain(name);
    expect(exit.stderr).not.toContain(SECRET);
    expect(await h.runJob(['--execute', '--to', 'k99'], env)).toMatchObject({ code: 78 });
    expect(await h.runJob([], { DATABASE_URL: url, DATA_DIR: '/nonexistent' })).toMatchObject({
      code: 78,
    });
  });

  test('a database that cannot be reached or lacks its tables ends it with 1 and what to do', async () => {
    const unreachable = await h.runJob(['--execute', '--json'], {
      ...h.ENV,
      DATABASE_URL: `postgresql://user:${SECRET}@127.0.0.1:${await freePort()}/db`,
    });
    expect([unreachable.code, unreachable.stdout]).toEqual([1, '']);
    expect(unreachable.stderr).toContain('the database cannot be reached');
    expect(unreachable.stderr).not.toContain(SECRET);
    const empty = await h.runJob(['--execute'], {
      ...h.ENV,
      DATABASE_URL: await postgres.createDatabase(),
    });
    expect(empty).toMatchObject({
      code: 1,
      stderr:
        'encrypt-tokens: there is no table user_sessions in this database: run the migrations first (`migrate`)\n',
    });
    await db.sql.query('DROP TABLE token_encryption_runs');
    expect(await h.runJob(['--execute'], env)).toMatchObject({
      code: 1,
      stderr:
        "encrypt-tokens: this database lacks the job's own tables: run the migrations first (`migrate`)\n",
    });
    const nowhere = await h.runJob(['--dry-run'], { ...h.ENV, DATA_DIR: '/nonexistent/data' });
    expect(nowhere).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'there is no embedded database in /nonexistent/data/postgres',
      ),
    });
  });

  test('a database that takes no writes, or ends a statement, is told as that and nothing else', async () => {
    const name = new URL(url).pathname.slice(1);
    await db.sql.query(`ALTER DATABASE ${name} SET default_transaction_read_only = on`);
    expect(await h.runJob(['--execute'], env)).toMatchObject({
      code: 1,
      stderr:
        'encrypt-tokens: the database takes no writes: it is a replica, or set to read-only; see DATABASE_URL. Nothing is half-written; start the job again to continue\n',
    });
    await db.sql.query(`ALTER DATABASE ${name} SET statement_timeout = '300ms'`);
    const holder = await db.pool.connect();
    await holder.query('BEGIN; LOCK TABLE user_sessions');
    expect(await h.runJob(['--verify'], env)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'canceling statement due to statement timeout (57014); the statement_timeout of this role or database is too short',
      ),
    });
    await holder.query('ROLLBACK');
    holder.release();
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s ends it with 130 after the batch, and the run is continued by its id',
    async (signal) => {
      await h.insertRows(
        db,
        h.mixedRows(400, () => 0.99),
      );
      const job = h.startJob(slow, env);
      const id = await underWay();
      job.child.kill(signal);
      const exit = await job.exited;
      expect(exit).toMatchObject({ code: 130, signal: null, json: { run: id, mode: 'execute' } });
      expect(await run()).toMatchObject({
        id,
        status: 'interrupted',
        finished: false,
        scanned: exit.json.scanned,
      });
      expect(exit.stderr).toContain(`--execute --resume ${id}`);
      expect(await h.runJob(['--execute', '--resume', 'nobody'], env)).toMatchObject({
        code: 1,
        stderr: 'encrypt-tokens: there is no run nobody\n',
      });
      const rest = await h.runJob(['--execute', '--json', '--resume', id], env);
      expect(rest).toMatchObject({
        code: 0,
        json: { run: id, scanned: 400, changed: 400, alreadyCurrent: 0 },
      });
      expect(rest.json.durationMs).toBeGreaterThan(exit.json.durationMs);
      expect(await h.runJob(['--execute', '--resume', id], env)).toMatchObject({
        code: 1,
        stderr: `encrypt-tokens: run ${id} is finished already: start a new one without --resume\n`,
      });
    },
  );

  test('a dry run is interrupted with 130 and what it counted so far', async () => {
    await h.insertRows(
      db,
      h.mixedRows(400, () => 0.99),
    );
    const job = h.startJob(['--json', '--max-rows-per-second', '20'], env);
    await until(
      async () =>
        (
          await db.sql.query(
            `SELECT 1 FROM pg_stat_activity WHERE application_name = 'session-gateway-encrypt-tokens' AND state = 'idle'`,
          )
        ).length > 0,
    );
    job.child.kill('SIGINT');
    expect(await job.exited).toMatchObject({ code: 130, json: { run: null, mode: 'dry-run' } });
  });

  test('a second signal ends it at once, and nothing is half-written', async () => {
    await h.insertRows(
      db,
      h.mixedRows(100, () => 0.99),
    );
    const holder = await db.pool.connect();
    await holder.query('BEGIN; LOCK TABLE user_sessions IN EXCLUSIVE MODE');
    const job = h.startJob(['--execute', '--json', '--chunk-size', '10'], env);
    await until(() => job.stderr().includes('run '), { what: 'the run' });
    job.child.kill('SIGSTOP');
    job.child.kill('SIGINT');
    job.child.kill('SIGTERM');
    job.child.kill('SIGCONT');
    expect((await job.exited).code).toBe(130);
    await holder.query('ROLLBACK');
    holder.release();
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 100 },
    });
  });

  test('a run that is started again from the beginning leaves the old one behind', async () => {
    await h.insertRows(
      db,
      h.mixedRows(200, () => 0.99),
    );
    const job = h.startJob(slow, env);
    const id = await underWay();
    job.child.kill('SIGKILL');
    await job.exited;
    const exit = await h.runJob(['--execute', '--json', '--restart'], env);
    expect(exit).toMatchObject({ code: 0, json: { scanned: 200 } });
    expect(exit.json.run).not.toBe(id);
    expect(exit.json.alreadyCurrent).toBeGreaterThan(0);
    expect(
      await db.sql.query('SELECT status FROM token_encryption_runs ORDER BY started_at'),
    ).toEqual([{ status: 'abandoned' }, { status: 'done' }]);
  });

  test("a second run ends with 1 and names the first; a killed one is in nobody's way", async () => {
    await h.insertRows(
      db,
      h.mixedRows(1_000, () => 0.99),
    );
    const first = h.startJob(slow, env);
    const id = await underWay();
    const second = await h.runJob(['--execute', '--json', '--table', 'public.user_sessions'], env);
    expect(second).toMatchObject({
      code: 1,
      stdout: '',
      stderr: `encrypt-tokens: run ${id} is at work on user_sessions: wait for it to end, or stop it\n`,
    });
    expect(await h.runJob(['--dry-run', '--json'], env)).toMatchObject({ code: 0 });
    first.child.kill('SIGKILL');
    const third = await h.runJob(['--execute', '--json'], env);
    expect(third).toMatchObject({
      code: 0,
      json: { run: id, scanned: 1_000, changed: 1_000, alreadyCurrent: 0 },
    });
    expect(third.stderr).toContain(`continuing run ${id} where it stopped`);
  });

  test('whose lock is taken from it, or whose run is taken over, writes no more', async () => {
    await h.insertRows(
      db,
      h.mixedRows(400, () => 0.99),
    );
    const job = h.startJob(slow, env);
    const id = await underWay();
    await db.sql.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'`,
    );
    const before = (await run())?.scanned ?? 0;
    await underWay(before + 20);
    await db.sql.query(`UPDATE token_encryption_runs SET owner = 'another' WHERE id = $1`, [id]);
    expect(await job.exited).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining(`run ${id} was taken over by another process`),
    });
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { run: id },
    });
  });

  test('a key id that turns up in the middle stops the run, which goes on once the key is there', async () => {
    await h.insertRows(
      db,
      h.mixedRows(300, () => 0.99),
    );
    const job = h.startJob(slow, env);
    const id = await underWay();
    await h.insertRows(db, [
      {
        id: 'z',
        stored: {
          access_token: 'plain',
          refresh_token: `v2.k99.${'A'.repeat(80)}`,
          id_token: null,
        },
        tokens: { access_token: null, refresh_token: null, id_token: null },
      },
    ]);
    expect(await job.exited).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining(
        'user_sessions.refresh_token of row z is sealed under the key k99',
      ),
    });
    expect(await run()).toMatchObject({ id, status: 'failed', finished: false });
    await db.sql.query(`UPDATE user_sessions SET refresh_token = NULL WHERE id = 'z'`);
    expect(await h.runJob(['--execute', '--json', '--resume', id], env)).toMatchObject({
      code: 0,
      json: { run: id, scanned: 301, changed: 301 },
    });
  });

  test('a row that another session holds is left out, met again, and done in the end', async () => {
    await h.insertRows(
      db,
      h.mixedRows(50, () => 0.99),
    );
    const holder = await db.pool.connect();
    await holder.query(`BEGIN; SELECT 1 FROM user_sessions WHERE id = 's-000007' FOR UPDATE`);
    const job = h.startJob(['--execute', '--json'], env);
    await until(
      async () =>
        (
          await db.sql.query(
            `SELECT 1 FROM token_encryption_runs WHERE sweep >= 2 AND (counters->>'lostRace')::int >= 2`,
          )
        ).length > 0,
      { what: 'two lost races' },
    );
    await holder.query('COMMIT');
    holder.release();
    const exit = await job.exited;
    expect(exit).toMatchObject({ code: 0, json: { changed: 50, remaining: { plain: 0 } } });
    expect(exit.json.lostRace).toBeGreaterThanOrEqual(2);
  });

  test('waits for a session that alters the table, says so, and stops when asked to meanwhile', async () => {
    await h.insertRows(
      db,
      h.mixedRows(400, () => 0.99),
    );
    const job = h.startJob(slow, env);
    await underWay();
    const holder = await db.pool.connect();
    await holder.query('BEGIN; LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE');
    await until(
      () =>
        job
          .stderr()
          .includes('another session holds a lock on user_sessions; trying again for up to 60 s'),
      { what: 'the note' },
    );
    await holder.query('ROLLBACK');
    await until(() => job.stderr().includes('going on'), { what: 'the job going on' });
    await holder.query('BEGIN; LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE');
    await until(() => job.stderr().split('trying again').length > 2, { what: 'the second note' });
    job.child.kill('SIGTERM');
    const exit = await job.exited;
    await holder.query('ROLLBACK');
    holder.release();
    expect(exit).toMatchObject({ code: 130, json: { run: expect.any(String) } });
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 400 },
    });
  });

  test('no token, key or password is in anything it writes', async () => {
    const rows = h.mixedRows(60, h.random(3));
    await h.insertRows(db, rows);
    await db.sql.query(
      `UPDATE user_sessions SET access_token = 'v2.' || $1 WHERE id = 's-000003'`,
      [SECRET],
    );
    const at = { ...env, DATABASE_URL: url.replace('postgres@', `postgres:${SECRET}@`) };
    const exits = [
      await h.runJob(['--dry-run'], at),
      await h.runJob(['--execute', '--json'], at),
      await h.runJob(['--verify'], at),
    ];
    expect(exits.map(({ code }) => code)).toEqual([0, 3, 3]);
    const said = exits.map(({ stdout, stderr }) => stdout + stderr).join('');
    for (const secret of [
      SECRET,
      h.KEY_TEXT,
      ...rows.flatMap(({ stored }) =>
        Object.values(stored)
          .filter((value) => value)
          .map((value) => String(value).slice(0, 40)),
      ),
    ])
      expect(said).not.toContain(secret);
  });

  test('runs through Nx, with and without the two dashes', async () => {
    await h.insertRows(
      db,
      h.mixedRows(5, () => 0.99),
    );
    const nx = ['npx', 'nx', 'run', 'migrations:encrypt-tokens'];
    const json = await h.startJob(['--', '--dry-run', '--json'], env, nx).exited;
    expect(json).toMatchObject({ code: 0, json: { run: null, mode: 'dry-run', scanned: 5 } });
    const text = await h.startJob(['--dry-run'], env, nx).exited;
    expect(text).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Dry run: nothing was changed.'),
    });
    expect((await h.startJob(['--', '--no-such-flag'], env, nx).exited).code).not.toBe(0);
  });
});
