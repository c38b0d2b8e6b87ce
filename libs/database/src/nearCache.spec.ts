import { describe, expect, test } from '@jest/globals';
import { NearCache } from './nearCache.js';

function world(maxEntries = 10): { near: NearCache<string>; tick: (ms: number) => void } {
  let now = 1_000;
  return {
    near: new NearCache({ maxEntries, now: () => now }),
    tick: (ms) => {
      now += ms;
    },
  };
}

describe('copies in the process', () => {
  test('are dropped by news of a higher version, and not taken again from a late read', () => {
    const { near, tick } = world();
    near.put('a', 1, 'one', 60_000);
    near.raise('a', 2, 60_000);
    expect(near.get('a')).toBeNull();
    expect(near.put('a', 1, 'late', 60_000)).toBe(false);
    expect(near.put('a', 2, 'two', 60_000)).toBe(true);
    // News that was overtaken by what it tells.
    near.raise('a', 2, 60_000);
    near.raise('a', 1, 60_000);
    expect(near.get('a')).toBe('two');
    tick(60_000);
    expect([near.get('a'), near.put('a', 1, 'one', 60_000)]).toEqual([null, true]);
  });

  test('are not taken where a tombstone stands, whatever news comes after it', () => {
    const { near, tick } = world();
    near.bury('a', 1_000);
    near.raise('a', 7, 1);
    near.bury('a', 1);
    near.remove('a');
    tick(999);
    expect([near.put('a', 99, 'back', 60_000), near.get('a')]).toEqual([false, null]);
    tick(1);
    expect(near.put('a', 1, 'another', 60_000)).toBe(true);
  });

  test('stay within their number, the most used last to go', () => {
    const { near } = world(3);
    for (const key of ['a', 'b', 'c']) near.put(key, 1, key, 60_000);
    near.get('a');
    near.put('d', 1, 'd', 60_000);
    expect(['a', 'b', 'c', 'd'].map((key) => near.get(key))).toEqual(['a', null, 'c', 'd']);
  });
});
