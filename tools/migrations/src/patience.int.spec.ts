import { describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

/** What a gateway is promised: no row of a batch is held for longer. */
const PROMISED = { lockMs: 3_000 };

describe('a statement that does not come to its end', () => {
  let { db, env } = {} as Ground;
  onFreshDatabase(async (ground) => {
    ({ db, env } = ground);
    await h.insertRows(
      db,
      h.mixedRows(60, () => 0.99),
    );
    // One row that takes as long to write as somebody says, in the middle of a batch.
    await db.sql.query('CREATE TABLE slowness (seconds float8)');
    await db.sql.query(
      'CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(seconds) FROM slowness; RETURN NEW; END $$',
    );
    await db.sql.query(
      `CREATE TRIGGER dawdle BEFORE UPDATE ON user_sessions FOR EACH ROW WHEN (NEW.id = 's-000030') EXECUTE FUNCTION dawdle()`,
    );
    await db.sql.query('INSERT INTO slowness VALUES (3600)');
  });
  const stuck = async (): Promise<h.RunningJob> => {
    const job = h.startJob(['--execute', '--json'], env);
    await until(
      () => job.stderr().includes('a statement took too long; trying again for up to 60 s'),
      { timeoutMs: 30_000, what: 'the note' },
    );
    return job;
  };

  test('lets go of its rows in time for gateways, is tried again in smaller batches, and done once it can be', async () => {
    const job = await stuck();
    for (let row = 0; row < 30; row++) {
      await db.transaction(
        (sql) =>
          sql.query('UPDATE user_sessions SET version = version + 1 WHERE id = $1', [
            `s-${String(row).padStart(6, '0')}`,
          ]),
        PROMISED,
      );
    }
    await until(
      async () =>
        (
          await db.sql.query(
            `SELECT 1 FROM token_encryption_runs WHERE (counters->>'scanned')::int > 0`,
          )
        ).length > 0,
      { timeoutMs: 30_000, what: 'a batch that ends before the slow row' },
    );
    await db.sql.query('DELETE FROM slowness');
    const exit = await job.exited;
    expect(exit).toMatchObject({ code: 0, json: { changed: 60, remaining: { plain: 0 } } });
    expect(exit.stderr).toContain('the database answers again; going on');
  });

  test('keeps nobody from stopping the job, which has written nothing by halves and is gone on with', async () => {
    const job = await stuck();
    job.child.kill('SIGTERM');
    const exit = await job.exited;
    expect(exit).toMatchObject({ code: 130, json: { run: expect.any(String) } });
    const [sealed] = await db.sql.query<{ rows: number }>(
      `SELECT count(*)::int AS rows FROM user_sessions WHERE access_token LIKE 'v2.%'`,
    );
    expect(exit.json.changed).toBe(sealed?.rows);
    await db.sql.query('DELETE FROM slowness');
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { run: exit.json.run, changed: 60 },
    });
  });
});

describe('a server without a connection to spare', () => {
  let { db, env } = {} as Ground;
  onFreshDatabase((ground) => {
    ({ db, env } = ground);
  });

  test('is waited for at the first connection too', async () => {
    await db.sql.query(
      'CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; GRANT pg_read_all_data TO crowded',
    );
    const job = h.startJob(['--dry-run', '--json'], {
      ...env,
      DATABASE_URL: (env['DATABASE_URL'] ?? '').replace('postgres@', 'crowded@'),
    });
    await until(() => job.stderr().includes('PostgreSQL has no connection to spare (too many'), {
      timeoutMs: 30_000,
      what: 'the note',
    });
    await db.sql.query('ALTER ROLE crowded CONNECTION LIMIT 20');
    expect(await job.exited).toMatchObject({ code: 0, json: { mode: 'dry-run' } });
  });
});
