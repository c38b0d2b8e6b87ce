import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Database } from '@session-gateway/database';
import { startPostgres, startReplica, type TestPostgres, until } from '@session-gateway/testkit';
import { loadSignals } from './loadSignals.js';
import * as h from './testing/jobHarness.js';

describe('the job heeds', () => {
  let postgres: TestPostgres;
  let replica: TestPostgres | undefined;
  let url: string;
  let db: Database;
  let env: Record<string, string>;
  const slow = ['--execute', '--json', '--chunk-size', '10', '--max-rows-per-second', '200'];
  beforeAll(async () => {
    postgres = await startPostgres();
    url = await h.newDatabase(postgres);
    db = h.open(url, 12);
    env = { ...h.ENV, DATABASE_URL: url };
    await h.insertRows(
      db,
      h.mixedRows(1_500, () => 0.99),
    );
  });
  afterAll(async () => {
    h.killJobs();
    await db?.close();
    await replica?.dispose();
    await postgres?.dispose();
  });

  const throttledBy = async (): Promise<string | null> =>
    (
      await db.sql.query<{ throttled_by: string | null }>(
        'SELECT throttled_by FROM token_encryption_runs ORDER BY started_at DESC LIMIT 1',
      )
    )[0]?.throttled_by ?? null;
  /** The reason arrives where `status` reads it. */
  const throttled = (reason: RegExp): Promise<string> =>
    until(
      async () => {
        const why = await throttledBy();
        return why !== null && reason.test(why) ? why : null;
      },
      { timeoutMs: 30_000, what: `${reason}` },
    );

  test('sessions at work: it waits for them to end, and shows why on the way', async () => {
    const busy = ['one', 'two'].map(() => db.sql.query('SELECT pg_sleep(6)'));
    const job = h.startJob([...slow, '--max-active-sessions', '1'], env);
    await throttled(/^2 other sessions are at work, at most 1$/);
    await Promise.all(busy);
    await throttled(/^held to 200 rows\/s$/);
    job.child.kill('SIGTERM');
    const exit = await job.exited;
    expect(exit.code).toBe(130);
    expect(exit.stderr).toContain('(2 other sessions are at work, at most 1)');
    expect(await throttledBy()).toBeNull();
  });

  test('sessions at work under the application_name that the URL gives the job too', async () => {
    const shared = { ...env, DATABASE_URL: `${url}?application_name=shared` };
    const other = h.open(`${url}?application_name=shared`, 2);
    const busy = ['one', 'two'].map(() => other.sql.query('SELECT pg_sleep(6)'));
    const job = h.startJob([...slow, '--max-active-sessions', '1'], shared);
    await throttled(/^2 other sessions are at work, at most 1$/);
    await Promise.all(busy);
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
    await other.close();
  });

  test('sessions that wait for locks', async () => {
    const holder = await db.pool.connect();
    await holder.query('BEGIN; SELECT pg_advisory_xact_lock(1)');
    const waiting = ['one', 'two'].map(() => db.sql.query('SELECT pg_advisory_xact_lock(1)'));
    const job = h.startJob([...slow, '--max-lock-waits', '1', '--max-active-sessions', '0'], env);
    await throttled(/^2 sessions wait for locks, at most 1$/);
    await holder.query('ROLLBACK');
    holder.release();
    await Promise.all(waiting);
    await throttled(/^held to/);
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
  });

  test('how much WAL there is', async () => {
    const position = async (): Promise<number> =>
      Number(
        (await db.sql.query<{ wal: string }>(`SELECT pg_current_wal_lsn() - '0/0' AS wal`))[0]?.wal,
      );
    const [before, began] = [await position(), Date.now()];
    const job = h.startJob(
      ['--execute', '--restart', '--json', '--max-wal-mb-per-second', '1'],
      env,
    );
    await throttled(/^WAL held to 1 MB\/s$/);
    await until(async () => (await position()) - before > 3_000_000, {
      timeoutMs: 30_000,
      what: 'three megabytes',
    });
    const seconds = (Date.now() - began) / 1000;
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
    // A batch of a hundred rows is about 1 MB: what came before the first rest is on top of the bound.
    expect(seconds).toBeGreaterThan(1);
  });

  test('its own statements, when they take several times as long as at best', async () => {
    await db.sql.query('CREATE TABLE slowness (seconds float8)');
    await db.sql.query(
      'CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(seconds) FROM slowness; RETURN NEW; END $$',
    );
    await db.sql.query(
      'CREATE TRIGGER dawdle BEFORE UPDATE ON user_sessions FOR EACH ROW EXECUTE FUNCTION dawdle()',
    );
    await db.sql.query(`UPDATE user_sessions SET access_token = 'a token of ' || id`);
    const job = h.startJob(
      ['--execute', '--restart', '--json', '--chunk-size', '5', '--max-rows-per-second', '10'],
      env,
    );
    await throttled(/^held to 10 rows\/s$/);
    await db.sql.query('INSERT INTO slowness VALUES (0.12)');
    await throttled(/^statements are slow: \d+ times as slow as at best$/);
    await db.sql.query('DELETE FROM slowness');
    await throttled(/^held to 10 rows\/s$/);
    job.child.kill('SIGTERM');
    const exit = await job.exited;
    await db.sql.query('DROP TRIGGER dawdle ON user_sessions');
    expect(exit.code).toBe(130);
  });

  test('a replication slot that nobody reads any more', async () => {
    await db.sql.query(`SELECT pg_create_physical_replication_slot('gone', true)`);
    const job = h.startJob([...slow, '--restart', '--max-slot-wal', '1'], env);
    await throttled(/^the replication slot gone keeps \d+ MB of WAL, at most 1$/);
    await db.sql.query(`SELECT pg_drop_replication_slot('gone')`);
    await throttled(/^held to/);
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
  });

  test('a replica that falls behind, however it came to that', async () => {
    replica = await startReplica(postgres);
    const onReplica = replica.url.replace(/postgres$/, new URL(url).pathname.slice(1));
    await until(
      async () =>
        (await db.sql.query(`SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'`)).length >
        0,
      { timeoutMs: 30_000, what: 'streaming' },
    );
    const signals = loadSignals(db.sql);
    expect((await signals.read()).replica).toMatchObject({ name: 'walreceiver' });
    const job = h.startJob([...slow, '--restart', '--max-replication-lag', '1'], env);
    await throttled(/^held to/);
    await replica.query('SELECT pg_wal_replay_pause()', [], onReplica);
    await throttled(/^replica walreceiver is [1-9]\d* s behind, at most 1$/);
    const scanned = async (): Promise<number> =>
      (
        await db.sql.query<{ scanned: number }>(
          `SELECT (counters->>'scanned')::int AS scanned FROM token_encryption_runs ORDER BY started_at DESC LIMIT 1`,
        )
      )[0]?.scanned ?? -1;
    const stoppedAt = await scanned();
    await until(async () => /is [3-9] s behind/.test((await throttledBy()) ?? ''), {
      timeoutMs: 20_000,
      what: 'a longer lag',
    });
    expect(await scanned()).toBe(stoppedAt);
    await replica.query('SELECT pg_wal_replay_resume()', [], onReplica);
    await throttled(/^held to/);
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
    // Reading burdens no replica, and can be done on one.
    expect(
      await h.runJob(['--verify', '--json'], { ...env, DATABASE_URL: onReplica }),
    ).toMatchObject({ code: 3, json: { mode: 'verify', scanned: 1_500 } });
  });

  test('nothing that it cannot see, and says so', async () => {
    await db.sql.query(`CREATE ROLE job LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO job`);
    const job = h.startJob([...slow, '--restart'], {
      ...env,
      DATABASE_URL: url.replace('postgres@', 'job@'),
    });
    await until(() => job.stderr().includes('GRANT pg_read_all_stats to it'), {
      timeoutMs: 20_000,
      what: 'the note',
    });
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
  });
});
