import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '@session-gateway/keycloak-auth';
import { readConfig } from './config.js';

const KEY = 'a key text of the job, long enough to be one';
const key = (fill: string): string => Buffer.alloc(32, fill).toString('base64url');
const KEYRING = JSON.stringify({
  primary: 'b',
  keys: [
    { kid: 'b', key: key('first key') },
    { kid: 'a', key: key('other key'), status: 'decrypt-only' },
  ],
});
const DATABASE_URL = 'postgresql://me:secret@host/db';

describe('the environment of the job', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'migrations-config-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const problems = (env: Record<string, string>): readonly string[] => {
    try {
      readConfig({ DATA_DIR: folder, ...env });
    } catch (error) {
      if (error instanceof ConfigError) return error.problems;
      throw error;
    }
    return [];
  };

  test('gives database and keys, from variables or from files', () => {
    for (const env of [
      { DATABASE_URL, SESSION_TOKEN_ENCRYPTION_KEY: KEY, SESSION_TOKEN_KEYRING: KEYRING },
      {
        DATABASE_URL_FILE: file('url', `${DATABASE_URL}\n`),
        SESSION_TOKEN_ENCRYPTION_KEY_FILE: file('key', `${KEY}\r\n`),
        SESSION_TOKEN_KEYRING_FILE: file('ring', KEYRING),
      },
    ]) {
      const config = readConfig({ ...env, NODE_ENV: 'production' });
      expect([
        config.databaseUrl,
        config.keyring.primary,
        config.keyring.kids,
        [...config.keyring.decryptOnly],
        config.keyring.planKey !== undefined,
      ]).toEqual([DATABASE_URL, 'b', ['b', 'a'], ['a'], true]);
    }
    expect(readConfig({ DATABASE_URL, SESSION_TOKEN_ENCRYPTION_KEY: KEY }).keyring.kids).toEqual([
      'k1',
    ]);
    expect(
      readConfig({ DATABASE_URL, SESSION_TOKEN_KEYRING: KEYRING }).keyring.planKey,
    ).toBeUndefined();
  });

  test('is refused with everything that is wrong at once, and shows no value', () => {
    const found = problems({
      DATABASE_URL: 'mysql://me:secret@host',
      SESSION_TOKEN_ENCRYPTION_KEY: 'tooshort',
      SESSION_TOKEN_KEYRING: `{"secretkey`,
    });
    expect(found).toEqual([
      'DATABASE_URL is not a URL of the form postgresql://…, without white space or control characters',
      'SESSION_TOKEN_ENCRYPTION_KEY: the key text is shorter than 32 characters',
      'SESSION_TOKEN_KEYRING: it is not valid JSON',
    ]);
    const twice = problems({
      DATABASE_URL,
      DATABASE_URL_FILE: 'x',
      SESSION_TOKEN_ENCRYPTION_KEY: KEY,
      SESSION_TOKEN_ENCRYPTION_KEY_FILE: 'y',
    });
    expect(twice).toEqual([
      'DATABASE_URL and DATABASE_URL_FILE are both set: keep one of them',
      'SESSION_TOKEN_ENCRYPTION_KEY and SESSION_TOKEN_ENCRYPTION_KEY_FILE are both set: keep one of them',
    ]);
    expect(
      problems({
        DATABASE_URL_FILE: '/nonexistent',
        SESSION_TOKEN_KEYRING_FILE: file('nothing', '\n'),
      }),
    ).toEqual([
      'DATABASE_URL_FILE names a file that cannot be read',
      'SESSION_TOKEN_KEYRING_FILE names an empty file',
    ]);
    expect([...found, ...twice].join()).not.toMatch(/secret|tooshort/);
  });

  test.each([
    'host/db',
    'http://host/db',
    'postgresql://',
    'postgres://a b',
    'postgresql://host:port/db',
  ])('%s is no database', (url) => {
    expect(problems({ DATABASE_URL: url, SESSION_TOKEN_ENCRYPTION_KEY: KEY })).toEqual([
      'DATABASE_URL is not a URL of the form postgresql://…, without white space or control characters',
    ]);
  });

  test('with a keyring that has been refused before tells that alone of the keys', () => {
    const refused = ['SESSION_TOKEN_KEYRING is not wrapped'];
    expect(() => readConfig({ NODE_ENV: 'production' }, [...refused])).toThrow(
      expect.objectContaining({
        problems: [
          ...refused,
          'DATABASE_URL must be set in production: the embedded database is for development',
        ],
      }),
    );
    expect(() => readConfig({ NODE_ENV: 'production', DATABASE_URL }, [...refused])).toThrow(
      expect.objectContaining({ problems: refused }),
    );
  });

  test('production takes neither the embedded database nor its generated key', () => {
    file('session-token-encryption.key', `${KEY}\n`);
    expect(readConfig({ DATA_DIR: folder })).toMatchObject({
      databaseUrl: undefined,
      dataDir: folder,
      keyring: { primary: 'k1' },
    });
    expect(problems({ NODE_ENV: 'production' })).toEqual([
      'DATABASE_URL must be set in production: the embedded database is for development',
      'SESSION_TOKEN_ENCRYPTION_KEY or SESSION_TOKEN_KEYRING must be set: the keys that the gateway uses',
    ]);
  });
});
