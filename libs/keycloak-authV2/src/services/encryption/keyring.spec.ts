import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { AuthError } from '../../errors.js';
import { createKeyring, keyOfText, reloadable } from './keyring.js';

const a = randomBytes(32).toString('base64url');
const b = randomBytes(32).toString('base64url');

function refusal(source: Parameters<typeof createKeyring>[0]): string {
  try {
    createKeyring(source);
  } catch (error) {
    if (error instanceof AuthError && error.code === 'keyring_invalid') return error.message;
    throw error;
  }
  return 'accepted';
}
/** A key of so many different bytes. */
const ofBytes = (count: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => i % count)).toString('base64url');
const ofJson = (value: unknown): string =>
  refusal({ keyringJson: typeof value === 'string' ? value : JSON.stringify(value) });

describe('the keyring', () => {
  test('made of the key text alone has the one key k1', () => {
    const ring = createKeyring({ keyText: 'x'.repeat(32) });
    expect([ring.primary, ring.kids, ring.planKey !== undefined]).toEqual(['k1', ['k1'], true]);
  });

  test('given as JSON keeps decrypt-only keys beside the primary key', () => {
    const ring = createKeyring({
      keyringJson: JSON.stringify({
        primary: 'k26b',
        keys: [
          { kid: 'k26b', key: b },
          { kid: 'k26a', key: a, status: 'decrypt-only' },
        ],
      }),
    });
    expect([ring.primary, ring.kids, ring.planKey]).toEqual(['k26b', ['k26b', 'k26a'], undefined]);
    expect(ring.key('k26a')).toBeDefined();
    expect(ring.key('k1')).toBeUndefined();
  });

  test.each([
    ['no JSON', `{"primary": "${a}"`, 'not valid JSON'],
    ['a list', [], 'must be'],
    ['null', null, 'must be'],
    ['a number', 7, 'must be'],
    ['no primary', { keys: [] }, 'must be'],
    ['a primary that is a number', { primary: 7, keys: [] }, 'must be'],
    ['no keys', { primary: 'a' }, 'must be'],
    ['keys that are no list', { primary: 'a', keys: { kid: 'a', key: a } }, 'must be'],
    ['an empty list of keys', { primary: 'a', keys: [] }, 'names no key'],
    ['a key that is null', { primary: 'a', keys: [{ kid: 'a', key: a }, null] }, 'key number 2'],
    ['a key that is a text', { primary: 'a', keys: [a] }, 'key number 1'],
    ['a key that is a list', { primary: 'a', keys: [['a', a]] }, 'key number 1'],
    ['no kid', { primary: 'a', keys: [{ key: a }] }, '"kid" of 1 to 16'],
    ['an empty kid', { primary: '', keys: [{ kid: '', key: a }] }, '"kid" of 1 to 16'],
    ['a long kid', { primary: 'a', keys: [{ kid: 'a'.repeat(17), key: a }] }, '"kid" of 1 to 16'],
    [
      'a kid with something before it',
      { primary: 'a', keys: [{ kid: '.a', key: a }] },
      '"kid" of 1 to 16',
    ],
    [
      'a kid with something after it',
      { primary: 'a', keys: [{ kid: 'a.', key: a }] },
      '"kid" of 1 to 16',
    ],
    ['a kid that is a number', { primary: 'a', keys: [{ kid: 7, key: a }] }, '"kid" of 1 to 16'],
    ['no key', { primary: 'a', keys: [{ kid: 'a' }] }, 'not 32 bytes'],
    ['a long key', { primary: 'a', keys: [{ kid: 'a', key: `${a}AAAA` }] }, 'not 32 bytes'],
    [
      'a key in another spelling',
      { primary: 'a', keys: [{ kid: 'a', key: `${a} ` }] },
      'not 32 bytes',
    ],
    [
      'a key padded too much',
      { primary: 'a', keys: [{ kid: 'a', key: `${a}==` }] },
      'not 32 bytes',
    ],
    [
      'padding before the end',
      { primary: 'a', keys: [{ kid: 'a', key: `=${a}` }] },
      'not 32 bytes',
    ],
    [
      'seven different bytes',
      { primary: 'a', keys: [{ kid: 'a', key: ofBytes(7) }] },
      'not random',
    ],
    [
      'a duplicate kid',
      {
        primary: 'a',
        keys: [
          { kid: 'a', key: a },
          { kid: 'a', key: b },
        ],
      },
      'kid a stands there twice',
    ],
    [
      'a duplicate key',
      {
        primary: 'a',
        keys: [
          { kid: 'a', key: a },
          { kid: 'b', key: a },
        ],
      },
      'key of b stands there twice',
    ],
    ['a short key', { primary: 'a', keys: [{ kid: 'a', key: a.slice(2) }] }, 'not 32 bytes'],
    ['a key that is a number', { primary: 'a', keys: [{ kid: 'a', key: 7 }] }, 'not 32 bytes'],
    [
      'a repeated byte',
      { primary: 'a', keys: [{ kid: 'a', key: Buffer.alloc(32, 7).toString('base64url') }] },
      'not random',
    ],
    ['a missing primary', { primary: 'b', keys: [{ kid: 'a', key: a }] }, 'names no key'],
    [
      'a decrypt-only primary',
      { primary: 'a', keys: [{ kid: 'a', key: a, status: 'decrypt-only' }] },
      'decrypt-only',
    ],
    [
      'an unknown status',
      { primary: 'a', keys: [{ kid: 'a', key: a, status: 'retired' }] },
      'status of a',
    ],
    ['a bad kid', { primary: 'A', keys: [{ kid: 'A', key: a }] }, '"kid" of 1 to 16'],
  ])('with %s is refused, and no key is quoted', (_, value, expected) => {
    const message = ofJson(value);
    expect(message).toContain(expected);
    expect(message).not.toContain(a.slice(0, 8));
  });

  test.each([
    [
      'a kid of 16 characters',
      { primary: 'a234567890abcdef', keys: [{ kid: 'a234567890abcdef', key: a }] },
    ],
    ['a key that is padded', { primary: 'a', keys: [{ kid: 'a', key: `${a}=` }] }],
    [
      'a key that is said to be active',
      { primary: 'a', keys: [{ kid: 'a', key: a, status: 'active' }] },
    ],
    [
      'eight different bytes, which no one can tell from chance for sure',
      { primary: 'a', keys: [{ kid: 'a', key: ofBytes(8) }] },
    ],
  ])('with %s is accepted', (_, value) => {
    expect(ofJson(value)).toBe('accepted');
  });

  test("of a key text keeps the plan's key beside the keys of its JSON, and k1 is not among them", () => {
    const ring = createKeyring({
      keyText: 'x'.repeat(32),
      keyringJson: JSON.stringify({ primary: 'a', keys: [{ kid: 'a', key: a }] }),
    });
    expect([
      ring.kids,
      ring.planKey?.equals(createKeyring({ keyText: 'x'.repeat(32) }).planKey!),
      ring.planKey?.equals(createKeyring({ keyText: 'y'.repeat(32) }).planKey!),
    ]).toEqual([['a'], true, false]);
  });

  test('has fingerprints that stay: databases hold them', () => {
    const ring = createKeyring({
      keyringJson: JSON.stringify({
        primary: 'a',
        keys: [
          {
            kid: 'a',
            key: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64url'),
          },
        ],
      }),
    });
    expect(ring.fingerprint('a')).toBe('891cb5e40699a7cbcf203f52933dc352');
  });

  test('with a key text under 32 characters, or with nothing at all, is refused', () => {
    expect(refusal({ keyText: 'x'.repeat(31) })).toContain('32 characters');
    expect(
      refusal({
        keyText: 'x'.repeat(31),
        keyringJson: JSON.stringify({ primary: 'a', keys: [{ kid: 'a', key: a }] }),
      }),
    ).toContain('32 characters');
    expect(refusal({})).toContain('neither');
  });

  test('names each key by a fingerprint that depends on nothing but the key', () => {
    const [one, other] = [
      ['x', 'y'],
      ['y', 'z'],
    ].map(([kid, second]) =>
      createKeyring({
        keyringJson: JSON.stringify({
          primary: kid,
          keys: [
            { kid, key: a },
            { kid: second, key: b },
          ],
        }),
      }),
    );
    expect(one?.fingerprint('x')).toMatch(/^[0-9a-f]{32}$/);
    expect(one?.fingerprint('x')).toBe(other?.fingerprint('y'));
    expect(one?.fingerprint('x')).not.toBe(one?.fingerprint('y'));
    expect(one?.fingerprint('z')).toBeUndefined();
  });

  test('names all its keys by a digest that any other key changes, and no other order', () => {
    const digest = (keys: object[], keyText?: string): string =>
      createKeyring({ keyText, keyringJson: JSON.stringify({ primary: 'x', keys }) }).digest;
    const [x, y] = [
      { kid: 'x', key: a },
      { kid: 'y', key: b },
    ];
    const text = 'x'.repeat(32);
    expect(digest([x, y], text)).toBe(digest([{ ...y, status: 'decrypt-only' }, x], text));
    expect(
      new Set([
        digest([x, y], text),
        digest([x, y]),
        digest([x, y], 'y'.repeat(32)),
        digest([x], text),
        digest([x, { kid: 'z', key: b }], text),
        digest(
          [
            { kid: 'x', key: b },
            { kid: 'y', key: a },
          ],
          text,
        ),
      ]).size,
    ).toBe(6);
  });

  test('that can be replaced is the new one from then on', () => {
    const json = (kid: string) =>
      createKeyring({
        keyText: 'x'.repeat(32),
        keyringJson: JSON.stringify({ primary: kid, keys: [{ kid, key: a }] }),
      });
    const ring = reloadable(
      createKeyring({
        keyringJson: JSON.stringify({
          primary: 'one',
          keys: [
            { kid: 'one', key: b },
            { kid: 'old', key: a, status: 'decrypt-only' },
          ],
        }),
      }),
    );
    expect([ring.primary, ring.kids, [...ring.decryptOnly], ring.planKey]).toEqual([
      'one',
      ['one', 'old'],
      ['old'],
      undefined,
    ]);
    ring.replace(json('two'));
    expect([ring.primary, ring.kids, [...ring.decryptOnly], ring.planKey !== undefined]).toEqual([
      'two',
      ['two'],
      [],
      true,
    ]);
    expect([ring.key('one'), ring.fingerprint('one')]).toEqual([undefined, undefined]);
    expect(ring.key('two')).toBeDefined();
    expect(ring.fingerprint('two')).toBe(json('other').fingerprint('other'));
    expect(ring.digest).toBe(json('two').digest);
  });

  test('made of a key text can be written down as a key of a keyring', () => {
    const text = 'x'.repeat(32);
    const ring = createKeyring({
      keyringJson: JSON.stringify({
        primary: 'k1',
        keys: [{ kid: 'k1', key: keyOfText(text).toString('base64url') }],
      }),
    });
    expect(ring.fingerprint('k1')).toBe(createKeyring({ keyText: text }).fingerprint('k1'));
  });
});
