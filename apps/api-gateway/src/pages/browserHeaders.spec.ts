import { expect, test } from '@jest/globals';
import { cachedBehindLogin } from './browserHeaders.js';

test.each([
  ['no word', [], 'no-store'],
  ['no word of whose cache', ['cache-control', 'max-age=60'], 'max-age=60, private'],
  ['no-cache', ['Cache-Control', 'no-cache'], 'no-cache, private'],
  ['private', ['CACHE-CONTROL', 'private, max-age=60'], 'private, max-age=60'],
  ['public', ['Cache-Control', 'public, max-age=60'], 'public, max-age=60'],
  ['a time for shared caches', ['Cache-Control', 's-maxage=60'], 's-maxage=60'],
])(
  '%s is kept from shared caches where the route leaves it to its upstream, and from all where not',
  (_, headers, kept) => {
    const valueOf = (cache: boolean): string[] =>
      cachedBehindLogin(['ETag', '"1"', ...headers], { cache }).filter((__, i, all) =>
        /^cache-control$/i.test(all[i - 1] ?? ''),
      );
    expect(valueOf(true)).toEqual([kept]);
    expect(valueOf(false)).toEqual(['no-store']);
  },
);

test('caches of one kind are told nothing else', () => {
  const headers = [
    'CDN-Cache-Control',
    'max-age=60',
    'X',
    'cache-control',
    'Surrogate-Control',
    'max-age=60',
    'Cache-Control',
    'public',
    'cache-control',
    'max-age=1',
  ];
  expect(cachedBehindLogin(headers, { cache: false })).toEqual([
    'X',
    'cache-control',
    'Cache-Control',
    'no-store',
  ]);
  expect(cachedBehindLogin(headers, { cache: true })).toEqual(headers);
});
