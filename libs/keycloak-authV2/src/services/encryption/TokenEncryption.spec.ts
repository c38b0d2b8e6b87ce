import { createCipheriv, randomBytes, scryptSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { AuthError } from '../../errors.js';
import { associatedData } from './associatedData.js';
import { createKeyring, type Keyring } from './keyring.js';
import {
  type KeyUse,
  MAX_TOKEN_BYTES,
  type ReadPolicy,
  TokenEncryption,
} from './TokenEncryption.js';
import { xaesSeal } from './xaes256gcm.js';

const { vectors } = JSON.parse(
  readFileSync(new URL('./fixtures/plan-format.json', import.meta.url), 'utf8'),
) as {
  vectors: { key: string; plaintext?: string; stored: string; valid: boolean; why?: string }[];
};
const keyText = 'a key text of this suite, long enough';
// Made in each test, not while the file loads: a mutant that fails there would be an error instead of noticed.
const keyring = (): Keyring => createKeyring({ keyText });
const encryption = (
  options: Partial<ConstructorParameters<typeof TokenEncryption>[0]> = {},
): TokenEncryption => new TokenEncryption({ keyring: keyring(), ...options });
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
  test.each([
    'a',
    token,
    'é行😀',
    '\uFEFF✓',
    'x'.repeat(16_344),
    'x'.repeat(16_345),
    'x'.repeat(MAX_TOKEN_BYTES),
    'é'.repeat(MAX_TOKEN_BYTES / 2),
  ])('open to what was sealed, and no two seals of one token are alike: case %#', (text) => {
    const [a, b] = [encryption().seal(text, here), encryption().seal(text, here)];
    expect(a === b).toBe(false);
    expect(TokenEncryption.classify(a)).toBe('v2');
    expect(encryption().open(a, here) === text).toBe(true);
  });

  test('have a nonce each, however many are sealed', () => {
    const nonces = Array.from({ length: 1_000 }, () =>
      encryption()
        .seal('t', here)
        .slice('v2.k1.'.length, 'v2.k1.'.length + 32),
    );
    expect(new Set(nonces).size).toBe(1_000);
    // Of all bits none is always the same.
    const bytes = nonces.map((nonce) => Buffer.from(nonce, 'base64url'));
    for (let at = 0; at < 24; at++)
      expect([
        bytes.reduce((all, nonce) => all & (nonce[at] ?? 0), 255),
        bytes.reduce((any, nonce) => any | (nonce[at] ?? 0), 0),
      ]).toEqual([0, 255]);
  });

  test('written by the first release open for ever', () => {
    const golden = 'v2.k1.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXx4T8grzZOFZL5DBdLIdlpJlVsn5h45omrN0ZUg';
    const fixed = encryption({
      randomBytes: (n) => Buffer.from(Array.from({ length: n }, (_, i) => i)),
    });
    expect(fixed.seal('golden token', here)).toBe(golden);
    expect(encryption().open(golden, here)).toBe('golden token');
  });

  test.each([
    ['another row', { ...here, rowId: 'row-2' }],
    ['another column', { ...here, column: 'refresh_token' }],
    ['another table', { ...here, table: 'sessions' }],
    ['a shifted boundary', { ...here, column: 'access_tokenr', rowId: 'ow-1' }],
  ])('do not open in %s', (_, elsewhere) => {
    expect(reasonOf(() => encryption().open(encryption().seal(token, here), elsewhere))).toBe(
      'not_authentic',
    );
  });

  test('do not open when any single bit is flipped, and say nothing about which', () => {
    const stored = encryption().seal(token, here);
    const [version, kid, encoded] = stored.split('.') as [string, string, string];
    const bytes = Buffer.from(encoded, 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const bent = Buffer.from(bytes);
      bent[bit >> 3]! ^= 1 << (bit & 7);
      expect(
        reasonOf(() => encryption().open(`${version}.${kid}.${bent.toString('base64url')}`, here)),
      ).toBe('not_authentic');
    }
  });

  test('do not open when cut short at any length', () => {
    const stored = encryption().seal(token, here);
    for (let length = 1; length < stored.length; length++) {
      expect(reasonOf(() => encryption().open(stored.slice(0, length), here))).toMatch(
        /not_authentic|malformed|refused_by_policy/,
      );
    }
  });

  test('name their key: an unknown key id is not mistaken for damage', () => {
    const ring = JSON.stringify({
      primary: 'k2',
      keys: [{ kid: 'k2', key: randomBytes(32).toString('base64url') }],
    });
    const other = new TokenEncryption({ keyring: createKeyring({ keyringJson: ring }) });
    expect(reasonOf(() => encryption().open(other.seal(token, here), here))).toBe('unknown_kid');
  });

  test('relabelled with another known key id do not open', () => {
    const shared = randomBytes(32).toString('base64url');
    const ring = {
      primary: 'a',
      keys: [
        { kid: 'a', key: shared },
        { kid: 'b', key: randomBytes(32).toString('base64url') },
      ],
    };
    const two = new TokenEncryption({
      keyring: createKeyring({ keyringJson: JSON.stringify(ring) }),
    });
    expect(reasonOf(() => two.open(two.seal(token, here).replace('v2.a.', 'v2.b.'), here))).toBe(
      'not_authentic',
    );
  });

  test('larger than any token are refused before any cryptography', () => {
    expect(reasonOf(() => encryption().seal('x'.repeat(MAX_TOKEN_BYTES + 1), here))).toBe(
      'too_large',
    );
    expect(reasonOf(() => encryption().seal('é'.repeat(MAX_TOKEN_BYTES / 2 + 1), here))).toBe(
      'too_large',
    );
    expect(
      reasonOf(() =>
        encryption().open(`v2.k1.${'A'.repeat(4 * Math.ceil((MAX_TOKEN_BYTES + 48) / 3))}`, here),
      ),
    ).toBe('too_large');
    // One byte more than the largest, and authentic.
    const large = xaesSeal(
      keyring().key('k1')!,
      Buffer.alloc(24 + MAX_TOKEN_BYTES + 1 + 16, 'x'),
      associatedData('k1', here),
    );
    expect(reasonOf(() => encryption().open(`v2.k1.${large.toString('base64url')}`, here))).toBe(
      'too_large',
    );
  });

  test('with bytes that are no text do not open, authentic or not', () => {
    const sealed = xaesSeal(
      keyring().key('k1')!,
      Buffer.concat([randomBytes(24), Buffer.from([0xff]), Buffer.alloc(16)]),
      associatedData('k1', here),
    );
    expect(reasonOf(() => encryption().open(`v2.k1.${sealed.toString('base64url')}`, here))).toBe(
      'not_text',
    );
  });

  test('are sealed under another key of the keyring when asked, never under one that it lacks, and never empty', () => {
    const ring = {
      primary: 'a',
      keys: ['a', 'b'].map((kid) => ({ kid, key: randomBytes(32).toString('base64url') })),
    };
    const two = new TokenEncryption({
      keyring: createKeyring({ keyringJson: JSON.stringify(ring) }),
    });
    expect(
      [two.seal(token, here), two.seal(token, here, 'b')].map((stored) =>
        TokenEncryption.kidOf(stored),
      ),
    ).toEqual(['a', 'b']);
    expect(reasonOf(() => two.seal(token, here, 'c'))).toBe('unknown_kid');
    expect(() => two.seal(token, here, 'c')).toThrow('id c');
    expect(() => two.seal('', here)).toThrow(TypeError);
  });

  test("do not open in a place that has no encoding, which is the caller's fault and counted as no use", () => {
    const uses: KeyUse[] = [];
    const told = encryption({ onUse: (use) => uses.push(use) });
    expect(() =>
      told.open(encryption().seal(token, here), { ...here, rowId: 'x'.repeat(65_536) }),
    ).toThrow(RangeError);
    expect(uses).toEqual([]);
  });

  test('leave nothing of a token in the memory that they are sealed in', () => {
    let message: Buffer = Buffer.alloc(0);
    const nonce = Buffer.alloc(24, 7);
    const watched = encryption({ randomBytes: () => nonce });
    const prototype = Buffer.prototype as Buffer;
    const { write } = prototype;
    try {
      prototype.write = function (this: Buffer, ...given: Parameters<typeof write>) {
        // eslint-disable-next-line @typescript-eslint/no-this-alias -- the memory that the token is written to
        message = this;
        return write.apply(this, given);
      } as typeof write;
      watched.seal(token, here);
    } finally {
      prototype.write = write;
    }
    expect(message.subarray(0, 24)).toEqual(nonce);
    expect(message.includes(token.slice(0, 8))).toBe(false);
  });
});

describe('a value that does not open', () => {
  test('says the same whatever is wrong with it', () => {
    const stored = encryption().seal(token, here);
    const huge = `${'0'.repeat(32)}:${'0'.repeat(32)}:${'0'.repeat(2 * MAX_TOKEN_BYTES + 2)}`;
    const bad = [
      stored.replace('.k1.', '.zz.'),
      `${stored.slice(0, -2)}AA`,
      'v2.',
      token,
      '',
      huge,
    ];
    const messages = bad.map((value) => {
      try {
        return encryption().open(value, here);
      } catch (error) {
        return error instanceof AuthError ? [error.code, error.message, error.cause] : error;
      }
    });
    expect(messages).toEqual(
      bad.map(() => ['token_unreadable', 'a stored token does not open', undefined]),
    );
  });
});

describe("values of the plan's format", () => {
  const sealedByPlan = (text: string): string => {
    const iv = randomBytes(16);
    const cipher = createCipheriv('aes-256-gcm', keyring().planKey!, iv);
    const body = Buffer.concat([cipher.update(text), cipher.final()]);
    return [iv, cipher.getAuthTag(), body].map((part) => part.toString('hex')).join(':');
  };

  test('open up to the size of the largest token', () => {
    const largest = 'x'.repeat(MAX_TOKEN_BYTES);
    expect(encryption().open(sealedByPlan(largest), here) === largest).toBe(true);
    expect(reasonOf(() => encryption().open(sealedByPlan(`${largest}x`), here))).toBe('too_large');
  });

  test("do not open without the plan's key", () => {
    const ring = JSON.stringify({
      primary: 'k2',
      keys: [{ kid: 'k2', key: randomBytes(32).toString('base64url') }],
    });
    expect(
      reasonOf(() =>
        new TokenEncryption({ keyring: createKeyring({ keyringJson: ring }) }).open(
          sealedByPlan(token),
          here,
        ),
      ),
    ).toBe('no_plan_key');
  });

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
    const cipher = createCipheriv(
      'aes-256-gcm',
      scryptSync(keyText, 'session-tokens-salt', 32),
      iv,
    );
    const body = Buffer.concat([cipher.update(token), cipher.final()]).toString('hex');
    const stored = `${iv.toString('hex')}:${cipher.getAuthTag().subarray(0, 4).toString('hex')}:${body}`;
    expect(TokenEncryption.classify(stored)).toBe('plain');
    expect(reasonOf(() => encryption().open(stored, here))).toBe('refused_by_policy');
  });
});

describe('classification', () => {
  test.each([
    [null, 'empty'],
    ['', 'empty'],
    [token, 'plain'],
    ['a:b:c', 'plain'],
    ['opaque:token', 'plain'],
    [`v2.k1.${'A'.repeat(54)}`, 'v2'],
    [`v2.k1.${'A'.repeat(53)}`, 'malformed'],
    [`v2.K1.${'A'.repeat(54)}`, 'malformed'],
    [`v2.k1.${'A'.repeat(53)}B`, 'malformed'],
    ['v2.', 'malformed'],
    [`v2.k1.${'A'.repeat(54)}=`, 'malformed'],
    [`v2.k1.${'A'.repeat(54)}\n`, 'malformed'],
    [`v2.${'a'.repeat(17)}.${'A'.repeat(54)}`, 'malformed'],
    ['v3.k1.AAAA', 'plain'],
    [`v2.k1.${'A'.repeat(50)}-_8A`, 'v2'],
    [`v2.k1.${'A'.repeat(50)}+_8A`, 'malformed'],
    [`v2.k1.${'A'.repeat(50)}-/8A`, 'malformed'],
    [`v2.k1.${'A'.repeat(53)}\u0141`, 'malformed'],
    [`v2.k1.${'A'.repeat(52)}`, 'malformed'],
    [`v2.k1.${'A'.repeat(20)}\u0141${'A'.repeat(33)}`, 'malformed'],
    [`v2.k1.${'A'.repeat(55)}`, 'v2'],
    [`v2.k1.${'A'.repeat(54)}B`, 'malformed'],
    [`v2.k1.${'A'.repeat(55)}B`, 'v2'],
    [`xv2.k1.${'A'.repeat(54)}`, 'plain'],
    [`v2.v2.k1.${'A'.repeat(54)}`, 'malformed'],
    [`0${'0'.repeat(32)}:${'0'.repeat(32)}:00`, 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:aB`, 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(31)}:00`, 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:00`, 'plan'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:`, 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:0`, 'plain'],
    [`${'A'.repeat(32)}:${'0'.repeat(32)}:00`, 'plain'],
    [`${'0'.repeat(32)}:${'0'.repeat(32)}:00\n`, 'plain'],
  ] as const)('of %j is %s', (stored, expected) => {
    expect(TokenEncryption.classify(stored)).toBe(expected);
  });
});

test('the key id of a value is that of v2 values alone', () => {
  expect(
    [encryption().seal(token, here), vectors[0]!.stored, token, 'v2.k1.AAAA', ''].map((stored) =>
      TokenEncryption.kidOf(stored),
    ),
  ).toEqual(['k1', null, null, null, null]);
});

describe('uses of keys', () => {
  test('are told with the key id, and refusals with their reason, without naming a key that is not there', () => {
    const uses: unknown[] = [];
    const told = encryption({
      onUse: ({ operation, storedClass, kid, refused }) =>
        uses.push([operation, storedClass, kid, refused]),
    });
    const stored = told.seal(token, here);
    told.open(stored, here);
    for (const bad of [
      stored.replace('.k1.', '.zz.'),
      `${stored.slice(0, -2)}AA`,
      'v2.',
      token,
      '',
    ])
      reasonOf(() => told.open(bad, here));
    expect(uses).toEqual([
      ['seal', 'v2', 'k1', null],
      ['open', 'v2', 'k1', null],
      ['open', 'v2', null, 'unknown_kid'],
      ['open', 'v2', 'k1', 'not_authentic'],
      ['open', 'malformed', null, 'malformed'],
      ['open', 'plain', null, 'refused_by_policy'],
      ['open', 'empty', null, 'malformed'],
    ]);
  });
});

describe('the read policy', () => {
  test('that takes any text for a token takes none that is longer than a stored token can be', () => {
    const longest = 'x'.repeat(2 * MAX_TOKEN_BYTES + 66);
    expect(encryption({ readPolicy: 'all' }).open(longest, here) === longest).toBe(true);
    expect(reasonOf(() => encryption({ readPolicy: 'all' }).open(`${longest}x`, here))).toBe(
      'too_large',
    );
  });

  test("is v2 and the plan's format where none is given", () => {
    const ofPlan = new TokenEncryption({ keyring: createKeyring({ keyText: vectors[0]!.key }) });
    expect(ofPlan.open(vectors[0]!.stored, here)).toBe(vectors[0]!.plaintext);
    expect(reasonOf(() => ofPlan.open(token, here))).toBe('refused_by_policy');
  });

  const plan = vectors[0]!;
  test.each<[ReadPolicy, string | undefined, string | undefined]>([
    ['v2', 'refused_by_policy', 'refused_by_policy'],
    ['v2+plan', undefined, 'refused_by_policy'],
    ['all', undefined, undefined],
  ])('%s decides which old classes open', (readPolicy, planReason, plainReason) => {
    const counts: string[] = [];
    const ofPlan = new TokenEncryption({
      keyring: createKeyring({ keyText: plan.key }),
      readPolicy,
      onUse: ({ storedClass, refused }) => {
        if (!refused) counts.push(storedClass);
      },
    });
    expect(reasonOf(() => ofPlan.open(plan.stored, here))).toBe(planReason);
    expect(reasonOf(() => ofPlan.open(token, here))).toBe(plainReason);
    expect(counts).toEqual([...(planReason ? [] : ['plan']), ...(plainReason ? [] : ['plain'])]);
    expect(encryption({ readPolicy }).open(encryption().seal(token, here), here)).toBe(token);
  });
});
