import { describe, expect, test } from '@jest/globals';
import { TokenEncryption, TokenVault } from '@session-gateway/keycloak-auth';
import { until } from '@session-gateway/testkit';
import { finalize } from './finalize.js';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

const waiting = { note: () => undefined, stopRequested: () => false };
const SHAPE = { table: 'user_sessions', idColumn: 'id', columns: h.COLUMNS };

describe('after --finalize', () => {
  let { db, env } = {} as Ground;
  onFreshDatabase((ground) => {
    ({ db, env } = ground);
  });

  const constraints = (): Promise<object[]> =>
    db.sql.query(
      `SELECT conname AS name, convalidated AS validated FROM pg_constraint WHERE conrelid = 'user_sessions'::regclass AND contype = 'c'`,
    );
  const write = (value: string | null): Promise<unknown> =>
    db.sql.query(`UPDATE user_sessions SET refresh_token = $1 WHERE id = 's-000001'`, [value]);

  test('PostgreSQL refuses anything but v2, none and empty, gateways write on, and doing it again changes nothing', async () => {
    await h.insertRows(db, h.mixedRows(60, h.random(5)));
    // Not while anything remains, and a dry run or a verification of another kind is no reason.
    expect(await h.runJob(['--finalize', '--json'], env)).toMatchObject({
      code: 3,
      json: { mode: 'verify' },
    });
    expect(await constraints()).toEqual([]);
    expect(await h.runJob(['--execute'], env)).toMatchObject({ code: 0 });
    const done = await h.runJob(['--finalize', '--json'], env);
    expect(done).toMatchObject({
      code: 0,
      json: { mode: 'verify', run: null, remaining: { plain: 0 } },
    });
    expect(done.stderr).toContain(
      'finalized: from now on PostgreSQL refuses any token of user_sessions that is not v2',
    );
    expect(await constraints()).toEqual([{ name: 'sealed_tokens_only', validated: true }]);
    for (const refused of [
      'a token',
      h.planValue('t'),
      'v2.k26b.short',
      `v2.K26B.${'A'.repeat(60)}`,
    ])
      await expect(write(refused)).rejects.toMatchObject({ code: '23514' });
    for (const accepted of [null, '', h.sealed('t', 's-000001', 'refresh_token', 'k26a')])
      await write(accepted);

    const vault = new TokenVault({
      db,
      encryption: new TokenEncryption({ keyring: h.keyring, readPolicy: 'v2' }),
    });
    await db.transaction((sql) =>
      vault.store(sql, 's-000001', {
        accessToken: 'access',
        refreshToken: 'refresh',
        idToken: null,
        tokenExpiresAt: new Date(),
        tokenLifetimeSeconds: 60,
        refreshExpiresAt: null,
        identity: {
          subject: 's',
          sid: null,
          preferredUsername: null,
          email: null,
          name: null,
          acr: null,
          roles: [],
        },
      }),
    );
    const [stored] = await db.sql.query<{ access_token: string }>(
      `SELECT access_token FROM user_sessions WHERE id = 's-000001'`,
    );
    expect(h.opened(stored?.access_token ?? null, 's-000001', 'access_token', 'v2')).toBe('access');

    const before = await db.sql.query(
      `SELECT oid, xmin FROM pg_constraint WHERE conname = 'sealed_tokens_only'`,
    );
    expect(await h.runJob(['--finalize'], env)).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('finalized already'),
    });
    expect(
      await db.sql.query(
        `SELECT oid, xmin FROM pg_constraint WHERE conname = 'sealed_tokens_only'`,
      ),
    ).toEqual(before);
  });

  test('a run that is told so finalizes what it has made, and rolling back takes the constraint away', async () => {
    await h.insertRows(db, h.mixedRows(60, h.random(6)));
    expect(await h.runJob(['--execute', '--finalize', '--json'], env)).toMatchObject({
      code: 0,
      json: { mode: 'execute', run: expect.any(String) },
    });
    expect(await constraints()).toEqual([{ name: 'sealed_tokens_only', validated: true }]);
    const both = {
      ...env,
      SESSION_TOKEN_KEYRING: h.KEYRING_JSON.replace(',"status":"decrypt-only"', ''),
    };
    expect(await h.runJob(['--execute', '--to', 'k26a'], both)).toMatchObject({ code: 0 });
    const back = await h.runJob(
      ['--execute', '--to', 'plain', '--i-understand-tokens-will-be-plaintext'],
      env,
    );
    expect(back.stderr).toContain(
      'the constraint that --finalize added is gone: it refuses plaintext',
    );
    expect(await constraints()).toEqual([]);
  });

  test('beside a transaction that has read the table it holds nobody up, says who has it open, and goes through', async () => {
    await h.insertRows(db, h.mixedRows(20, h.random(8)));
    expect(await h.runJob(['--execute'], env)).toMatchObject({ code: 0 });
    const backup = await db.pool.connect();
    await backup.query(
      `BEGIN; SET LOCAL application_name = 'a report'; SELECT count(*) FROM user_sessions`,
    );
    const noted: string[] = [];
    let waited: number[] = [];
    const done = finalize(db, SHAPE, {
      note: (line) => {
        noted.push(line);
        // Between two tries nobody waits for a lock, and so nobody behind it.
        const letGo = db.sql
          .query<{ n: number }>(
            `SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND relation = 'user_sessions'::regclass`,
          )
          .then((rows) => (waited = rows.map(({ n }) => n)));
        void letGo.then(() => backup.query('COMMIT')).then(() => backup.release());
      },
      stopRequested: () => false,
    });
    expect(await done).toBe('added');
    expect(waited).toEqual([0]);
    expect(noted).toEqual([
      expect.stringMatching(
        /^waiting for a lock: user_sessions is held by process \d+, role postgres, application a report, since 20/,
      ),
    ]);
  });

  test('makes autovacuum give way, however long it would take', async () => {
    await h.insertRows(db, h.mixedRows(200, h.random(8)));
    expect(await h.runJob(['--execute'], env)).toMatchObject({ code: 0 });
    await db.sql.query(`ALTER SYSTEM SET autovacuum_naptime = '1s'`);
    await db.sql.query('SELECT pg_reload_conf()');
    // As slow as on a table of many millions of rows.
    await db.sql.query(
      'ALTER TABLE user_sessions SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)',
    );
    const vacuums = `SELECT pid FROM pg_stat_progress_vacuum WHERE relid = 'user_sessions'::regclass`;
    await until(async () => (await db.sql.query(vacuums)).length > 0, {
      what: 'autovacuum at work',
      timeoutMs: 60_000,
    });
    const atOnce = { note: () => undefined, stopRequested: () => true };
    expect(await finalize(db, SHAPE, atOnce)).toBe('added');
    await db.sql.query('ALTER SYSTEM RESET autovacuum_naptime');
    await db.sql.query('SELECT pg_reload_conf()');
  }, 120_000);

  test('a run that is told to stop while it waits for the lock stops', async () => {
    const backup = await db.pool.connect();
    await backup.query('BEGIN; SELECT count(*) FROM user_sessions');
    const asked = { note: () => undefined, stopRequested: () => true };
    expect(await finalize(db, SHAPE, asked)).toBeNull();
    await backup.query('COMMIT');
    backup.release();
    expect(await constraints()).toEqual([]);
  });

  test('a run that leaves values behind is not finalized', async () => {
    await h.insertRows(db, h.mixedRows(20, h.random(7)));
    await write('v2.broken');
    expect(await h.runJob(['--execute', '--finalize', '--json'], env)).toMatchObject({
      code: 3,
      json: { quarantined: 1 },
    });
    expect(await constraints()).toEqual([]);
  });

  test('what was written in the clear after the verification takes the constraint back, and one that was cut off is completed', async () => {
    await h.insertRows(
      db,
      h.mixedRows(20, () => 0.99),
    );
    expect(await finalize(db, SHAPE, waiting)).toBe('refused');
    expect(await constraints()).toEqual([]);
    await h.runJob(['--execute'], env);
    await db.sql.query(
      `ALTER TABLE user_sessions ADD CONSTRAINT sealed_tokens_only CHECK (access_token IS NULL) NOT VALID`,
    );
    // One that covers too little is replaced.
    expect(await finalize(db, SHAPE, waiting)).toBe('added');
    expect(await finalize(db, SHAPE, waiting)).toBe('there already');
    await expect(write('a token')).rejects.toMatchObject({ code: '23514' });
  });
});
