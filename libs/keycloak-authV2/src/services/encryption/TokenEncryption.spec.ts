import { createCipheriv, randomBytes, scryptSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { AuthError } from '../../errors.js';
import { createKeyring } from './keyring.js';
import { MAX_TOKEN_BYTES, type ReadPolicy, TokenEncryption } from './TokenEncryption.js';

const { vectors } = JSON.parse(readFileSync(new URL('./fixtures/plan-format.json', import.meta.url), 'utf8')) as {
  vectors: { key: string; plaintext?: string; stored: string; valid: boolean; why?: string }[];
};
const keyText = 'a key text of this suite, long enough';
const keyring = createKeyring({ keyText });
const encryption = new TokenEncryption({ keyring });
const here = { table: 'user_sessions', column: 'access_token', rowId: 'row-1' };
const token = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl';

function reasonOf(open: () => unknown): string | undefined {
  try {
    open();
  } catch (error) {
    if (error instanceof AuthError && error.code === 'token_unreadable') return error.reason;
    throw error;
  }
  return undefined;
}

describe('v2 values', () => {
  test('open to what was sealed, and no two seals of one token are alike', () => {
    fc.assert(fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (text) => {
      const [a, b] = [encryption.seal(text, here), encryption.seal(text, here)];
      expect(a).not.toBe(b);
      expect(TokenEncryption.classify(a)).toBe('v2');
      expect(encryption.open(a, here)).toBe(Buffer.from(text, 'utf8').toString('utf8'));
    }));
  });

  test('written by the first release open for ever', () => {
    const golden = 'v2.k1.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXx4T8grzZOFZL5DBdLIdlpJlVsn5h45omrN0ZUg';
    const fixed = new TokenEncryption({ keyring, randomBytes: (n) => Buffer.from(Array.from({ length: n }, (_, i) => i)) });
    expect(fixed.seal('golden token', here)).toBe(golden);
    expect(encryption.open(golden, here)).toBe('golden token');
  });

  test.each([
    ['another row', { ...here, rowId: 'row-2' }],
    ['another column', { ...here, column: 'refresh_token' }],
    ['another table', { ...here, table: 'sessions' }],
    ['a shifted boundary', { ...here, column: 'access_tokenr', rowId: 'ow-1' }],
  ])('do not open in %s', (_, elsewhere) => {
    expect(reasonOf(() => encryption.open(encryption.seal(token, here), elsewhere))).toBe('not_authentic');
  });

  test('do not open when any single bit is flipped, and say nothing about which', () => {
    const stored = encryption.seal(token, here);
    const [version, kid, encoded] = stored.split('.') as [string, string, string];
    const bytes = Buffer.from(encoded, 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const bent = Buffer.from(bytes);
      bent[bit >> 3]! ^= 1 << (bit & 7);
      expect(reasonOf(() => encryption.open(`${version}.${kid}.${bent.toString('base64url')}`, here))).toBe('not_authentic');
    }
  });

  test('do not open when cut short at any length', () => {
    const stored = encryption.seal(token, here);
    for (let length = 1; length < stored.length; length++) {
      expect(reasonOf(() => encryption.open(stored.slice(0, length), here))).toMatch(/not_authentic|malformed|refused_by_policy/);
    }
  });

  test('name their key: an unknown key id is not mistaken for damage', () => {
    const ring = JSON.stringify({ primary: 'k2', keys: [{ kid: 'k2', key: randomBytes(32).toString('base64url') }] });
    const other = new TokenEncryption({ keyring: createKeyring({ keyringJson: ring }) });
    expect(reasonOf(() => encryption.open(other.seal(token, here), here))).toBe('unknown_kid');
  });

  test('relabelled with another known key id do not open', () => {
    const shared = randomBytes(32).toString('base64url');
    const ring = { primary: 'a', keys: [{ kid: 'a', key: shared }, { kid: 'b', key: randomBytes(32).toString('base64url') }] };
    const two = new TokenEncryption({ keyring: createKeyring({ keyringJson: JSON.stringify(ring) }) });
    expect(reasonOf(() => two.open(two.seal(token, here).replace('v2.a.', 'v2.b.'), here))).toBe('not_authentic');
  });

  test('larger than any token are refused before any cryptography', () => {
    expect(reasonOf(() => encryption.seal('x'.repeat(MAX_TOKEN_BYTES + 1), here))).toBe('too_large');
    expect(reasonOf(() => encryption.open(`v2.k1.${'A'.repeat(4 * Math.ceil((MAX_TOKEN_BYTES + 48) / 3))}`, here))).toBe('too_large');
  });
});

describe('values of the plan\'s format', () => {
  test.each(vectors.filter((v) => v.valid))('open: $stored', (v) => {
    const reader = new TokenEncryption({ keyring: createKeyring({ keyText: v.key }) });
    expect(reader.open(v.stored, here)).toBe(v.plaintext);
  });

  test.each(vectors.filter((v) => !v.valid))('with a fault do not open: $why', (v) => {
    const reader = new TokenEncryption({ keyring: createKeyring({ keyText: v.key }) });
    expect(reasonOf(() => reader.open(v.stored, here))).toMatch(/not_authentic|refused_by_policy/);
  });

  test('with a tag cut to 4 bytes, which a reader without a tag length accepts, are a text and stay closed', () => {
    const iv = randomBytes(16);
    const cipher = createCipheriv('aes-256-gcm', scryptSync(keyText, 'session-tokens-salt', 32), iv);
    const body = Buffer.concat([cipher.update(token), cipher.final()]).toString('hex');
    const stored = `${iv.toString('hex')}:${cipher.getAuthTag().subarray(0, 4).toString('hex')}:${body}`;
    expect(TokenEncryption.classify(stored)).toBe('plain');
    expect(reasonOf(() => encryption.open(stored, here))).toBe('refused_by_policy');
  });
});

describe('classification', () => {
  test.each([
    [null, 'empty'], ['', 'empty'], [token, 'plain'], ['a:b:c', 'plain'], ['opaque:token', 'plain'],
    [`v2.k1.${'A'.repeat(54)}`, 'v2'], [`v2.k1.${'A'.repeat(53)}`, 'malformed'], [`v2.K1.${'A'.repeat(54)}`, 'malformed'],
    [`v2.k1.${'A'.repeat(53)}B`, 'malformed'], ['v2.', 'malformed'], [`v2.k1.${'A'.repeat(54)}=`, 'malformed'], [`v2.k1.${'A'.repeat(54)}\n`, 'malformed'],
    [`v2.${'a'.repeat(17)}.${'A'.repeat(54)}`, 'malformed'], ['v3.k1.AAAA', 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:00`, 'plan'], [`${'0'.repeat(32)}:${'0'.repeat(32)}:`, 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:0`, 'plain'], [`${'A'.repeat(32)}:${'0'.repeat(32)}:00`, 'plain'], [`${'0'.repeat(32)}:${'0'.repeat(32)}:00\n`, 'plain'],
  ] as const)('of %j is %s', (stored, expected) => {
    expect(TokenEncryption.classify(stored)).toBe(expected);
  });
});

describe('the read policy', () => {
  const plan = vectors[0]!;
  const v2 = encryption.seal(token, here);
  test.each<[ReadPolicy, string | undefined, string | undefined]>([
    ['v2', 'refused_by_policy', 'refused_by_policy'],
    ['v2+plan', undefined, 'refused_by_policy'],
    ['all', undefined, undefined],
  ])('%s decides which old classes open', (readPolicy, planReason, plainReason) => {
    const counts: string[] = [];
    const ofPlan = new TokenEncryption({ keyring: createKeyring({ keyText: plan.key }), readPolicy, onRead: (c) => counts.push(c) });
    expect(reasonOf(() => ofPlan.open(plan.stored, here))).toBe(planReason);
    expect(reasonOf(() => ofPlan.open(token, here))).toBe(plainReason);
    expect(counts).toEqual([...(planReason ? [] : ['plan']), ...(plainReason ? [] : ['plain'])]);
    expect(new TokenEncryption({ keyring, readPolicy }).open(v2, here)).toBe(token);
  });
});
