import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Database } from '@session-gateway/database';
import { createKeyring, forgetInstance, reportInstance } from '@session-gateway/keycloak-auth';
import { describeWith, startPostgres, startVault, type TestPostgres } from '@session-gateway/testkit';
import type { KeyringDocument } from './keyringDocument.js';
import { keys, KEYS_USAGE } from './keys.js';
import * as h from './testing/jobHarness.js';

const PROGRAM = [process.execPath, h.PROGRAM, 'keys'];
let postgres: TestPostgres;
let url: string;
let db: Database;
let folder: string;
let file: string;
/** Keys, tokens and stored values that no command may print. */
let secrets: string[];

beforeAll(async () => {
  postgres = await startPostgres();
  url = await h.newDatabase(postgres);
  db = h.open(url);
  folder = await mkdtemp(join(tmpdir(), 'keys-'));
});
afterAll(async () => {
  h.killJobs();
  await db?.close();
  await postgres?.dispose();
  await rm(folder, { recursive: true });
});
beforeEach(() => {
  file = join(folder, `${randomBytes(4).toString('hex')}.json`);
  secrets = [];
});
afterEach(() => db.sql.query('TRUNCATE user_sessions, token_keys, gateway_instances, token_encryption_runs CASCADE'));

interface Ran { code: number | null; stdout: string; stderr: string }
async function run(args: readonly string[], env: Record<string, string | undefined> = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file }): Promise<Ran> {
  const { code, stdout, stderr } = await h.startJob(args, env, PROGRAM).exited;
  for (const secret of secrets) expect(stdout + stderr).not.toContain(secret);
  expect(stderr).not.toMatch(/^\s+at /m);
  return { code, stdout, stderr };
}
const document = async (): Promise<KeyringDocument> => JSON.parse(await readFile(file, 'utf8')) as KeyringDocument;
/** A keyring file of fresh keys, the first one the primary. */
async function keyring(...kids: string[]): Promise<KeyringDocument> {
  const keys = kids.map((kid) => ({ kid, key: randomBytes(32).toString('base64url') }));
  const made = { primary: kids[0] ?? '', keys };
  await writeFile(file, JSON.stringify(made));
  secrets.push(...keys.map(({ key }) => key));
  return made;
}
const ringOf = (made: KeyringDocument) => createKeyring({ keyringJson: JSON.stringify(made), keyText: h.KEY_TEXT });
async function store(id: string, values: Partial<Record<h.Column, string>>): Promise<void> {
  await h.insertRows(db, [{ id, stored: { access_token: null, refresh_token: null, id_token: null, ...values }, tokens: { access_token: null, refresh_token: null, id_token: null } }]);
}
/** A sealed token of a row; neither it nor what it is stored as may be printed. */
function sealed(made: KeyringDocument, id: string, column: h.Column, kid = made.primary): string {
  const token = h.tokenOf(`${id}/${column}`, 80);
  const value = h.sealed(token, id, column, kid, 'user_sessions', ringOf(made));
  secrets.push(token, value, value.slice(value.lastIndexOf('.') + 1, -8));
  return value;
}
const known = () => db.sql.query<{ kid: string; promoted: boolean; retired: boolean }>('SELECT kid, promoted_at IS NOT NULL AS promoted, retired_at IS NOT NULL AS retired FROM token_keys ORDER BY kid');

test.each([
  [['rotate'], 'unknown command rotate'],
  [['list', '--jsn'], 'unknown option \'--jsn\''],
  [['list', 'now'], 'unexpected argument \'now\''],
  [['add', '--kid'], 'argument missing'],
  [['promote'], 'promote takes one key id'],
  [['generate', '--kid', 'plain'], '--kid must not be plain'],
  [['retire', 'a', 'b'], 'retire takes one key id'],
  [['inspect', '--id', '1'], 'inspect needs --id <row> and --column <column>'],
])('%j is wrong usage', async (args, message) => {
  await keyring('a');
  await expect(keys(args, { DATABASE_URL: 'not a url', SESSION_TOKEN_KEYRING_FILE: file }, () => undefined)).rejects.toThrow(message);
});

test('wrong usage ends with 2; what was meant stands in the usage, which --help prints anywhere', async () => {
  expect(await run(['rotate'])).toEqual({ code: 2, stdout: '', stderr: 'keys: unknown command rotate: there are generate, list, add, promote, retire, inspect and rewrap\nkeys: see --help\n' });
  expect(await run([])).toMatchObject({ code: 2, stdout: `${KEYS_USAGE}\n` });
  for (const args of [['--help'], ['promote', '--help']]) expect(await run(args)).toEqual({ code: 0, stdout: `${KEYS_USAGE}\n`, stderr: '' });
});

describe('generate', () => {
  test('prints a keyring with one new key, which is the primary, and nothing else', async () => {
    const { code, stdout, stderr } = await run(['generate'], {});
    const made = JSON.parse(stdout) as KeyringDocument;
    expect([code, stderr, made.keys.length, made.primary]).toEqual([0, '', 1, made.keys[0]?.kid]);
    expect(ringOf(made).primary).toMatch(/^k\d\d[a-z]$/);
    expect((await run(['generate', '--kid', 'mine'], {})).stdout).toContain('"primary": "mine"');
  });

  test('lets the key of a key text stay the primary, and needs no database', async () => {
    const env = { SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT };
    expect(await run(['generate', '--out', file], env)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^a keyring with the key k\d\da beside k1, which stays the primary, is in .*then promote the new key\n$/) });
    const made = await document();
    expect([made.primary, made.keys.map(({ kid }) => kid)]).toEqual(['k1', [expect.stringMatching(/^k\d\da$/), 'k1']]);
    expect(ringOf(made).fingerprint('k1')).toBe(createKeyring({ keyText: h.KEY_TEXT }).fingerprint('k1'));
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test('overwrites no keyring, and takes no text that is no secret', async () => {
    await keyring('a');
    expect(await run(['generate', '--out', file], {})).toMatchObject({ code: 1, stderr: expect.stringContaining('is there already: a keyring that values are sealed under must not be overwritten') });
    expect(await run(['generate', '--out', join(folder, 'none', 'keyring.json')], {})).toMatchObject({ code: 2, stderr: `keys: --out: there is no folder ${join(folder, 'none')}\nkeys: see --help\n` });
    expect(await run(['generate'], { SESSION_TOKEN_ENCRYPTION_KEY: 'ab'.repeat(20) })).toMatchObject({ code: 78, stdout: '', stderr: expect.stringContaining('is no secret') });
  });
});

describe('add', () => {
  test('adds a key that seals nothing yet, and the database knows it', async () => {
    const before = await keyring('a');
    const { code, stdout } = await run(['add', '--kid', 'b']);
    expect([code, stdout]).toEqual([0, 'the key b is in the keyring and seals nothing yet. Once every gateway knows it (`keys list`), promote it\n']);
    const after = await document();
    expect(after).toEqual({ primary: 'a', keys: [before.keys[0], { kid: 'b', key: expect.stringMatching(/^[\w-]{43}$/) }] });
    expect((await known()).map(({ kid }) => kid)).toEqual(['a', 'b']);
    expect((await run(['add'])).stdout).toMatch(/^the key k\d\da is in/);
  });

  test('uses an id once, in whatever keyring it was', async () => {
    await keyring('a');
    await run(['add', '--kid', 'b']);
    await keyring('c');
    expect(await run(['add', '--kid', 'K1'])).toMatchObject({ code: 2, stderr: expect.stringContaining('--kid must be 1 to 16 characters a-z and 0-9') });
    for (const kid of ['a', 'b', 'c']) expect(await run(['add', '--kid', kid])).toMatchObject({ code: 1, stderr: `keys: there is, or was, a key ${kid} already: an id is used once\n` });
  });

  test('leaves nothing in the database of a key that could not be written down', async () => {
    const made = await keyring('a');
    expect(await run(['add', '--kid', 'b'], { DATABASE_URL: url, SESSION_TOKEN_KEYRING: JSON.stringify(made) })).toMatchObject({ code: 78, stderr: expect.stringContaining('put it into a file and name that in SESSION_TOKEN_KEYRING_FILE') });
    expect((await known()).map(({ kid }) => kid)).toEqual(['a']);
  });

  test('refuses a keyring that is not the database\'s', async () => {
    await keyring('a');
    await run(['add']);
    await keyring('a');
    expect(await run(['add'])).toMatchObject({ code: 78, stderr: expect.stringContaining('the key a is another key than the one that this database knows') });
  });

  test('waits for nobody: while another command is at work it is refused', async () => {
    await keyring('a');
    const holder = await db.pool.connect();
    await holder.query(`SELECT pg_advisory_lock(hashtextextended('session-gateway keys', 0))`);
    expect(await run(['add'])).toMatchObject({ code: 1, stderr: 'keys: another `keys` command is at work on this database: wait for it to end\n' });
    holder.release(true);
  });
});

describe('promote', () => {
  test('is refused while a live gateway does not know the key, or knows another one under its id, and changes nothing then', async () => {
    const made = await keyring('a', 'b');
    await reportInstance(db.sql, 'new', ringOf(made));
    await reportInstance(db.sql, 'old', ringOf({ primary: 'a', keys: made.keys.slice(0, 1) }));
    await reportInstance(db.sql, 'odd', ringOf({ primary: 'a', keys: [made.keys[0] ?? { kid: '', key: '' }, { kid: 'b', key: randomBytes(32).toString('base64url') }] }));
    const { code, stderr } = await run(['promote', 'b']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('2 of 3 live gateways do not know b and could not read what the others would seal')]);
    expect(stderr).toMatch(/gateway old: seals under a, knows a, seen .*Z\n/);
    expect(stderr).toMatch(/gateway odd: seals under a/);
    expect(await document()).toEqual(made);
    expect(await known()).toEqual([{ kid: 'a', promoted: false, retired: false }, { kid: 'b', promoted: false, retired: false }]);

    const blindly = await h.runJob(['--execute', '--to', 'b'], { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file });
    expect(blindly).toMatchObject({ code: 0, stderr: expect.stringContaining('2 live gateways do not know b and cannot read what is written now: give them the keyring') });

    for (const id of ['old', 'odd']) await forgetInstance(db.sql, id);
    expect(await run(['promote', 'b'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^b is the primary key now; the 1 live gateway knows it\. Rewrite what a holds with/) });
    expect(await document()).toEqual({ primary: 'b', keys: [{ ...made.keys[0], status: 'decrypt-only' }, made.keys[1]] });
    expect((await known()).filter(({ promoted }) => promoted)).toEqual([{ kid: 'b', promoted: true, retired: false }]);
    expect(await run(['promote', 'b'])).toMatchObject({ code: 0, stdout: 'b is the primary key already\n' });
  });

  test('is taken back by promoting the other key again; keys that still wait go on waiting', async () => {
    const made = await keyring('a', 'b', 'c');
    await run(['promote', 'b']);
    expect((await document()).keys.map(({ status }) => status)).toEqual(['decrypt-only', undefined, undefined]);
    expect(await run(['promote', 'a'])).toMatchObject({ code: 0, stdout: expect.stringContaining('no gateway is at work') });
    expect(await document()).toEqual({ primary: 'a', keys: [made.keys[0], { ...made.keys[1], status: 'decrypt-only' }, made.keys[2]] });
  });

  test('knows only keys of the keyring', async () => {
    await keyring('a', 'b');
    expect(await run(['promote', 'c'])).toMatchObject({ code: 1, stderr: 'keys: the keyring has no key c: there are a, b\n' });
  });
});

test('a key that is called as plaintext is, never gets to be what the job works for', async () => {
  const made = await keyring('a', 'plain');
  await store('one', { access_token: sealed(made, 'one', 'access_token'), refresh_token: sealed(made, 'one', 'refresh_token', 'plain') });
  expect(await run(['promote', 'plain'])).toMatchObject({ code: 1, stderr: expect.stringContaining('plain means plaintext to encrypt-tokens') });
  await writeFile(file, JSON.stringify({ ...made, primary: 'plain' }));
  const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file };
  for (const mode of ['--dry-run', '--execute', '--verify', '--finalize']) {
    expect(await h.runJob([mode, '--json'], env)).toMatchObject({ code: 78, stdout: '', stderr: expect.stringContaining('the primary key has the id plain, which means plaintext here') });
  }
  await writeFile(file, JSON.stringify(made));
  expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({ code: 0, json: { changed: 1 } });
  expect(await db.sql.query(`SELECT 1 FROM user_sessions WHERE access_token LIKE 'v2.a.%' AND refresh_token LIKE 'v2.a.%'`)).toHaveLength(1);
});

describe('retire', () => {
  test('is refused until no gateway seals under the key and no value is left under it; then the key is gone for good', async () => {
    const made = await keyring('a', 'b');
    await store('one', { access_token: sealed(made, 'one', 'access_token'), refresh_token: sealed(made, 'one', 'refresh_token') });
    await store('two', { access_token: sealed(made, 'two', 'access_token') });
    await db.sql.query(`UPDATE user_sessions SET is_active = false WHERE id = 'two'`);
    expect(await run(['retire', 'a'])).toMatchObject({ code: 1, stderr: 'keys: a is the primary key: promote another one first\n' });
    await run(['promote', 'b']);
    await reportInstance(db.sql, 'slow', ringOf(made));
    expect(await run(['retire', 'a'])).toMatchObject({ code: 1, stderr: expect.stringContaining('1 live gateway still seals under a: give them the new keyring, and a few seconds\n') });
    await reportInstance(db.sql, 'slow', ringOf(await document()));
    const left = await run(['retire', 'a']);
    expect(left).toMatchObject({ code: 1, stderr: expect.stringContaining('values are still sealed under a (access_token 2, refresh_token 1): rewrite them with') });
    expect((await known()).some(({ retired }) => retired)).toBe(false);
    expect((await document()).keys).toHaveLength(2);

    const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file };
    expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({ code: 0, json: { changed: 2 } });
    expect(await h.runJob(['--verify', '--json'], env)).toMatchObject({ code: 0 });
    expect(await run(['retire', 'a'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^a is retired: no value needs it, and it is out of the keyring/) });
    expect(await document()).toEqual({ primary: 'b', keys: [made.keys[1]] });
    expect(await known()).toEqual([{ kid: 'a', promoted: false, retired: true }, { kid: 'b', promoted: true, retired: false }]);
    expect(await run(['retire', 'a'])).toMatchObject({ code: 0 });
    await writeFile(file, JSON.stringify({ ...made, primary: 'b' }));
    expect(await run(['promote', 'a'])).toMatchObject({ code: 1, stderr: 'keys: a has been retired: add a new key instead\n' });
    expect(await h.runJob(['--execute', '--to', 'a'], env)).toMatchObject({ code: 78, stderr: expect.stringContaining('the key a has been retired: nothing may be sealed under it any more') });
  });

  test('is refused while another table that the job has worked on holds values under the key', async () => {
    const made = await keyring('a', 'b');
    await db.sql.query('CREATE TABLE archive (id TEXT PRIMARY KEY, token TEXT)');
    await db.sql.query(`INSERT INTO archive VALUES ('one', 'a token'), ('two', NULL)`);
    const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file };
    const job = ['--execute', '--table', 'archive', '--columns', 'token'];
    expect((await h.runJob(job, env)).code).toBe(0);
    await run(['promote', 'b']);
    expect(await run(['retire', 'a'])).toMatchObject({ code: 1, stderr: expect.stringContaining('values are still sealed under a (table archive)') });
    // What cannot be looked through is not taken for empty.
    await db.sql.query('ALTER TABLE archive DROP CONSTRAINT archive_pkey');
    expect(await run(['retire', 'a'])).toMatchObject({ code: 1, stderr: expect.stringContaining('column id of archive cannot be the id') });
    await db.sql.query('ALTER TABLE archive ADD PRIMARY KEY (id)');
    expect((await h.runJob(job, env)).code).toBe(0);
    expect(await run(['retire', 'a'])).toMatchObject({ code: 0 });
    expect((await document()).keys).toEqual([made.keys[1]]);
    await db.sql.query('DROP TABLE archive');
    expect(await run(['retire', 'nobody'])).toMatchObject({ code: 1, stderr: 'keys: there is no key nobody, neither in the keyring nor in the database\n' });
  });

  test('is refused to a role that may not see all rows', async () => {
    const made = await keyring('a', 'b');
    await store('one', { access_token: sealed(made, 'one', 'access_token') });
    await run(['promote', 'b']);
    await db.sql.query(`CREATE ROLE half_blind LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO half_blind; ALTER TABLE user_sessions ENABLE ROW LEVEL SECURITY`);
    expect(await run(['retire', 'a'], { DATABASE_URL: url.replace('postgres@', 'half_blind@'), SESSION_TOKEN_KEYRING_FILE: file }))
      .toMatchObject({ code: 1, stderr: expect.stringContaining('row-level security may hide rows of user_sessions') });
    expect((await document()).keys).toHaveLength(2);
    await db.sql.query('ALTER TABLE user_sessions DISABLE ROW LEVEL SECURITY');
  });

  test('takes its announcement back when the keyring cannot be written', async () => {
    const made = await keyring('a', 'b');
    await run(['promote', 'b']);
    const fixed = { DATABASE_URL: url, SESSION_TOKEN_KEYRING: await readFile(file, 'utf8') };
    expect(await run(['retire', 'a'], fixed)).toMatchObject({ code: 78 });
    expect((await known()).some(({ retired }) => retired)).toBe(false);
    expect(await run(['promote', made.primary], fixed)).toMatchObject({ code: 78 });
    expect((await known()).find(({ kid }) => kid === 'a')?.promoted).toBe(false);
  });
});

describe('list', () => {
  test('says of each key what it is for, who knows it and what it holds, for people and for programs', async () => {
    const made = await keyring('a', 'b', 'c');
    await store('one', { access_token: sealed(made, 'one', 'access_token'), refresh_token: sealed(made, 'one', 'refresh_token', 'b'), id_token: 'a plaintext token' });
    await store('two', { access_token: h.planValue('x'), refresh_token: `v2.gone.${'A'.repeat(60)}`, id_token: 'v2.' });
    secrets.push('a plaintext token');
    await reportInstance(db.sql, 'gw', ringOf({ primary: 'a', keys: made.keys.slice(0, 2) }));
    const listed = await run(['list', '--json']);
    expect(listed.code).toBe(0);
    const { keys: rows, older, gateways } = JSON.parse(listed.stdout) as { keys: Record<string, unknown>[]; older: unknown; gateways: unknown[] };
    expect(rows.map(({ kid, status, values, columns, knownTo, sealing }) => [kid, status, values, columns, knownTo, sealing])).toEqual([
      ['a', 'primary', 1, { access_token: 1 }, 1, 1], ['b', 'waiting', 1, { refresh_token: 1 }, 1, 0], ['c', 'waiting', 0, {}, 0, 0], ['gone', 'missing', 1, { refresh_token: 1 }, 0, 0]]);
    expect(older).toEqual({ plan: 1, plain: 1, malformed: 1 });
    expect(gateways).toHaveLength(1);
    const { stdout } = await run(['list']);
    expect(stdout.split('\n')[0]).toMatch(/^key +status +values +access +refresh +id +gateways +fingerprint$/);
    expect(stdout).toMatch(/^a +primary +1 +1 +0 +0 +1 of 1 +[0-9a-f]{16}$/m);
    expect(stdout).toContain('under no key id: 1 of the older format, 1 in plaintext, 1 malformed');
    expect(stdout).toMatch(/gateway gw: seals under a, knows a, b, seen/);
  });

  test('shows a key that is not the database\'s', async () => {
    await keyring('a');
    await run(['add']);
    await keyring('a');
    expect((await run(['list'])).stdout).toContain('the key a is another key than the one that this database knows under that id');
  });
});

describe('inspect', () => {
  const flipped = (value: string): string => value.replace(/.(?=.{30}$)/, (letter) => (letter === '0' ? '1' : '0'));
  const look = async (id: string, column: string, more: string[] = [], env?: Record<string, string | undefined>) => {
    const people = await run(['inspect', '--id', id, '--column', column, ...more], env);
    const { code, stdout, stderr } = await run(['inspect', '--json', '--id', id, '--column', column, ...more], env);
    if (code !== 0 && code !== 3) return { code, stderr };
    const facts = JSON.parse(stdout) as Record<string, unknown>;
    expect([people.code, people.stdout]).toEqual([code, expect.stringContaining(String(facts['explanation']))]);
    return { code, ...facts };
  };

  test('tells whether key, row or bytes are wrong, and never prints the token, the value or a key', async () => {
    const made = await keyring('a', 'b');
    const other = randomBytes(32).toString('base64url');
    const one = { access_token: sealed(made, 'one', 'access_token'), refresh_token: sealed(made, 'one', 'refresh_token', 'b') };
    await store('one', one);
    await run(['add']);
    const plan = h.planValue('a token of the older format');
    secrets.push('a token of the older format', plan, plan.slice(70), other);
    await store('moved', { access_token: one.refresh_token, refresh_token: one.access_token, id_token: flipped(one.access_token) });
    await store('plan', { access_token: plan, refresh_token: flipped(plan), id_token: plan.slice(0, 60) });
    await store('odd', { access_token: `v2.gone.${'A'.repeat(80)}`, refresh_token: 'v2.a.short' });
    const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file, SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT };

    expect(await look('one', 'access_token')).toMatchObject({ code: 0, format: 'v2', kid: 'a', opens: true, wrong: null, tokenBytes: 80, characters: one.access_token.length });
    expect(await look('one', 'id_token')).toMatchObject({ code: 0, format: 'empty', opens: null, explanation: 'there is no value' });
    expect(await look('moved', 'access_token')).toMatchObject({ code: 3, kid: 'b', opens: false, wrong: 'row', explanation: expect.stringContaining('it was sealed for refresh_token of row one') });
    expect(await look('moved', 'refresh_token')).toMatchObject({ code: 3, kid: 'a', wrong: 'row', explanation: expect.stringContaining('access_token of row one') });
    expect(await look('moved', 'id_token')).toMatchObject({ code: 3, wrong: 'bytes', explanation: expect.stringContaining('its bytes were changed') });
    expect(await look('odd', 'access_token')).toMatchObject({ code: 3, kid: 'gone', wrong: 'key', explanation: 'the key gone is not in the keyring, and this database has never known it' });
    expect(await look('odd', 'refresh_token')).toMatchObject({ code: 3, format: 'malformed', wrong: 'bytes' });
    expect(await look('plan', 'access_token', [], env)).toMatchObject({ code: 0, format: 'plan', opens: true, tokenBytes: 27 });
    expect(await look('plan', 'access_token')).toMatchObject({ code: 3, wrong: 'key', explanation: expect.stringContaining('SESSION_TOKEN_ENCRYPTION_KEY, which opens that, is not set') });
    expect(await look('plan', 'refresh_token', [], env)).toMatchObject({ code: 3, wrong: 'bytes' });
    expect(await look('plan', 'access_token', [], { ...env, SESSION_TOKEN_ENCRYPTION_KEY: 'quite another text for a key of old' })).toMatchObject({ code: 3, wrong: 'key or bytes' });
    expect(await look('plan', 'id_token')).toMatchObject({ code: 0, format: 'plain', opens: true, explanation: expect.stringContaining('it is in plaintext') });
    await writeFile(file, JSON.stringify({ primary: 'b', keys: [{ kid: 'a', key: other }, made.keys[1]] }));
    expect(await look('one', 'access_token')).toMatchObject({ code: 3, wrong: 'key', explanation: expect.stringContaining('the key under the id a in this keyring is another one') });
    await writeFile(file, JSON.stringify({ primary: 'b', keys: [made.keys[1]] }));
    expect(await look('one', 'access_token')).toMatchObject({ code: 3, wrong: 'key', explanation: 'the key a is not in the keyring; the database has known it' });
  });

  test('looks at a value that is given, in an argument or on stdin, as if it stood in that place', async () => {
    const made = await keyring('a');
    const value = sealed(made, 'one', 'access_token');
    await store('one', {});
    expect(await look('one', 'access_token', ['--value', value])).toMatchObject({ code: 0, opens: true });
    expect(await look('two', 'access_token', ['--value', value])).toMatchObject({ code: 3, wrong: 'row' });
    const piped = h.startJob(['-c', `printf '%s\\n' "$VALUE" | "${PROGRAM.join('" "')}" inspect --id one --column access_token --value -`], { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file, VALUE: value }, ['bash']);
    expect(await piped.exited).toMatchObject({ code: 0, stdout: expect.stringContaining('(a value given, not the stored one)') });
  });

  test('names a row, a column or a table that is not there', async () => {
    await keyring('a');
    expect(await look('nobody', 'access_token')).toEqual({ code: 1, stderr: 'keys: user_sessions has no row nobody\n' });
    expect(await look('one', 'nothing')).toMatchObject({ code: 1, stderr: expect.stringContaining('table user_sessions has no column nothing') });
    expect(await look('one', 'x', ['--table', 'nowhere'])).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no table nowhere') });
  });
});

test('without a keyring, with a wrong one, or without its database, each command says which variable to set', async () => {
  for (const command of [['add'], ['promote', 'a'], ['retire', 'a']]) {
    expect(await run(command, { DATABASE_URL: url, SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT })).toMatchObject({ code: 78, stderr: expect.stringContaining('SESSION_TOKEN_KEYRING_FILE must name the file that holds the keyring') });
  }
  await writeFile(file, '{');
  for (const command of [['add'], ['list'], ['promote', 'a'], ['retire', 'a'], ['inspect', '--id', '1', '--column', 'access_token']]) expect(await run(command)).toMatchObject({ code: 78, stderr: expect.stringContaining('it is not valid JSON') });
  await writeFile(file, '');
  expect(await run(['list'], { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file, SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT })).toMatchObject({ code: 78, stderr: 'keys: SESSION_TOKEN_KEYRING_FILE names an empty file\n' });
  await keyring('a');
  expect(await run(['list'], { DATABASE_URL: url.replace(/:\d+\//, ':1/'), SESSION_TOKEN_KEYRING_FILE: file })).toMatchObject({ code: 1, stderr: expect.stringContaining('the database cannot be reached') });
});

test('a keyring that Vault wraps is changed by the same commands, and rewrap moves it to the newest outer key', async () => {
  const vault = await startVault();
  const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file, VAULT_ADDR: vault.url, VAULT_TOKEN: vault.token, VAULT_TRANSIT_KEY: vault.key };
  const made = await keyring('a');
  secrets.push(vault.token);
  await store('one', { access_token: sealed(made, 'one', 'access_token') });
  const rows = () => db.sql.query('SELECT xmin::text AS xmin, access_token FROM user_sessions');
  const before = await rows();
  await chmod(file, 0o640);
  expect(await run(['list'], env)).toMatchObject({ code: 78, stderr: expect.stringContaining('is not wrapped, although VAULT_TRANSIT_KEY is set') });
  expect(await run(['rewrap'], env)).toMatchObject({ code: 0, stdout: expect.stringContaining('no stored token was touched') });
  expect(await readFile(file, 'utf8')).toMatch(/^vault:v1:/);
  expect(await run(['add', '--kid', 'b'], env)).toMatchObject({ code: 0 });
  expect(await run(['promote', 'b'], env)).toMatchObject({ code: 0 });
  vault.rotate();
  expect(await run(['rewrap'], env)).toMatchObject({ code: 0 });
  expect(await readFile(file, 'utf8')).toMatch(/^vault:v2:/);
  vault.forbidOldVersions();
  expect((await run(['list'], env)).stdout).toMatch(/^b +primary/m);
  expect(await rows()).toEqual(before);
  vault.seal();
  expect(await run(['list'], env)).toMatchObject({ code: 1, stderr: 'keys: Vault cannot serve just now (VAULT_ADDR): it answered 503\n' });
  expect(await run(['generate', '--out', `${file}.new`], env)).toMatchObject({ code: 1 });
  vault.unseal();
  expect(await run(['generate', '--out', `${file}.new`], env)).toMatchObject({ code: 0 });
  expect(await readFile(`${file}.new`, 'utf8')).toMatch(/^vault:v2:/);
  expect(await run(['rewrap'], { ...env, VAULT_TRANSIT_KEY: undefined })).toMatchObject({ code: 78, stderr: expect.stringContaining('VAULT_TRANSIT_KEY must name') });
  await vault.dispose();
});

test('through Nx a command says the same, and failure is not 0', async () => {
  const made = await keyring('a');
  await store('one', { access_token: sealed(made, 'one', 'access_token') });
  const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file };
  const nx = (...args: string[]) => h.startJob(['nx', 'run', 'migrations:keys', '--', ...args], env, ['npx']).exited;
  expect(await nx('list')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^a +primary +1 +1 +0 +0 +0 of 0/m) });
  expect((await nx('retire', 'a')).code).not.toBe(0);
});

describeWith(['script'], 'on a terminal', () => {
  test('each command says what it says in a pipe', async () => {
    const made = await keyring('a', 'b');
    await store('one', { access_token: sealed(made, 'one', 'access_token') });
    const env = { DATABASE_URL: url, SESSION_TOKEN_KEYRING_FILE: file };
    const terminal = async (...args: string[]) => {
      const { code, stdout } = await h.startJob(['-qec', [...PROGRAM, ...args].map((word) => `'${word}'`).join(' '), '/dev/null'], env, ['script']).exited;
      for (const secret of secrets) expect(stdout).not.toContain(secret);
      return { code, text: stdout.replaceAll('\r\n', '\n') };
    };
    for (const args of [['list'], ['inspect', '--id', 'one', '--column', 'access_token'], ['inspect', '--id', 'one', '--column', 'nothing'], ['retire', 'a'], ['promote', 'c'], ['--help'], ['nonsense'], ['rewrap']]) {
      const piped = await run(args);
      expect(await terminal(...args)).toEqual({ code: piped.code, text: piped.stdout + piped.stderr });
    }
    expect(await terminal('promote', 'b')).toMatchObject({ code: 0, text: expect.stringContaining('b is the primary key now') });
    expect(await terminal('add', '--kid', 'c')).toMatchObject({ code: 0, text: expect.stringContaining('the key c is in the keyring') });
    expect(await terminal('generate', '--out', `${file}.new`)).toMatchObject({ code: 0, text: expect.stringContaining('a keyring with the key') });
  });
});
