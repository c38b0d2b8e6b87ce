import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { createKeyring, reportInstance } from '@session-gateway/keycloak-auth';
import { describeWith, startVault } from '@session-gateway/testkit';
import type { KeyringDocument } from './keyringDocument.js';
import { keys, KEYS_USAGE } from './keys.js';
import * as h from './testing/jobHarness.js';
import { KEYS_PROGRAM, type KeyCommands, onKeyCommands, ringOf } from './testing/keyCommands.js';

let k: KeyCommands;
onKeyCommands((commands) => {
  k = commands;
});

test.each([
  [['rotate'], 'unknown command rotate'],
  [['list', '--jsn'], "unknown option '--jsn'"],
  [['list', 'now'], "unexpected argument 'now'"],
  [['add', '--kid'], 'argument missing'],
  [['promote'], 'promote takes one key id'],
  [['generate', '--kid', 'plain'], '--kid must not be plain'],
  [['retire', 'a', 'b'], 'retire takes one key id'],
  [['inspect', '--id', '1'], 'inspect needs --id <row> and --column <column>'],
])('%j is wrong usage', async (args, message) => {
  await k.keyring('a');
  await expect(
    keys(args, { DATABASE_URL: 'not a url', SESSION_TOKEN_KEYRING_FILE: k.file }, () => undefined),
  ).rejects.toThrow(message);
});

test('wrong usage ends with 2; what was meant stands in the usage, which --help prints anywhere', async () => {
  expect(await k.run(['rotate'])).toEqual({
    code: 2,
    stdout: '',
    stderr:
      'keys: unknown command rotate: there are generate, list, add, promote, retire, inspect and rewrap\nkeys: see --help\n',
  });
  expect(await k.run([])).toMatchObject({ code: 2, stdout: `${KEYS_USAGE}\n` });
  for (const args of [['--help'], ['promote', '--help']])
    expect(await k.run(args)).toEqual({ code: 0, stdout: `${KEYS_USAGE}\n`, stderr: '' });
});

describe('generate', () => {
  test('prints a keyring with one new key, which is the primary, and nothing else', async () => {
    const { code, stdout, stderr } = await k.run(['generate'], {});
    const made = JSON.parse(stdout) as KeyringDocument;
    expect([code, stderr, made.keys.length, made.primary]).toEqual([0, '', 1, made.keys[0]?.kid]);
    expect(ringOf(made).primary).toMatch(/^k\d\d[a-z]$/);
    expect((await k.run(['generate', '--kid', 'mine'], {})).stdout).toContain('"primary": "mine"');
  });

  test('lets the key of a key text stay the primary, and needs no database', async () => {
    const env = { SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT };
    expect(await k.run(['generate', '--out', k.file], env)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^a keyring with the key k\d\da beside k1, which stays the primary, is in .*then promote the new key\n$/,
      ),
    });
    const made = await k.document();
    expect([made.primary, made.keys.map(({ kid }) => kid)]).toEqual([
      'k1',
      [expect.stringMatching(/^k\d\da$/), 'k1'],
    ]);
    expect(ringOf(made).fingerprint('k1')).toBe(
      createKeyring({ keyText: h.KEY_TEXT }).fingerprint('k1'),
    );
    expect((await stat(k.file)).mode & 0o777).toBe(0o600);
  });

  test('overwrites no keyring, and takes no text that is no secret', async () => {
    await k.keyring('a');
    expect(await k.run(['generate', '--out', k.file], {})).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'is there already: a keyring that values are sealed under must not be overwritten',
      ),
    });
    expect(
      await k.run(['generate', '--out', join(dirname(k.file), 'none', 'keyring.json')], {}),
    ).toMatchObject({
      code: 2,
      stderr: `keys: --out: there is no folder ${join(dirname(k.file), 'none')}\nkeys: see --help\n`,
    });
    expect(
      await k.run(['generate'], { SESSION_TOKEN_ENCRYPTION_KEY: 'ab'.repeat(20) }),
    ).toMatchObject({ code: 78, stdout: '', stderr: expect.stringContaining('is no secret') });
  });
});

describe('add', () => {
  test('adds a key that seals nothing yet, and the database knows it', async () => {
    const before = await k.keyring('a');
    const { code, stdout } = await k.run(['add', '--kid', 'b']);
    expect([code, stdout]).toEqual([
      0,
      'the key b is in the keyring and seals nothing yet. Once every gateway knows it (`keys list`), promote it\n',
    ]);
    const after = await k.document();
    expect(after).toEqual({
      primary: 'a',
      keys: [before.keys[0], { kid: 'b', key: expect.stringMatching(/^[\w-]{43}$/) }],
    });
    expect((await k.known()).map(({ kid }) => kid)).toEqual(['a', 'b']);
    expect((await k.run(['add'])).stdout).toMatch(/^the key k\d\da is in/);
  });

  test('uses an id once, in whatever keyring it was', async () => {
    await k.keyring('a');
    await k.run(['add', '--kid', 'b']);
    await k.keyring('c');
    expect(await k.run(['add', '--kid', 'K1'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--kid must be 1 to 16 characters a-z and 0-9'),
    });
    for (const kid of ['a', 'b', 'c'])
      expect(await k.run(['add', '--kid', kid])).toMatchObject({
        code: 1,
        stderr: `keys: there is, or was, a key ${kid} already: an id is used once\n`,
      });
  });

  test('leaves nothing in the database of a key that could not be written down', async () => {
    const made = await k.keyring('a');
    expect(
      await k.run(['add', '--kid', 'b'], {
        DATABASE_URL: k.url,
        SESSION_TOKEN_KEYRING: JSON.stringify(made),
      }),
    ).toMatchObject({
      code: 78,
      stderr: expect.stringContaining(
        'put it into a file and name that in SESSION_TOKEN_KEYRING_FILE',
      ),
    });
    expect((await k.known()).map(({ kid }) => kid)).toEqual(['a']);
  });

  test("refuses a keyring that is not the database's", async () => {
    await k.keyring('a');
    await k.run(['add']);
    await k.keyring('a');
    expect(await k.run(['add'])).toMatchObject({
      code: 78,
      stderr: expect.stringContaining(
        'the key a is another key than the one that this database knows',
      ),
    });
  });

  test('waits for nobody: while another command is at work it is refused', async () => {
    await k.keyring('a');
    const holder = await k.db.pool.connect();
    await holder.query(`SELECT pg_advisory_lock(hashtextextended('session-gateway keys', 0))`);
    expect(await k.run(['add'])).toMatchObject({
      code: 1,
      stderr: 'keys: another `keys` command is at work on this database: wait for it to end\n',
    });
    holder.release(true);
  });
});

describe('list', () => {
  test('says of each key what it is for, who knows it and what it holds, for people and for programs', async () => {
    const made = await k.keyring('a', 'b', 'c');
    await k.store('one', {
      access_token: k.sealed(made, 'one', 'access_token'),
      refresh_token: k.sealed(made, 'one', 'refresh_token', 'b'),
      id_token: 'a plaintext token',
    });
    await k.store('two', {
      access_token: h.planValue('x'),
      refresh_token: `v2.gone.${'A'.repeat(60)}`,
      id_token: 'v2.',
    });
    k.secrets.push('a plaintext token');
    await reportInstance(k.db.sql, 'gw', ringOf({ primary: 'a', keys: made.keys.slice(0, 2) }));
    const listed = await k.run(['list', '--json']);
    expect(listed.code).toBe(0);
    const {
      keys: rows,
      older,
      gateways,
    } = JSON.parse(listed.stdout) as {
      keys: Record<string, unknown>[];
      older: unknown;
      gateways: unknown[];
    };
    expect(
      rows.map(({ kid, status, values, columns, knownTo, sealing }) => [
        kid,
        status,
        values,
        columns,
        knownTo,
        sealing,
      ]),
    ).toEqual([
      ['a', 'primary', 1, { access_token: 1 }, 1, 1],
      ['b', 'waiting', 1, { refresh_token: 1 }, 1, 0],
      ['c', 'waiting', 0, {}, 0, 0],
      ['gone', 'missing', 1, { refresh_token: 1 }, 0, 0],
    ]);
    expect(older).toEqual({ plan: 1, plain: 1, malformed: 1 });
    expect(gateways).toHaveLength(1);
    const { stdout } = await k.run(['list']);
    expect(stdout.split('\n')[0]).toMatch(
      /^key +status +values +access +refresh +id +gateways +fingerprint$/,
    );
    expect(stdout).toMatch(/^a +primary +1 +1 +0 +0 +1 of 1 +[0-9a-f]{16}$/m);
    expect(stdout).toContain('under no key id: 1 of the older format, 1 in plaintext, 1 malformed');
    expect(stdout).toMatch(/gateway gw: seals under a, knows a, b, seen/);
  });

  test("shows a key that is not the database's", async () => {
    await k.keyring('a');
    await k.run(['add']);
    await k.keyring('a');
    expect((await k.run(['list'])).stdout).toContain(
      'the key a is another key than the one that this database knows under that id',
    );
  });
});

test('without a keyring, with a wrong one, or without its database, each command says which variable to set', async () => {
  for (const command of [['add'], ['promote', 'a'], ['retire', 'a']]) {
    expect(
      await k.run(command, { DATABASE_URL: k.url, SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT }),
    ).toMatchObject({
      code: 78,
      stderr: expect.stringContaining(
        'SESSION_TOKEN_KEYRING_FILE must name the file that holds the keyring',
      ),
    });
  }
  await writeFile(k.file, '{');
  for (const command of [
    ['add'],
    ['list'],
    ['promote', 'a'],
    ['retire', 'a'],
    ['inspect', '--id', '1', '--column', 'access_token'],
  ])
    expect(await k.run(command)).toMatchObject({
      code: 78,
      stderr: expect.stringContaining('it is not valid JSON'),
    });
  await writeFile(k.file, '');
  expect(
    await k.run(['list'], {
      DATABASE_URL: k.url,
      SESSION_TOKEN_KEYRING_FILE: k.file,
      SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT,
    }),
  ).toMatchObject({ code: 78, stderr: 'keys: SESSION_TOKEN_KEYRING_FILE names an empty file\n' });
  await k.keyring('a');
  expect(
    await k.run(['list'], {
      DATABASE_URL: k.url.replace(/:\d+\//, ':1/'),
      SESSION_TOKEN_KEYRING_FILE: k.file,
    }),
  ).toMatchObject({ code: 1, stderr: expect.stringContaining('the database cannot be reached') });
});

test('a keyring that Vault wraps is changed by the same commands, and rewrap moves it to the newest outer key', async () => {
  const vault = await startVault();
  const env = {
    DATABASE_URL: k.url,
    SESSION_TOKEN_KEYRING_FILE: k.file,
    VAULT_ADDR: vault.url,
    VAULT_TOKEN: vault.token,
    VAULT_TRANSIT_KEY: vault.key,
  };
  const made = await k.keyring('a');
  k.secrets.push(vault.token);
  await k.store('one', { access_token: k.sealed(made, 'one', 'access_token') });
  const rows = () => k.db.sql.query('SELECT xmin::text AS xmin, access_token FROM user_sessions');
  const before = await rows();
  await chmod(k.file, 0o640);
  expect(await k.run(['list'], env)).toMatchObject({
    code: 78,
    stderr: expect.stringContaining('is not wrapped, although VAULT_TRANSIT_KEY is set'),
  });
  expect(await k.run(['rewrap'], env)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('no stored token was touched'),
  });
  expect(await readFile(k.file, 'utf8')).toMatch(/^vault:v1:/);
  expect(await k.run(['add', '--kid', 'b'], env)).toMatchObject({ code: 0 });
  expect(await k.run(['promote', 'b'], env)).toMatchObject({ code: 0 });
  vault.rotate();
  expect(await k.run(['rewrap'], env)).toMatchObject({ code: 0 });
  expect(await readFile(k.file, 'utf8')).toMatch(/^vault:v2:/);
  vault.forbidOldVersions();
  expect((await k.run(['list'], env)).stdout).toMatch(/^b +primary/m);
  expect(await rows()).toEqual(before);
  vault.seal();
  expect(await k.run(['list'], env)).toMatchObject({
    code: 1,
    stderr: 'keys: Vault cannot serve just now (VAULT_ADDR): it answered 503\n',
  });
  expect(await k.run(['generate', '--out', `${k.file}.new`], env)).toMatchObject({ code: 1 });
  vault.unseal();
  expect(await k.run(['generate', '--out', `${k.file}.new`], env)).toMatchObject({ code: 0 });
  expect(await readFile(`${k.file}.new`, 'utf8')).toMatch(/^vault:v2:/);
  expect(await k.run(['rewrap'], { ...env, VAULT_TRANSIT_KEY: undefined })).toMatchObject({
    code: 78,
    stderr: expect.stringContaining('VAULT_TRANSIT_KEY must name'),
  });
  await vault.dispose();
});

test('through Nx a command says the same, and failure is not 0', async () => {
  const made = await k.keyring('a');
  await k.store('one', { access_token: k.sealed(made, 'one', 'access_token') });
  const env = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file };
  const nx = (...args: string[]) =>
    h.startJob(['nx', 'run', 'migrations:keys', '--', ...args], env, ['npx']).exited;
  expect(await nx('list')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^a +primary +1 +1 +0 +0 +0 of 0/m),
  });
  expect((await nx('retire', 'a')).code).not.toBe(0);
});

describeWith(['script'], 'on a terminal', () => {
  test('each command says what it says in a pipe', async () => {
    const made = await k.keyring('a', 'b');
    await k.store('one', { access_token: k.sealed(made, 'one', 'access_token') });
    const env = { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file };
    const terminal = async (...args: string[]) => {
      const { code, stdout } = await h.startJob(
        ['-qec', [...KEYS_PROGRAM, ...args].map((word) => `'${word}'`).join(' '), '/dev/null'],
        env,
        ['script'],
      ).exited;
      for (const secret of k.secrets) expect(stdout).not.toContain(secret);
      return { code, text: stdout.replaceAll('\r\n', '\n') };
    };
    for (const args of [
      ['list'],
      ['inspect', '--id', 'one', '--column', 'access_token'],
      ['inspect', '--id', 'one', '--column', 'nothing'],
      ['retire', 'a'],
      ['promote', 'c'],
      ['--help'],
      ['nonsense'],
      ['rewrap'],
    ]) {
      const piped = await k.run(args);
      expect(await terminal(...args)).toEqual({
        code: piped.code,
        text: piped.stdout + piped.stderr,
      });
    }
    expect(await terminal('promote', 'b')).toMatchObject({
      code: 0,
      text: expect.stringContaining('b is the primary key now'),
    });
    expect(await terminal('add', '--kid', 'c')).toMatchObject({
      code: 0,
      text: expect.stringContaining('the key c is in the keyring'),
    });
    expect(await terminal('generate', '--out', `${k.file}.new`)).toMatchObject({
      code: 0,
      text: expect.stringContaining('a keyring with the key'),
    });
  });
});
