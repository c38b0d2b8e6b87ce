import { describe, expect, test } from '@jest/globals';
import { type Cache, createMemoryCache } from './cache.js';
import { CACHE_CONTRACT, type CacheWorld } from './cache.contract.js';

function world(wrap: (cache: Cache) => Cache = (cache) => cache): CacheWorld {
  let now = 1_000_000;
  return { cache: wrap(createMemoryCache({ now: () => now })), tick: async (ms) => { now += ms; } };
}

describe('the in-process cache', () => {
  test.each(Object.entries(CACHE_CONTRACT))('%s', (_, check) => check(world()));

  test('gives up what was used least when it is full', async () => {
    const cache = createMemoryCache({ maxEntries: 3 });
    const put = (key: string) => cache.put(key, { version: 1, value: Buffer.from(key) }, 60_000);
    for (const key of ['a', 'b', 'c']) await put(key);
    await cache.get('a');
    await put('d');
    expect(await Promise.all(['a', 'b', 'c', 'd'].map(async (key) => (await cache.get(key)) !== null))).toEqual([true, false, true, true]);
  });
});

describe('the contract', () => {
  test('catches a cache that puts without looking at tombstones and versions', async () => {
    const careless = (cache: Cache): Cache => ({ ...cache, put: async (key, entry, ttlMs) => { await cache.remove(key); await cache.put(key, entry, ttlMs); } });
    const failed = await Promise.all(Object.entries(CACHE_CONTRACT).map(async ([name, check]) => check(world(careless)).then(() => null, () => name)));
    expect(failed.filter(Boolean)).toEqual(['keeps a newer entry from being replaced by an older one, as numbers compare', 'lets no late write past a tombstone until it has expired']);
  });
});
