import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { createKeyring, type Keyring, reloadable } from '../encryption/keyring.js';
import { EntryAuthenticator } from './EntryAuthenticator.js';

const KEY_TEXT = 'a key text that is used for nothing else';
const keys = { a: randomBytes(32), b: randomBytes(32) };
const entryOf = (kid: 'a' | 'b', status: string) => ({
  kid,
  key: keys[kid].toString('base64url'),
  status,
});
const ring = (primary: 'a' | 'b', ...entries: ReturnType<typeof entryOf>[]): Keyring =>
  createKeyring({
    keyringJson: JSON.stringify({ primary, keys: [entryOf(primary, 'active'), ...entries] }),
  });

const VALUE = Buffer.from('what a request is judged by');

describe('an authenticated entry', () => {
  const authenticator = new EntryAuthenticator(ring('a'));
  const stored = authenticator.protect('s:one', VALUE);

  test('takes 16 bytes more, and is believed under its own key only', () => {
    expect(stored.length).toBe(VALUE.length + 16);
    expect(authenticator.verify('s:one', stored)).toEqual(VALUE);
    for (const other of ['s:two', 's:on', 's:onee', '', 's:one\0'])
      expect(authenticator.verify(other, stored)).toBeNull();
    expect(authenticator.verify('s:', authenticator.protect('s:', Buffer.alloc(0)))?.length).toBe(
      0,
    );
  });

  test('is refused with any bit changed, cut or lengthened anywhere', () => {
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const bent = Buffer.from(stored);
      bent[bit >> 3]! ^= 1 << (bit & 7);
      expect(authenticator.verify('s:one', bent)).toBeNull();
    }
    for (let length = 0; length < stored.length; length++) {
      expect(authenticator.verify('s:one', stored.subarray(0, length))).toBeNull();
      expect(authenticator.verify('s:one', stored.subarray(stored.length - length))).toBeNull();
    }
    expect(authenticator.verify('s:one', Buffer.concat([stored, Buffer.alloc(1)]))).toBeNull();
    // What belongs to the key does not pass for the beginning of the value.
    expect(authenticator.verify('s:on', Buffer.concat([Buffer.from('e\0'), stored]))).toBeNull();
  });

  test('is shared by instances in the middle of a rotation, and refused once its key has left the keyring', () => {
    const before = new EntryAuthenticator(ring('a', entryOf('b', 'active')));
    const after = new EntryAuthenticator(ring('b', entryOf('a', 'decrypt-only')));
    const retired = new EntryAuthenticator(ring('b'));
    expect(after.verify('s:one', before.protect('s:one', VALUE))).toEqual(VALUE);
    expect(before.verify('s:one', after.protect('s:one', VALUE))).toEqual(VALUE);
    expect(retired.verify('s:one', after.protect('s:one', VALUE))).toEqual(VALUE);
    expect(retired.verify('s:one', before.protect('s:one', VALUE))).toBeNull();
    // An instance that has not been told of the new key misses, and no more.
    expect(authenticator.verify('s:one', after.protect('s:one', VALUE))).toBeNull();
  });

  test('follows a keyring that is read anew, and works with the key text alone', () => {
    const keyring = reloadable(ring('a'));
    const following = new EntryAuthenticator(keyring);
    const old = following.protect('s:one', VALUE);
    keyring.replace(ring('b'));
    expect(following.verify('s:one', old)).toBeNull();
    expect(following.verify('s:one', following.protect('s:one', VALUE))).toEqual(VALUE);
    const [plan, same, other] = [KEY_TEXT, KEY_TEXT, `${KEY_TEXT}.`].map(
      (keyText) => new EntryAuthenticator(createKeyring({ keyText })),
    );
    const entry = plan!.protect('s:one', VALUE);
    expect([same!.verify('s:one', entry), other!.verify('s:one', entry)]).toEqual([VALUE, null]);
  });

  test('is keyed by neither the token key nor its fingerprint', () => {
    const keyring = ring('a');
    const derived = keyring.cacheKey('a')!.export();
    expect(derived.equals(keys.a)).toBe(false);
    expect(derived.toString('hex')).not.toContain(keyring.fingerprint('a'));
    expect(keyring.cacheKey('none')).toBeUndefined();
  });
});
