import { describe, expect, test } from '@jest/globals';
import { type Cache, createMemoryCache } from './cache.js';
import { CACHE_CONTRACT, type CacheWorld } from './cache.contract.js';

function world(wrap: (cache: Cache) => Cache = (cache) => cache): CacheWorld {
  let now = 1_000_000;
  return {
    cache: wrap(createMemoryCache({ now: () => now })),
    tick: async (ms) => {
      now += ms;
    },
  };
}

describe('the in-process cache', () => {
  test.each(Object.entries(CACHE_CONTRACT))('%s', (_, check) => check(world()));

  test('gives up what was used least when it is full', async () => {
    const cache = createMemoryCache({ maxEntries: 3 });
    const put = (key: string) => cache.put(key, { version: 1, value: Buffer.from(key) }, 60_000);
    for (const key of ['a', 'b', 'c']) await put(key);
    await cache.get('a');
    await put('d');
    expect(
      await Promise.all(['a', 'b', 'c', 'd'].map(async (key) => (await cache.get(key)) !== null)),
    ).toEqual([true, false, true, true]);
  });
});

describe('the contract', () => {
  /** Every way but the one that is wrong is the in-process cache's. */
  const flawed =
    (flaw: (real: Cache) => Partial<Cache>) =>
    (real: Cache): Cache => ({ ...real, ...flaw(real) });
  const failures = async (wrap: (cache: Cache) => Cache): Promise<string[]> => {
    const checks = Object.entries(CACHE_CONTRACT).map(async ([name, check]) =>
      check(world(wrap)).then(
        () => [],
        () => [name],
      ),
    );
    return (await Promise.all(checks)).flat();
  };

  test('catches a cache that puts without looking at tombstones and versions', async () => {
    const careless = flawed(() => {
      const plain = new Map<string, Buffer>();
      return {
        get: async (key) => plain.get(key) ?? null,
        put: async (key, { value }) => void plain.set(key, value),
        bury: async (keys) => {
          for (const key of keys) plain.delete(key);
        },
      };
    });
    expect(await failures(careless)).toEqual(
      expect.arrayContaining([
        'keeps a newer entry from being replaced by an older one, as numbers compare',
        'lets no late write past a tombstone until it has expired',
      ]),
    );
  });

  test('catches a cache that only deletes where it should bury', async () => {
    const forgetful = flawed((real) => ({
      bury: async (keys) => {
        for (const key of keys) await real.remove(key);
      },
    }));
    expect(await failures(forgetful)).toContain(
      'lets no late write past a tombstone until it has expired',
    );
  });

  test('catches a cache that forgets nothing', async () => {
    const clinging = flawed((real) => ({ put: (key, entry) => real.put(key, entry, 1e9) }));
    expect(await failures(clinging)).toEqual(['forgets an entry when its time is over']);
  });
});
