import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createKeyring } from './keyring.js';
import { TokenEncryption } from './TokenEncryption.js';

test('any text opens to itself in its own place', () => {
  const encryption = new TokenEncryption({
    keyring: createKeyring({ keyText: 'a key text of this suite, long enough' }),
  });
  const text = fc.string({ unit: 'grapheme', minLength: 1 });
  fc.assert(
    fc.property(text, text, text, text, (token, table, column, rowId) => {
      expect(
        encryption.open(encryption.seal(token, { table, column, rowId }), { table, column, rowId }),
      ).toBe(token);
    }),
  );
});
