import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import { type Environment, readKeyring } from './config.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const GOOD_TEXT = randomBytes(30).toString('base64url');
const key = (): string => randomBytes(32).toString('base64url');
const keyring = (bytes: string): string =>
  JSON.stringify({ primary: 'a', keys: [{ kid: 'a', key: bytes }] });

function problems(env: Environment): string[] {
  const found: string[] = [];
  readKeyring(env, found);
  return found;
}

/** Every text in the documents that somebody could take for a key. */
function shownKeys(): { texts: string[]; rings: string[] } {
  const documents = [
    'README.md',
    'ARCHITECTURE.md',
    'SECURITY.md',
    'CONTRIBUTING.md',
    ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map((name) => `docs/${String(name)}`),
  ];
  const text = documents
    .filter((name) => name.endsWith('.md'))
    .map((name) => readFileSync(join(ROOT, name), 'utf8'))
    .join('\n');
  const bytes = [
    // A metric's name may be as long as a key.
    ...[...text.matchAll(/(?<![\w-])(?!session_gateway_)[\w-]{43}(?![\w-])/g)]
      .map(([encoded]) => Buffer.from(encoded, 'base64url'))
      .filter((decoded, index, all) => decoded.length === 32 && all.indexOf(decoded) === index),
    ...[...text.matchAll(/(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g)].map(([encoded]) =>
      Buffer.from(encoded, 'hex'),
    ),
  ];
  return {
    texts: [
      ...text.matchAll(/^key text +(.+)$/gm),
      ...text.matchAll(/SESSION_TOKEN_ENCRYPTION_KEY=["']?([^\s"'$]{32,})/g),
    ].map(([, found]) => found ?? ''),
    rings: bytes.map((decoded) => keyring(decoded.toString('base64url'))),
  };
}

/** Those of the test vectors, which stand in other places too. */
function vectorKeys(): Environment[] {
  const fixture = (name: string): string =>
    readFileSync(join(ROOT, 'libs/keycloak-authV2/src/services/encryption/fixtures', name), 'utf8');
  const golden = JSON.parse(fixture('golden.json')) as { keyText?: string; keyring?: unknown }[];
  const plan = JSON.parse(fixture('plan-format.json')) as { vectors: { key: string }[] };
  const texts = new Set([
    ...golden.flatMap(({ keyText }) => keyText ?? []),
    ...plan.vectors.map((vector) => vector.key),
  ]);
  return [
    ...[...texts]
      .filter((text) => text.length >= 32)
      .map((text) => ({ SESSION_TOKEN_ENCRYPTION_KEY: text })),
    ...golden.flatMap((entry) =>
      entry.keyring === undefined ? [] : { SESSION_TOKEN_KEYRING: JSON.stringify(entry.keyring) },
    ),
  ];
}

describe('a key that is no secret is refused:', () => {
  test('a text of a few characters over and over', () => {
    for (const text of ['a'.repeat(32), 'ab'.repeat(20), 'abcdefg'.repeat(9)]) {
      expect(problems({ SESSION_TOKEN_ENCRYPTION_KEY: text })).toEqual([
        expect.stringMatching(
          /^SESSION_TOKEN_ENCRYPTION_KEY: the key text is no secret, it repeats a few characters/,
        ),
      ]);
    }
    expect(problems({ SESSION_TOKEN_ENCRYPTION_KEY: GOOD_TEXT })).toEqual([]);
  });

  test('bytes that repeat', () => {
    for (const bytes of [
      Buffer.alloc(32),
      Buffer.alloc(32, 'abc'),
      Buffer.from('0001020304050600'.repeat(4), 'hex'),
    ]) {
      expect(problems({ SESSION_TOKEN_KEYRING: keyring(bytes.toString('base64url')) })).toEqual([
        expect.stringMatching(/^SESSION_TOKEN_KEYRING: the key of a is not random/),
      ]);
    }
    expect(problems({ SESSION_TOKEN_KEYRING: keyring(key()) })).toEqual([]);
  });

  test('every one that the documents show', () => {
    const { texts, rings } = shownKeys();
    expect(texts.length).toBeGreaterThan(0);
    expect(rings.length).toBeGreaterThan(2);
    for (const text of texts)
      expect([text, problems({ SESSION_TOKEN_ENCRYPTION_KEY: text })]).toEqual([
        text,
        [
          expect.stringMatching(
            /^SESSION_TOKEN_ENCRYPTION_KEY: the key k1 stands in public documentation/,
          ),
        ],
      ]);
    for (const ring of rings)
      expect([ring, problems({ SESSION_TOKEN_KEYRING: ring })]).toEqual([
        ring,
        [expect.stringMatching(/^SESSION_TOKEN_KEYRING: the key a stands in public documentation/)],
      ]);
  });

  test('in production, every one of the test vectors', () => {
    const vectors = vectorKeys();
    expect(vectors.length).toBeGreaterThan(3);
    for (const vector of vectors) {
      const found = problems({ NODE_ENV: 'production', ...vector });
      expect([vector, found.length]).toEqual([
        vector,
        vector['SESSION_TOKEN_KEYRING'] === undefined ? 1 : 2,
      ]);
      expect(found.every((problem) => problem.includes('stands in public documentation'))).toBe(
        true,
      );
    }
  });
});

test('the faults of the text and of the keyring are told together, each by its own name and without a value', () => {
  const found = problems({
    SESSION_TOKEN_ENCRYPTION_KEY: 'ab'.repeat(20),
    SESSION_TOKEN_KEYRING: keyring(key()).replace('"a"', '"b"'),
  });
  expect(found.map((problem) => problem.split(':')[0])).toEqual([
    'SESSION_TOKEN_ENCRYPTION_KEY',
    'SESSION_TOKEN_KEYRING',
  ]);
  expect(found.join()).not.toMatch(/abab|[\w-]{43}/);
});
