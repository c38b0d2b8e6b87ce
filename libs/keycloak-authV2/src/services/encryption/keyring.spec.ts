import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { AuthError } from '../../errors.js';
import { createKeyring } from './keyring.js';

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
const ofJson = (value: unknown): string => refusal({ keyringJson: typeof value === 'string' ? value : JSON.stringify(value) });

describe('the keyring', () => {
  test('made of the key text alone has the one key k1', () => {
    const ring = createKeyring({ keyText: 'x'.repeat(32) });
    expect([ring.primary, ring.kids, ring.planKey !== undefined]).toEqual(['k1', ['k1'], true]);
  });

  test('given as JSON keeps decrypt-only keys beside the primary key', () => {
    const ring = createKeyring({ keyringJson: JSON.stringify({ primary: 'k26b', keys: [{ kid: 'k26b', key: b }, { kid: 'k26a', key: a, status: 'decrypt-only' }] }) });
    expect([ring.primary, ring.kids, ring.planKey]).toEqual(['k26b', ['k26b', 'k26a'], undefined]);
    expect(ring.key('k26a')).toBeDefined();
    expect(ring.key('k1')).toBeUndefined();
  });

  test.each([
    ['no JSON', `{"primary": "${a}"`, 'not valid JSON'],
    ['a list', [], 'must be'],
    ['a duplicate kid', { primary: 'a', keys: [{ kid: 'a', key: a }, { kid: 'a', key: b }] }, 'kid a stands there twice'],
    ['a duplicate key', { primary: 'a', keys: [{ kid: 'a', key: a }, { kid: 'b', key: a }] }, 'key of b stands there twice'],
    ['a short key', { primary: 'a', keys: [{ kid: 'a', key: a.slice(2) }] }, 'not 32 bytes'],
    ['a key that is a number', { primary: 'a', keys: [{ kid: 'a', key: 7 }] }, 'not 32 bytes'],
    ['a repeated byte', { primary: 'a', keys: [{ kid: 'a', key: Buffer.alloc(32, 7).toString('base64url') }] }, 'not random'],
    ['a missing primary', { primary: 'b', keys: [{ kid: 'a', key: a }] }, 'names no key'],
    ['a decrypt-only primary', { primary: 'a', keys: [{ kid: 'a', key: a, status: 'decrypt-only' }] }, 'decrypt-only'],
    ['an unknown status', { primary: 'a', keys: [{ kid: 'a', key: a, status: 'retired' }] }, 'status of a'],
    ['a bad kid', { primary: 'A', keys: [{ kid: 'A', key: a }] }, '"kid" of 1 to 16'],
  ])('with %s is refused, and no key is quoted', (_, value, expected) => {
    const message = ofJson(value);
    expect(message).toContain(expected);
    expect(message).not.toContain(a.slice(0, 8));
  });

  test('with a key text under 32 characters, or with nothing at all, is refused', () => {
    expect(refusal({ keyText: 'x'.repeat(31) })).toContain('32 characters');
    expect(refusal({})).toContain('neither');
  });
});
