import { describe, expect, test } from '@jest/globals';
import { createKeyring } from '@session-gateway/keycloak-auth';
import { until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';
import { acknowledgedOf, wrongRows } from './testing/tokenWriters.js';

const NOTHING_REMAINS = { plain: 0, plan: 0, otherKid: 0 };
const ZERO_KEYS = h.ENV.SESSION_TOKEN_KEYRING.replaceAll(
  /"key":"[^"]*"/g,
  (_, at: number) => `"key":"${Buffer.alloc(32, `another key ${at}`).toString('base64url')}"`,
);

/** One row whose values the test chooses. */
function row(
  id: string,
  access: string | null,
  refresh: string | null = null,
  idToken: string | null = null,
): h.SeedRow {
  const stored = { access_token: access, refresh_token: refresh, id_token: idToken };
  return { id, stored, tokens: stored };
}

/** One character of a sealed value changed, within its grammar. */
function bent(value: string): string {
  const at = value.length - 30;
  return `${value.slice(0, at)}${value[at] === 'a' ? 'b' : 'a'}${value.slice(at + 1)}`;
}

describe('the job, on what it finds', () => {
  let { postgres, url, db, env } = {} as Ground;
  onFreshDatabase((ground) => {
    ({ postgres, url, db, env } = ground);
  });

  const value = async (id: string, column = 'access_token'): Promise<string | null> =>
    (
      await db.sql.query<{ value: string | null }>(
        `SELECT ${column} AS value FROM user_sessions WHERE id = $1`,
        [id],
      )
    )[0]?.value ?? null;
  const quarantined = (): Promise<object[]> =>
    db.sql.query(
      'SELECT table_name, column_name, row_id, reason FROM token_encryption_quarantine ORDER BY row_id, column_name',
    );
  const runs = (): Promise<{ id: string; status: string; finished: boolean }[]> =>
    db.sql.query(
      'SELECT id, status, finished_at IS NOT NULL AS finished FROM token_encryption_runs ORDER BY started_at',
    );

  test('a dry run counts by column and class, and changes and creates nothing', async () => {
    await h.insertRows(db, [
      row('1', 'a token', h.planValue('t'), h.sealed('t', '1', 'id_token')),
      row('2', 'v2.nonsense', '', h.sealed('t', '2', 'id_token', 'k26a')),
      row('3', bent(h.planValue('t')), null, h.sealed('t', '1', 'id_token')),
    ]);
    const before = await h.fingerprint(db, 'all');
    const exit = await h.runJob(['--dry-run', '--json'], env);
    expect(exit).toMatchObject({
      code: 0,
      json: {
        run: null,
        mode: 'dry-run',
        scanned: 3,
        changed: 0,
        alreadyCurrent: 1,
        lostRace: 0,
        quarantined: 3,
        remaining: { plain: 1, plan: 2, otherKid: 1 },
      },
    });
    expect(exit.stderr).toMatch(
      /access_token +plaintext 1, malformed 1, older format 1\n +refresh_token +older format 1\n +id_token +v2 k26b 2, v2 k26a 1/,
    );
    expect((await h.runJob([], env)).stdout).toContain('Dry run: nothing was changed.');
    expect(await h.fingerprint(db, 'all')).toBe(before);
    expect([await runs(), await quarantined()]).toEqual([[], []]);
  });

  test('an empty table is done at once', async () => {
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { scanned: 0, changed: 0 },
    });
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({ code: 0 });
  });

  test('what does not open is quarantined without its value, its row is encrypted all the same, and a repaired value leaves', async () => {
    const broken = {
      plan: bent(h.planValue('one')),
      malformed: `v2.k26b.${'!'.repeat(60)}`,
      moved: h.sealed('two', 'elsewhere', 'id_token'),
      empty: h.sealed('x', '5', 'access_token').slice(0, 30),
    };
    await h.insertRows(db, [
      row('1', broken.plan, 'plain one'),
      row('2', 'plain two', broken.malformed),
      row('3', 'plain three', null, broken.moved),
      row('4', h.planValue('good'), null, h.sealed('good', '4', 'id_token')),
      row('5', broken.empty),
    ]);
    const first = await h.runJob(['--execute', '--json'], env);
    expect(first).toMatchObject({
      code: 3,
      json: { changed: 4, quarantined: 4, remaining: { plain: 0, plan: 1, otherKid: 0 } },
    });
    expect(await quarantined()).toEqual([
      {
        table_name: 'user_sessions',
        column_name: 'access_token',
        row_id: '1',
        reason: 'not_authentic',
      },
      {
        table_name: 'user_sessions',
        column_name: 'refresh_token',
        row_id: '2',
        reason: 'malformed',
      },
      {
        table_name: 'user_sessions',
        column_name: 'id_token',
        row_id: '3',
        reason: 'not_authentic',
      },
      {
        table_name: 'user_sessions',
        column_name: 'access_token',
        row_id: '5',
        reason: 'malformed',
      },
    ]);
    expect([
      await value('1'),
      await value('2', 'refresh_token'),
      await value('3', 'id_token'),
    ]).toEqual([broken.plan, broken.malformed, broken.moved]);
    expect(h.opened(await value('1', 'refresh_token'), '1', 'refresh_token', 'v2')).toBe(
      'plain one',
    );
    expect(
      JSON.stringify(await db.sql.query('SELECT * FROM token_encryption_quarantine')),
    ).not.toContain(broken.plan.slice(-40));
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({
      code: 3,
      json: { quarantined: 4 },
    });

    // The last values of the plan's format and of this kid that are left do not open: that says nothing about the key.
    await db.sql.query(`UPDATE user_sessions SET refresh_token = 'repaired' WHERE id = '2'`);
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 3,
      json: { changed: 1, quarantined: 3 },
    });
    expect((await quarantined()).length).toBe(3);
    await db.sql.query(`UPDATE user_sessions SET access_token = NULL, id_token = NULL`);
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { quarantined: 0 },
    });
    expect(await quarantined()).toEqual([]);
  });

  test('one damaged value alone says nothing about a key that the database knows, or whose key text has opened others', async () => {
    const textAlone = { ...env, SESSION_TOKEN_KEYRING: undefined };
    await h.insertRows(db, [row('1', 'plain')]);
    expect(await h.runJob(['--execute', '--json'], textAlone)).toMatchObject({
      code: 0,
      json: { changed: 1 },
    });
    await h.insertRows(db, [row('2', bent(h.planValue('damaged')), 'plain')]);
    expect(await h.runJob(['--execute', '--json'], textAlone)).toMatchObject({
      code: 3,
      json: { changed: 1, quarantined: 1, remaining: { plan: 1, plain: 0 } },
    });
    await db.sql.query(
      `DELETE FROM user_sessions WHERE id = '2'; UPDATE user_sessions SET access_token = overlay(access_token placing CASE substr(access_token, 20, 1) WHEN 'a' THEN 'b' ELSE 'a' END from 20)`,
    );
    await h.insertRows(db, [row('3', 'plain')]);
    expect(await h.runJob(['--execute', '--json'], textAlone)).toMatchObject({
      code: 3,
      json: { changed: 1, quarantined: 1 },
    });
    const other = await h.runJob(['--execute', '--json', '--restart'], {
      ...textAlone,
      SESSION_TOKEN_ENCRYPTION_KEY: 'another text, long enough to be one key',
    });
    expect([other.code, other.stderr]).toEqual([
      78,
      expect.stringContaining('the key k1 is another key'),
    ]);
  });

  test.each([
    [
      'the keys of the keyring',
      { SESSION_TOKEN_KEYRING: ZERO_KEYS },
      'the key k26b is not the one that the values under k26b were sealed with',
    ],
    [
      'the key of the older format',
      { SESSION_TOKEN_ENCRYPTION_KEY: 'another text, long enough to be one key' },
      'SESSION_TOKEN_ENCRYPTION_KEY is not the key of the values of the older format',
    ],
    [
      'no key of the older format',
      { SESSION_TOKEN_ENCRYPTION_KEY: '' },
      'SESSION_TOKEN_ENCRYPTION_KEY must be set',
    ],
  ])('%s being wrong, it ends with 78 and not one byte is changed', async (_, wrong, message) => {
    await h.insertRows(db, [
      row('1', 'plain'),
      row('2', h.planValue('plan')),
      row('3', h.sealed('sealed', '3', 'access_token')),
      row('4', h.sealed('a', '4', 'access_token', 'k26a')),
    ]);
    const before = await h.fingerprint(db, 'all');
    const exit = await h.runJob(['--execute', '--json'], { ...env, ...wrong });
    expect([exit.code, exit.stdout]).toEqual([78, '']);
    expect(exit.stderr).toContain(message);
    expect(await h.fingerprint(db, 'all')).toBe(before);
    expect(await runs()).toEqual([]);
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 3 },
    });
  });

  test('a wrong key is found out too where its values come after many rows of plaintext', async () => {
    // More than are looked at by one statement.
    await db.sql.query(
      `INSERT INTO user_sessions (id, user_id, access_token) SELECT 's-' || i, 'u', 'plain ' || i FROM generate_series(1, 4500) i`,
    );
    await h.insertRows(db, [row('z', h.sealed('sealed', 'z', 'access_token'))]);
    const before = await h.fingerprint(db, 'all');
    const exit = await h.runJob(['--execute', '--chunk-size', '10'], {
      ...env,
      SESSION_TOKEN_KEYRING: ZERO_KEYS,
    });
    expect([exit.code, exit.stderr]).toEqual([
      78,
      expect.stringContaining(
        'looking which keys the values are under, before anything is written\n',
      ),
    ]);
    expect(await h.fingerprint(db, 'all')).toBe(before);
  });

  test('keys are looked at again where a run goes on with others, and only there', async () => {
    await db.sql.query(
      `INSERT INTO user_sessions (id, user_id, access_token) SELECT 's-' || i, 'u', 'plain ' || i FROM generate_series(1, 4500) i`,
    );
    await h.insertRows(db, [row('z', h.planValue('plan'))]);
    const looks = 'looking which keys';
    const job = h.startJob(
      ['--execute', '--chunk-size', '50', '--max-rows-per-second', '100'],
      env,
    );
    await until(() => job.stderr().includes('\nrun '), { what: 'the run' });
    job.child.kill('SIGTERM');
    expect(await job.exited).toMatchObject({ code: 130, stderr: expect.stringContaining(looks) });

    const other = await h.runJob(['--execute', '--json'], {
      ...env,
      SESSION_TOKEN_ENCRYPTION_KEY: 'another text, long enough to be one key',
    });
    expect([other.code, other.stderr]).toEqual([78, expect.stringContaining(looks)]);
    const same = await h.runJob(['--execute', '--json'], env);
    expect([same.code, same.stderr]).toEqual([0, expect.not.stringContaining(looks)]);
    expect(same.stderr).toContain('continuing run ');
    expect((await h.runJob(['--execute', '--json'], env)).stderr).toContain(looks);
  });

  test("a wrong key seals nothing in another table of a gateway's database either, of which no value is sealed yet", async () => {
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({ code: 0 });
    await db.sql.query(
      `CREATE TABLE archive (id int PRIMARY KEY, token text); INSERT INTO archive VALUES (1, 'plain')`,
    );
    const archive = ['--execute', '--json', '--table', 'archive', '--columns', 'token'];
    expect(await h.runJob(archive, { ...env, SESSION_TOKEN_KEYRING: ZERO_KEYS })).toMatchObject({
      code: 78,
      stdout: '',
      stderr: expect.stringContaining(
        'the key k26b is another key than the one that this database knows',
      ),
    });
    expect(await db.sql.query('SELECT token FROM archive')).toEqual([{ token: 'plain' }]);
    expect(await h.runJob(archive, env)).toMatchObject({ code: 0, json: { changed: 1 } });
  });

  test('an unknown key id stops the run with its place, and the run goes on once the key is there', async () => {
    await h.insertRows(db, [
      row('1', 'plain'),
      row('2', null, h.sealed('a', '2', 'refresh_token', 'k26a')),
    ]);
    const whole = JSON.parse(h.KEYRING_JSON) as { keys: unknown[] };
    const onlyB = JSON.stringify({ ...whole, keys: whole.keys.slice(0, 1) });
    const exit = await h.runJob(['--execute', '--json'], { ...env, SESSION_TOKEN_KEYRING: onlyB });
    expect(exit.code).toBe(1);
    expect(exit.stderr).toContain(
      'user_sessions.refresh_token of row 2 is sealed under the key k26a, which is not in the keyring',
    );
    expect(
      await h.runJob(['--dry-run', '--json'], { ...env, SESSION_TOKEN_KEYRING: onlyB }),
    ).toMatchObject({ code: 0, json: { quarantined: 1, remaining: { otherKid: 1 } } });
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 2 },
    });
  });

  test('keys are rotated forth, plaintext comes back on request, and texts that would read as sealed stay sealed', async () => {
    const rows = h.mixedRows(200, h.random(7));
    await h.insertRows(db, rows);
    const odd = { like: h.planValue('looks like one'), nul: 'a\0b' };
    await h.insertRows(db, [
      row('y', h.sealed(odd.like, 'y', 'access_token')),
      row('z', h.sealed(odd.nul, 'z', 'access_token'), 'plain'),
    ]);
    const acknowledged = acknowledgedOf([
      ...rows,
      { ...row('y', odd.like) },
      { ...row('z', odd.nul, 'plain') },
    ]);
    const both = {
      ...env,
      SESSION_TOKEN_KEYRING: h.KEYRING_JSON.replace(',"status":"decrypt-only"', ''),
    };
    expect(await h.runJob(['--execute', '--json', '--to', 'k26a'], env)).toMatchObject({
      code: 78,
      stdout: '',
    });
    expect(await h.runJob(['--execute', '--json', '--to', 'k26a'], both)).toMatchObject({
      code: 0,
      json: { remaining: NOTHING_REMAINS },
    });
    const kids = (): Promise<object[]> =>
      db.sql.query(
        `SELECT DISTINCT split_part(access_token, '.', 2) AS kid FROM user_sessions WHERE access_token <> ''`,
      );
    expect(await kids()).toEqual([{ kid: 'k26a' }]);
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({
      code: 3,
      json: { alreadyCurrent: 0 },
    });
    expect(await h.runJob(['--execute', '--json', '--to', 'k26b'], env)).toMatchObject({ code: 0 });
    expect(await kids()).toEqual([{ kid: 'k26b' }]);
    expect(await wrongRows(db, acknowledged)).toEqual([]);

    expect(await h.runJob(['--execute', '--to', 'plain'], env)).toMatchObject({ code: 2 });
    const other = await h.fingerprint(db, 'other columns');
    const plain = await h.runJob(
      ['--execute', '--to', 'plain', '--i-understand-tokens-will-be-plaintext', '--json'],
      env,
    );
    expect(plain).toMatchObject({
      code: 3,
      json: { quarantined: 2, remaining: { plain: 0, plan: 0, otherKid: 2 } },
    });
    expect(await h.fingerprint(db, 'other columns')).toBe(other);
    const stored = await db.sql.query<Record<string, string | null> & { id: string }>(
      "SELECT id, access_token, refresh_token, id_token FROM user_sessions WHERE id LIKE 's-%'",
    );
    for (const found of stored)
      for (const column of h.COLUMNS)
        expect(found[column] === '' ? null : found[column]).toBe(
          acknowledged.get(found.id)?.[column],
        );
    expect(await quarantined()).toMatchObject([
      { row_id: 'y', reason: 'looks_sealed' },
      { row_id: 'z', reason: 'not_storable' },
    ]);
    expect(h.opened(await value('z'), 'z', 'access_token')).toBe(odd.nul);
  });

  test.each([
    ['uuid', 'gen_random_uuid()'],
    ['bigint', 'i'],
    ['char(36)', `'id-' || lpad(i::text, 30, '0')`],
  ])(
    'a table of another application with %s ids is encrypted, its books are made at --execute only',
    async (type, id) => {
      const foreign = await postgres.createDatabase();
      const there = h.open(foreign);
      try {
        await there.sql.query(
          `CREATE TABLE "UserSession" ("sessionKey" ${type} PRIMARY KEY, "accessToken" text, "refreshToken" varchar, "userId" text NOT NULL, "updatedAt" timestamptz NOT NULL DEFAULT now())`,
        );
        await there.sql.query(
          `INSERT INTO "UserSession" SELECT ${id}, 'access ' || i, 'refresh ' || i, 'u' FROM generate_series(1, 250) i`,
        );
        const flags = [
          '--table',
          'UserSession',
          '--id-column',
          'sessionKey',
          '--columns',
          'accessToken,refreshToken',
          '--json',
        ];
        const at = { ...h.ENV, DATABASE_URL: foreign };
        expect(await h.runJob(flags, at)).toMatchObject({
          code: 0,
          json: { scanned: 250, remaining: { plain: 500 } },
        });
        const tables = (): Promise<object[]> =>
          there.sql.query(
            `SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1`,
          );
        expect(await tables()).toEqual([{ relname: 'UserSession' }]);
        expect(
          await h.runJob(['--execute', ...flags], { ...at, SESSION_TOKEN_ENCRYPTION_KEY: 'short' }),
        ).toMatchObject({ code: 78 });
        expect(await tables()).toEqual([{ relname: 'UserSession' }]);
        expect(await h.runJob(['--execute', '--chunk-size', '40', ...flags], at)).toMatchObject({
          code: 0,
          json: { changed: 250 },
        });
        // A schema in front of its name makes it no other table.
        expect(
          await h.runJob(['--verify', ...flags.with(1, 'public.UserSession')], at),
        ).toMatchObject({ code: 0, json: { alreadyCurrent: 500 } });
        const rows = await there.sql.query<{ id: string; a: string; r: string }>(
          `SELECT "sessionKey"::text AS id, "accessToken" AS a, "refreshToken" AS r FROM "UserSession"`,
        );
        expect(
          rows.map((found) =>
            h
              .opened(found.a, found.id, 'accessToken', 'v2', h.keyring, 'UserSession')
              ?.replace('access', 'refresh'),
          ),
        ).toEqual(
          rows.map((found) =>
            h.opened(found.r, found.id, 'refreshToken', 'v2', h.keyring, 'UserSession'),
          ),
        );
      } finally {
        await there.close();
      }
    },
  );

  test.each([
    ['integer', 'i'],
    ['bigint', 'i'],
    ['uuid', 'gen_random_uuid()'],
    ['text', "'r' || i"],
  ])('no row of a table is passed over whose %s id is named id', async (type, id) => {
    const foreign = await postgres.createDatabase();
    await postgres.query(
      `CREATE TABLE old (id ${type} PRIMARY KEY, "accessToken" text)`,
      [],
      foreign,
    );
    await postgres.query(
      `INSERT INTO old SELECT ${id}, 'access ' || i FROM generate_series(1, 250) i`,
      [],
      foreign,
    );
    const flags = ['--table', 'old', '--columns', 'accessToken', '--chunk-size', '40', '--json'];
    const at = { ...h.ENV, DATABASE_URL: foreign };
    expect(await h.runJob(['--execute', ...flags], at)).toMatchObject({
      code: 0,
      json: { scanned: 250, changed: 250 },
    });
    expect(
      await postgres.query(`SELECT id FROM old WHERE "accessToken" NOT LIKE 'v2.%'`, [], foreign),
    ).toEqual([]);
    expect(await h.runJob(['--verify', ...flags], at)).toMatchObject({
      code: 0,
      json: { scanned: 250, alreadyCurrent: 250 },
    });
  });

  test('a column that does not name one row each is refused as id', async () => {
    await h.insertRows(db, [row('1', 'one'), row('2', 'two')]);
    for (const column of ['user_id', 'fingerprint']) {
      const exit = await h.runJob(['--execute', '--id-column', column], env);
      expect([exit.code, exit.stderr]).toEqual([
        1,
        `encrypt-tokens: column ${column} of user_sessions cannot be the id: it must be a primary key, or NOT NULL and unique\n`,
      ]);
    }
    expect(await value('2')).toBe('two');
  });

  test('rows of many megabytes are read a few at a time', async () => {
    const big = 'x'.repeat(300_000);
    await h.insertRows(
      db,
      Array.from({ length: 60 }, (_, index) => row(`b${index}`, `${big}${index}`, big, big)),
    );
    const job = h.startJob(['--execute', '--json', '--chunk-size', '10000'], {
      ...env,
      NODE_OPTIONS: '--max-old-space-size=96',
    });
    expect(await job.exited).toMatchObject({ code: 0, json: { changed: 60 } });
  });

  test('a key text alone is enough, and the next process opens what it sealed', async () => {
    const rows = h.mixedRows(40, () => 0.99);
    await h.insertRows(db, rows);
    const alone = { DATABASE_URL: url, SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT };
    expect(await h.runJob(['--execute', '--json'], alone)).toMatchObject({
      code: 0,
      json: { changed: 40 },
    });
    expect(
      h.opened(
        await value('s-000001'),
        's-000001',
        'access_token',
        'v2',
        createKeyring({ keyText: h.KEY_TEXT }),
      ),
    ).toBe(rows[1]?.tokens.access_token);
    expect(await h.runJob(['--verify'], alone)).toMatchObject({ code: 0 });
  });
});
