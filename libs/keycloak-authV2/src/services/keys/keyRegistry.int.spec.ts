import { createCipheriv, createHash, randomBytes, scryptSync } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Database, findPrismaDir, migrate, openDatabase } from '@session-gateway/database';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import { ConfigError } from '../../config.js';
import { createKeyring, type Keyring } from '../encryption/keyring.js';
import { type ReadPolicy, TokenEncryption } from '../encryption/TokenEncryption.js';
import { forgetInstance, liveInstances, reportInstance } from './instances.js';
import {
  announce,
  confirmKeys,
  countStored,
  forgetKey,
  keyFaults,
  knownKeys,
  rememberKeys,
} from './keyRegistry.js';

const KEY_TEXT = 'a key text of the registry, long enough';
const keyOf = (seed: string): string => createHash('sha256').update(seed).digest('base64url');
/** `a b*`: the keys a and b, b the primary; the key of `a!` is not a's. */
function ring(spelled: string, keyText?: string): Keyring {
  const keys = spelled
    .split(' ')
    .map((word) => ({ kid: word.replace(/[!*]/g, ''), key: keyOf(word.replace('*', '')) }));
  const primary = spelled
    .split(' ')
    .find((word) => word.endsWith('*'))
    ?.replace(/[!*]/g, '');
  return createKeyring({
    keyText,
    keyringJson: JSON.stringify({ primary: primary ?? keys[0]?.kid, keys }),
  });
}

let postgres: TestPostgres;
let db: Database;
let url: string;
beforeAll(async () => {
  postgres = await startPostgres();
  url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  db = openDatabase({ url });
});
afterAll(async () => {
  await db?.close();
  await postgres?.dispose();
});
beforeEach(async () => {
  await db.sql.query('TRUNCATE users, user_sessions, token_keys, gateway_instances CASCADE');
  await db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u', 'u')`);
});

async function store(id: string, accessToken: string, how: { live?: boolean } = {}): Promise<void> {
  await db.sql.query(
    `INSERT INTO user_sessions (id, user_id, expires_at, access_token) VALUES ($1, 'u', now() + $2::interval, $3)`,
    [id, how.live === false ? '-1 hour' : '1 hour', accessToken],
  );
}
const seal = (keyring: Keyring, id: string): string =>
  new TokenEncryption({ keyring }).seal(`token of ${id}`, {
    table: 'user_sessions',
    column: 'access_token',
    rowId: id,
  });
function planSeal(token: string): string {
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-gcm', scryptSync(KEY_TEXT, 'session-tokens-salt', 32), iv);
  const body = Buffer.concat([cipher.update(token), cipher.final()]).toString('hex');
  return `${iv.toString('hex')}:${cipher.getAuthTag().toString('hex')}:${body}`;
}
async function refusal(keyring: Keyring, policy: ReadPolicy = 'v2+plan'): Promise<string[]> {
  const before = await knownKeys(db.sql);
  try {
    await confirmKeys(db, keyring, policy);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // What is refused leaves no trace.
    expect(await knownKeys(db.sql)).toEqual(before);
    return [...error.problems];
  }
}

describe('the keys of a process', () => {
  test('are written down with fingerprint and sealed canary when they are new, and nothing of the keys themselves is', async () => {
    expect(await refusal(ring('a b*'))).toEqual([]);
    const known = await knownKeys(db.sql);
    expect(
      known.map(({ kid, fingerprint, promotedAt, retiredAt }) => [
        kid,
        fingerprint,
        promotedAt,
        retiredAt,
      ]),
    ).toEqual([
      ['a', ring('a').fingerprint('a'), null, null],
      ['b', ring('b').fingerprint('b'), null, null],
    ]);
    expect(known.every(({ kid, canary }) => canary.startsWith(`v2.${kid}.`))).toBe(true);
    expect(await postgres.dump(url)).not.toContain(keyOf('a'));
    expect(await refusal(ring('a b*'))).toEqual([]);
  });

  test('are refused when one is another key under an id that the database knows, primary or not', async () => {
    await confirmKeys(db, ring('a b*'), 'v2+plan');
    for (const other of ['a! b*', 'a b!*', 'a!* b', 'c* a!'])
      expect(await refusal(ring(other))).toEqual([
        expect.stringMatching(
          /^SESSION_TOKEN_KEYRING or SESSION_TOKEN_ENCRYPTION_KEY: the key [ab] is another key than the one that this database knows/,
        ),
      ]);
    expect(await refusal(ring('a! b!*'))).toHaveLength(2);
    expect(await refusal(createKeyring({ keyText: KEY_TEXT }))).toEqual([]);
    expect(await refusal(createKeyring({ keyText: `${KEY_TEXT} or another` }))).toEqual([
      expect.stringContaining('the key k1 is another key'),
    ]);
  });

  test('of two processes that come first with different keys under one id: one is taken', async () => {
    const other = openDatabase({ url });
    const outcomes = await Promise.allSettled([
      rememberKeys(db.sql, ring('a')),
      rememberKeys(other.sql, ring('a!')),
    ]);
    await other.close();
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  test('are refused when a stored value needs one that is missing, also in a session that is over but not swept yet', async () => {
    await confirmKeys(db, ring('a b*'), 'v2+plan');
    await store('one', seal(ring('a'), 'one'));
    await store('two', seal(ring('a'), 'two'), { live: false });
    await store('three', seal(ring('b'), 'three'));
    expect(await refusal(ring('b'))).toEqual([
      expect.stringMatching(
        /the key a is missing, and 2 values are sealed under it: add it \(decrypt-only will do\)/,
      ),
    ]);
    expect(await refusal(ring('c'))).toEqual([
      expect.stringContaining('the key a is missing, and 2 values are'),
      expect.stringContaining('the key b is missing, and 1 value is'),
    ]);
    await db.sql.query(`DELETE FROM user_sessions WHERE id <> 'three'`);
    expect(await refusal(ring('b'))).toEqual([]);
  });

  test('that the database does not know are tried on what is stored under their ids', async () => {
    await store('one', seal(ring('a'), 'one'));
    expect(await refusal(ring('a!'))).toEqual([
      expect.stringContaining('the key a is not the one that values under a were sealed with'),
    ]);
    expect(await refusal(ring('a'))).toEqual([]);
  });

  test('are refused when the list of keys was tampered with', async () => {
    await confirmKeys(db, ring('a b*'), 'v2+plan');
    await db.sql.query(
      `UPDATE token_keys SET canary = (SELECT canary FROM token_keys WHERE kid = 'b') WHERE kid = 'a'`,
    );
    expect(await refusal(ring('a b*'))).toEqual([
      expect.stringContaining(
        'token_keys: the canary of a does not open although the key is the right one',
      ),
    ]);
  });

  test('are judged by the last promotion, also of two in one millisecond', async () => {
    await confirmKeys(db, ring('a b*'), 'v2+plan');
    await db.sql.query(
      `UPDATE token_keys SET promoted_at = timestamptz '2026-01-01 00:00:00.000100Z' + CASE kid WHEN 'b' THEN interval '1 microsecond' ELSE interval '0' END`,
    );
    expect(await keyFaults(db.sql, ring('a'))).toEqual([
      expect.stringContaining('the key b, which'),
    ]);
    expect(await keyFaults(db.sql, ring('b'))).toEqual([]);
  });

  test('are refused when the primary has been retired, or the promoted key is missing; a promotion can be taken back', async () => {
    await confirmKeys(db, ring('a b c*'), 'v2+plan');
    const unretire = await announce(db.sql, 'a', 'retired');
    expect(await keyFaults(db.sql, ring('a* b'))).toEqual([
      expect.stringContaining('the primary key a has been retired'),
    ]);
    expect(await keyFaults(db.sql, ring('a b*'))).toEqual([]);
    await unretire();
    expect(await keyFaults(db.sql, ring('a* b'))).toEqual([]);

    await announce(db.sql, 'a', 'promoted');
    const takeBack = await announce(db.sql, 'b', 'promoted');
    expect(await refusal(ring('a'))).toEqual([
      expect.stringContaining('the key b, which gateways were told to seal under, is missing'),
    ]);
    // The primary itself may lag behind: a keyring takes its time to reach everybody.
    expect(await keyFaults(db.sql, ring('a* b'))).toEqual([]);
    await takeBack();
    expect(await keyFaults(db.sql, ring('a'))).toEqual([]);
    expect(await keyFaults(db.sql, ring('b'))).toEqual([
      expect.stringContaining('the key a, which'),
    ]);
  });

  test("that came to nothing are forgotten, unless they are somebody else's or in use", async () => {
    await rememberKeys(db.sql, ring('a b c*'));
    await announce(db.sql, 'c', 'promoted');
    await forgetKey(db.sql, ring('a!'), 'a');
    await forgetKey(db.sql, ring('b'), 'b');
    await forgetKey(db.sql, ring('c'), 'c');
    expect((await knownKeys(db.sql)).map(({ kid }) => kid)).toEqual(['a', 'c']);
  });
});

describe('on a table that cannot be counted in time', () => {
  /** Every look at the token columns waits until it is cut off. */
  async function withLockedTable<Result>(work: () => Promise<Result>): Promise<Result> {
    const holder = await db.pool.connect();
    await holder.query('BEGIN; LOCK TABLE user_sessions');
    try {
      return await work();
    } finally {
      await holder.query('ROLLBACK');
      holder.release();
    }
  }

  test('keys that are all there pass, in bounded time and with no word on older formats', async () => {
    await rememberKeys(db.sql, ring('a b*'));
    expect(await withLockedTable(() => confirmKeys(db, ring('a b*'), 'v2'))).toBeNull();
  });

  test('a key that is missing and not retired is refused, because values may need it', async () => {
    await rememberKeys(db.sql, ring('a b*'));
    expect(await withLockedTable(() => refusal(ring('b')))).toEqual([
      expect.stringContaining('the key a is missing, and values may be sealed under it'),
    ]);
    await announce(db.sql, 'a', 'retired');
    expect(await withLockedTable(() => refusal(ring('b')))).toEqual([]);
  });
});

describe('the read policy', () => {
  test('v2 is refused while live sessions hold older formats, and taken when only ended ones do', async () => {
    await store('one', planSeal('token'));
    await store('two', 'a plaintext token');
    const keyring = ring('a', KEY_TEXT);
    expect(await refusal(keyring, 'v2')).toEqual([
      'TOKEN_READ_POLICY is v2, but live sessions hold 1 values of the older format and 1 in plaintext, which it refuses to read: run `nx run migrations:encrypt-tokens -- --execute` first',
    ]);
    expect(await confirmKeys(db, keyring, 'v2+plan')).toEqual({ plan: 1, plain: 1 });
    expect(await confirmKeys(db, keyring, 'all')).toEqual({ plan: 1, plain: 1 });
    await db.sql.query('UPDATE user_sessions SET is_active = false');
    expect(await confirmKeys(db, keyring, 'v2')).toEqual({ plan: 0, plain: 0 });
  });

  test('v2+plan is refused without the key text while live sessions hold values that only it opens', async () => {
    await store('one', planSeal('token'));
    for (const policy of ['v2+plan', 'all'] as const)
      expect(await refusal(ring('a'), policy)).toEqual([
        expect.stringContaining(
          'SESSION_TOKEN_ENCRYPTION_KEY must be set: 1 values of live sessions have the older format',
        ),
      ]);
    expect(await refusal(ring('a', KEY_TEXT))).toEqual([]);
  });
});

test('stored values are counted by column, kind, key and liveness, without one being opened', async () => {
  await store('one', seal(ring('a'), 'one'));
  await store('two', seal(ring('a'), 'elsewhere'));
  await store('three', 'v2.a');
  await store('four', planSeal('x'), { live: false });
  await store('five', 'plain');
  await store('six', '');
  const count = (kind: string, kid: string | null, live: boolean, values: number) => ({
    column: 'access_token',
    kind,
    kid,
    live,
    values,
  });
  expect(await countStored(db.sql)).toEqual([
    count('malformed', null, true, 1),
    count('plain', null, true, 1),
    count('plan', null, false, 1),
    count('v2', 'a', true, 2),
  ]);
});

describe('an instance', () => {
  test('is live for half a minute after its last report, and tells its keys and what it seals under', async () => {
    await reportInstance(db.sql, 'one', ring('a b*'));
    await reportInstance(db.sql, 'two', ring('a'));
    await reportInstance(db.sql, 'one', ring('a b c*'), 'b');
    expect(
      (await liveInstances(db.sql)).map(({ id, primaryKid, keys }) => [id, primaryKid, keys]),
    ).toEqual([
      [
        'one',
        'b',
        {
          a: ring('a').fingerprint('a'),
          b: ring('b').fingerprint('b'),
          c: ring('c').fingerprint('c'),
        },
      ],
      ['two', 'a', { a: ring('a').fingerprint('a') }],
    ]);
    await db.sql.query(
      `UPDATE gateway_instances SET seen_at = now() - interval '31 seconds' WHERE id = 'one'`,
    );
    expect((await liveInstances(db.sql)).map(({ id }) => id)).toEqual(['two']);
    await db.sql.query(
      `UPDATE gateway_instances SET seen_at = now() - interval '2 hours' WHERE id = 'one'`,
    );
    await reportInstance(db.sql, 'two', ring('a'));
    expect(await db.sql.query('SELECT id FROM gateway_instances')).toEqual([{ id: 'two' }]);
    await forgetInstance(db.sql, 'two');
    expect(await liveInstances(db.sql)).toEqual([]);
  });
});
