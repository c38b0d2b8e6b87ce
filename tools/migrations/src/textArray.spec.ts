import { expect, test } from '@jest/globals';
import { textArray } from './textArray.js';

test('an array has the bytes that array_recv reads: dimensions, NULLs, type, length, first index, elements', () => {
  expect(textArray(['ab', null, 'é', '']).toString('hex')).toBe(
    [
      '00000001',
      '00000001',
      '00000019',
      '00000004',
      '00000001',
      '00000002',
      '6162',
      'ffffffff',
      '00000002',
      'c3a9',
      '00000000',
    ].join(''),
  );
  expect(textArray(['x']).readInt32BE(4)).toBe(0);
});
