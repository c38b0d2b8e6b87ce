import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, test } from '@jest/globals';
import { forgetInstance, reportInstance } from '@session-gateway/keycloak-auth';
import * as h from './testing/jobHarness.js';
import { type KeyCommands, onKeyCommands, ringOf } from './testing/keyCommands.js';

let k: KeyCommands;
onKeyCommands((commands) => {
  k = commands;
});

describe('promote', () => {
  test('is refused while a live gateway does not know the key, or knows another one under its id, and changes nothing then', async () => {
    const made = await k.keyring('a', 'b');
    await reportInstance(k.db.sql, 'new', ringOf(made));
    await reportInstance(k.db.sql, 'old', ringOf({ primary: 'a', keys: made.keys.slice(0, 1) }));
    await reportInstance(
      k.db.sql,
      'odd',
      ringOf({
        primary: 'a',
        keys: [
          made.keys[0] ?? { kid: '', key: '' },
          { kid: 'b', key: randomBytes(32).toString('base64url') },
        ],
      }),
    );
    const { code, stderr } = await k.run(['promote', 'b']);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(
        '2 of 3 live gateways do not know b and could not read what the others would seal',
      ),
    ]);
    expect(stderr).toMatch(/gateway old: seals under a, knows a, seen .*Z\n/);
    expect(stderr).toMatch(/gateway odd: seals under a/);
    expect(await k.document()).toEqual(made);
    expect(await k.known()).toEqual([
      { kid: 'a', promoted: false, retired: false },
      { kid: 'b', promoted: false, retired: false },
    ]);

    const blindly = await h.runJob(['--execute', '--to', 'b'], {
      DATABASE_URL: k.url,
      SESSION_TOKEN_KEYRING_FILE: k.file,
    });
    expect(blindly).toMatchObject({
      code: 0,
      stderr: expect.stringContaining(
        '2 live gateways do not know b and cannot read what is written now: give them the keyring',
      ),
    });

    for (const id of ['old', 'odd']) await forgetInstance(k.db.sql, id);
    expect(await k.run(['promote', 'b'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^b is the primary key now; the 1 live gateway knows it\. Rewrite what a holds with/,
      ),
    });
    expect(await k.document()).toEqual({
      primary: 'b',
      keys: [{ ...made.keys[0], status: 'decrypt-only' }, made.keys[1]],
    });
    expect((await k.known()).filter(({ promoted }) => promoted)).toEqual([
      { kid: 'b', promoted: true, retired: false },
    ]);
    expect(await k.run(['promote', 'b'])).toMatchObject({
      code: 0,
      stdout: 'b is the primary key already\n',
    });
  });

  test('is taken back by promoting the other key again; keys that still wait go on waiting', async () => {
    const made = await k.keyring('a', 'b', 'c');
    await k.run(['promote', 'b']);
    expect((await k.document()).keys.map(({ status }) => status)).toEqual([
      'decrypt-only',
      undefined,
      undefined,
    ]);
    expect(await k.run(['promote', 'a'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('no gateway is at work'),
    });
    expect(await k.document()).toEqual({
      primary: 'a',
      keys: [made.keys[0], { ...made.keys[1], status: 'decrypt-only' }, made.keys[2]],
    });
  });

  test('knows only keys of the keyring', async () => {
    await k.keyring('a', 'b');
    expect(await k.run(['promote', 'c'])).toMatchObject({
      code: 1,
      stderr: 'keys: the keyring has no key c: there are a, b\n',
    });
  });
});

test('a key that is called as plaintext is, never gets to be what the job works for', async () => {
  const made = await k.keyring('a', 'plain');
  await k.store('one', {
    access_token: k.sealed(made, 'one', 'access_token'),
    refresh_token: k.sealed(made, 'one', 'refresh_token', 'plain'),
  });
  expect(await k.run(['promote', 'plain'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('plain means plaintext to encrypt-tokens'),
  });
  await writeFile(k.file, JSON.stringify({ ...made, primary: 'plain' }));
  const env = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file };
  for (const mode of ['--dry-run', '--execute', '--verify', '--finalize']) {
    expect(await h.runJob([mode, '--json'], env)).toMatchObject({
      code: 78,
      stdout: '',
      stderr: expect.stringContaining(
        'the primary key has the id plain, which means plaintext here',
      ),
    });
  }
  await writeFile(k.file, JSON.stringify(made));
  expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
    code: 0,
    json: { changed: 1 },
  });
  expect(
    await k.db.sql.query(
      `SELECT 1 FROM user_sessions WHERE access_token LIKE 'v2.a.%' AND refresh_token LIKE 'v2.a.%'`,
    ),
  ).toHaveLength(1);
});

describe('retire', () => {
  test('is refused until no gateway seals under the key and no value is left under it; then the key is gone for good', async () => {
    const made = await k.keyring('a', 'b');
    await k.store('one', {
      access_token: k.sealed(made, 'one', 'access_token'),
      refresh_token: k.sealed(made, 'one', 'refresh_token'),
    });
    await k.store('two', { access_token: k.sealed(made, 'two', 'access_token') });
    await k.db.sql.query(`UPDATE user_sessions SET is_active = false WHERE id = 'two'`);
    expect(await k.run(['retire', 'a'])).toMatchObject({
      code: 1,
      stderr: 'keys: a is the primary key: promote another one first\n',
    });
    await k.run(['promote', 'b']);
    await reportInstance(k.db.sql, 'slow', ringOf(made));
    expect(await k.run(['retire', 'a'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        '1 live gateway still seals under a: give them the new keyring, and a few seconds\n',
      ),
    });
    await reportInstance(k.db.sql, 'slow', ringOf(await k.document()));
    const left = await k.run(['retire', 'a']);
    expect(left).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'values are still sealed under a (access_token 2, refresh_token 1): rewrite them with',
      ),
    });
    expect((await k.known()).some(({ retired }) => retired)).toBe(false);
    expect((await k.document()).keys).toHaveLength(2);

    const env = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file };
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 2 },
    });
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({ code: 0 });
    expect(await k.run(['retire', 'a'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^a is retired: no value needs it, and it is out of the keyring/,
      ),
    });
    expect(await k.document()).toEqual({ primary: 'b', keys: [made.keys[1]] });
    expect(await k.known()).toEqual([
      { kid: 'a', promoted: false, retired: true },
      { kid: 'b', promoted: true, retired: false },
    ]);
    expect(await k.run(['retire', 'a'])).toMatchObject({ code: 0 });
    await writeFile(k.file, JSON.stringify({ ...made, primary: 'b' }));
    expect(await k.run(['promote', 'a'])).toMatchObject({
      code: 1,
      stderr: 'keys: a has been retired: add a new key instead\n',
    });
    expect(await h.runJob(['--execute', '--to', 'a'], env)).toMatchObject({
      code: 78,
      stderr: expect.stringContaining(
        'the key a has been retired: nothing may be sealed under it any more',
      ),
    });
  });

  test('waits for what ended sessions owe the provider, which the job rewrites and verifies too', async () => {
    const made = await k.keyring('a', 'b');
    const token = h.tokenOf('owed', 80);
    const seal = (kid: string) =>
      h.sealed(token, 'owed', 'refresh_token', kid, 'provider_logouts', ringOf(made));
    await k.db.sql.query(
      `INSERT INTO provider_logouts (id, session_id, subject, reason, call, refresh_token, expires_at)
       VALUES ('owed', 's', 'x', 'logout', 'end_session', $1, now() + interval '1 hour')`,
      [seal('a')],
    );
    await k.run(['promote', 'b']);
    expect(await k.run(['retire', 'a'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'values are still sealed under a (provider_logouts.refresh_token 1)',
      ),
    });
    const env = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file };
    const remaining = { plain: 0, plan: 0, otherKid: 1 };
    for (const [flags, code] of [
      [['--verify'], 3],
      [['--dry-run'], 0],
    ] as const)
      expect(await h.runJob([...flags, '--json'], env)).toMatchObject({
        code,
        json: { remaining, changed: 0 },
      });
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 1, remaining: { otherKid: 0 } },
    });
    const [row] = await k.db.sql.query<{ value: string }>(
      'SELECT refresh_token AS value FROM provider_logouts',
    );
    expect(row!.value).toMatch(/^v2\.b\./);
    expect(
      h.opened(row!.value, 'owed', 'refresh_token', 'v2', ringOf(made), 'provider_logouts'),
    ).toBe(token);
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({ code: 0 });
    expect(await k.run(['retire', 'a'])).toMatchObject({ code: 0 });
    await k.db.sql.query('DELETE FROM provider_logouts');
  });

  test('is refused while another table that the job has worked on holds values under the key', async () => {
    const made = await k.keyring('a', 'b');
    await k.db.sql.query('CREATE TABLE archive (id TEXT PRIMARY KEY, token TEXT)');
    await k.db.sql.query(`INSERT INTO archive VALUES ('one', 'a token'), ('two', NULL)`);
    const env = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file };
    const job = ['--execute', '--table', 'archive', '--columns', 'token'];
    expect((await h.runJob(job, env)).code).toBe(0);
    await k.run(['promote', 'b']);
    expect(await k.run(['retire', 'a'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('values are still sealed under a (table archive)'),
    });
    // What cannot be looked through is not taken for empty.
    await k.db.sql.query('ALTER TABLE archive DROP CONSTRAINT archive_pkey');
    expect(await k.run(['retire', 'a'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('column id of archive cannot be the id'),
    });
    await k.db.sql.query('ALTER TABLE archive ADD PRIMARY KEY (id)');
    expect((await h.runJob(job, env)).code).toBe(0);
    expect(await k.run(['retire', 'a'])).toMatchObject({ code: 0 });
    expect((await k.document()).keys).toEqual([made.keys[1]]);
    await k.db.sql.query('DROP TABLE archive');
    expect(await k.run(['retire', 'nobody'])).toMatchObject({
      code: 1,
      stderr: 'keys: there is no key nobody, neither in the keyring nor in the database\n',
    });
  });

  test('is refused to a role that may not see all rows', async () => {
    const made = await k.keyring('a', 'b');
    await k.store('one', { access_token: k.sealed(made, 'one', 'access_token') });
    await k.run(['promote', 'b']);
    await k.db.sql.query(
      `CREATE ROLE half_blind LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO half_blind; ALTER TABLE user_sessions ENABLE ROW LEVEL SECURITY`,
    );
    expect(
      await k.run(['retire', 'a'], {
        DATABASE_URL: k.url.replace('postgres@', 'half_blind@'),
        SESSION_TOKEN_KEYRING_FILE: k.file,
      }),
    ).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('row-level security may hide rows of user_sessions'),
    });
    expect((await k.document()).keys).toHaveLength(2);
    await k.db.sql.query('ALTER TABLE user_sessions DISABLE ROW LEVEL SECURITY');
  });

  test('takes its announcement back when the keyring cannot be written', async () => {
    const made = await k.keyring('a', 'b');
    await k.run(['promote', 'b']);
    const fixed = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING: await readFile(k.file, 'utf8') };
    expect(await k.run(['retire', 'a'], fixed)).toMatchObject({ code: 78 });
    expect((await k.known()).some(({ retired }) => retired)).toBe(false);
    expect(await k.run(['promote', made.primary], fixed)).toMatchObject({ code: 78 });
    expect((await k.known()).find(({ kid }) => kid === 'a')?.promoted).toBe(false);
  });
});
