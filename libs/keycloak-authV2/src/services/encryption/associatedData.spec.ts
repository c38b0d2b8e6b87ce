import { describe, expect, test } from '@jest/globals';
import { associatedData } from './associatedData.js';
import { createKeyring } from './keyring.js';
import { TokenEncryption } from './TokenEncryption.js';

const at = (rowId: string) => ({ table: 'user_sessions', column: 'access_token', rowId });

describe('a place', () => {
  test('is written with lengths in bytes, not in characters', () => {
    const bytes = associatedData('k1', at('行-1'));
    expect(bytes.subarray(-7).toString('hex')).toBe(`0005${Buffer.from('行-1').toString('hex')}`);
  });

  test('has names of 65,535 bytes at most', () => {
    const longest = associatedData('k1', at('x'.repeat(65_535)));
    expect(longest.readUInt16BE(longest.length - 65_537)).toBe(65_535);
    expect(() => associatedData('k1', at('x'.repeat(65_536)))).toThrow(
      new RangeError('a table, column or row id is longer than 65,535 bytes'),
    );
    expect(() => associatedData('k1', at('é'.repeat(32_768)))).toThrow(RangeError);
  });

  test('with an unpaired surrogate is refused: UTF-8 would write it as any other', () => {
    for (const rowId of ['\ud800', '\udfff', 'a\ud83d'])
      expect(() => associatedData('k1', at(rowId))).toThrow(
        new RangeError('a table, column or row id is not well-formed text'),
      );
    expect(() => associatedData('k1', at('😀'))).not.toThrow();
  });
});

test('a token with an unpaired surrogate is not sealed: it would open to another text', () => {
  const encryption = new TokenEncryption({
    keyring: createKeyring({ keyText: 'a key text of this suite, long enough' }),
  });
  expect(() => encryption.seal('a\ud800', at('row-1'))).toThrow(
    expect.objectContaining({ code: 'token_unreadable', reason: 'not_text' }),
  );
});
