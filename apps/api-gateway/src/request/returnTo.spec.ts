import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { localPath, withParameter } from './returnTo.js';

const origin = 'https://app.example';

describe('return_to', () => {
  test.each([
    ['/', '/'],
    ['/a?b=c#d', '/a?b=c#d'],
    ['/a/../b', '/b'],
    ['/?u=https://evil.example', '/?u=https://evil.example'],
    ['/%2f%2fevil', '/%2f%2fevil'],
    ['/a b', '/a%20b'],
    ['/ /evil', '/%20/evil'],
  ])('%s stays here as %s', (text, path) => {
    expect(localPath(text, origin)).toBe(path);
  });

  test.each([
    '',
    'a',
    '//evil.example',
    '///evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    'https://evil.example',
    'javascript:alert(1)',
  ])('%j is refused', (text) => {
    expect(localPath(text, origin)).toBeNull();
  });

  test('never leaves the origin, whatever is tried', () => {
    const piece = fc.constantFrom(
      '/',
      '\\',
      '.',
      '..',
      '//',
      '@',
      ':',
      '%2f',
      '%5c',
      'evil.example',
      '?',
      '#',
      '\t',
      'https:',
      '\u3002',
      '\uff0f',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const path = localPath(pieces.join(''), origin);
        if (path !== null) expect(new URL(path, `${origin}/auth/callback`).origin).toBe(origin);
      }),
      { numRuns: 5000 },
    );
  });
});

test.each([
  ['/', '/?a=b'],
  ['/x?', '/x?a=b'],
  ['/x?c=d&e', '/x?c=d&e&a=b'],
  ['/x?a=old&c=%20+&a', '/x?c=%20+&a=b'],
  ['/x#/f?a=1', '/x?a=b#/f?a=1'],
  ['/x?c#f#g', '/x?c&a=b#f#g'],
])('%s with a=b is %s', (path, expected) => expect(withParameter(path, 'a', 'b')).toBe(expected));
