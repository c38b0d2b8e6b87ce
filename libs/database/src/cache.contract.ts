import assert from 'node:assert/strict';
import { type Cache, MAX_VALUE_BYTES } from './cache.js';

/** What every cache promises, one check each; `tick` lets at least so many milliseconds pass for the cache. */
export interface CacheWorld {
  cache: Cache;
  tick(ms: number): Promise<void>;
}

const value = (text: string): Buffer => Buffer.from(text);
const read = async (cache: Cache, key: string): Promise<string | null> =>
  (await cache.get(key))?.toString() ?? null;
const LONG_MS = 60_000;

export const CACHE_CONTRACT: Readonly<Record<string, (world: CacheWorld) => Promise<void>>> = {
  'gives back what was put, byte for byte, and nothing for what was not': async ({ cache }) => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await cache.put('a', { version: 1, value: bytes }, LONG_MS);
    assert.deepEqual(await cache.get('a'), bytes);
    assert.equal(await cache.get('b'), null);
  },
  'replaces an entry by one of the same or a higher version': async ({ cache }) => {
    await cache.put('a', { version: 1, value: value('one') }, LONG_MS);
    await cache.put('a', { version: 1, value: value('one again') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'one again');
    await cache.put('a', { version: 2, value: value('two') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'two');
  },
  'keeps a newer entry from being replaced by an older one, as numbers compare': async ({
    cache,
  }) => {
    await cache.put('a', { version: 300, value: value('new') }, LONG_MS);
    await cache.put('a', { version: 9, value: value('old') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'new');
    await cache.put('a', { version: 2_147_483_648, value: value('newest') }, LONG_MS);
    await cache.put('a', { version: 2_147_483_647, value: value('new') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'newest');
  },
  'lets no late write past a tombstone until it has expired': async ({ cache, tick }) => {
    await cache.put('a', { version: 1, value: value('live') }, LONG_MS);
    await cache.bury(['a', 'never-put'], 200);
    assert.equal(await read(cache, 'a'), null);
    for (const key of ['a', 'never-put']) {
      await cache.put(key, { version: 99, value: value('back') }, LONG_MS);
      assert.equal(await read(cache, key), null);
    }
    await tick(250);
    await cache.put('a', { version: 1, value: value('another') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'another');
  },
  'lets neither a shorter burial nor a removal end a tombstone early': async ({ cache, tick }) => {
    await cache.bury(['a'], 1_000);
    await cache.bury(['a'], 20);
    await cache.bury(['a'], 0);
    await cache.remove('a');
    await tick(60);
    await cache.put('a', { version: 1, value: value('back') }, LONG_MS);
    assert.equal(await read(cache, 'a'), null);
  },
  'takes a time to live that is no whole number': async ({ cache }) => {
    await cache.put('a', { version: 1, value: value('one') }, LONG_MS + 0.5);
    assert.equal(await read(cache, 'a'), 'one');
    await cache.bury(['a'], LONG_MS + 0.5);
    await cache.put('a', { version: 2, value: value('two') }, LONG_MS);
    assert.equal(await read(cache, 'a'), null);
  },
  'does not take an empty value for a tombstone': async ({ cache }) => {
    await cache.put('a', { version: 1, value: Buffer.alloc(0) }, LONG_MS);
    assert.equal((await cache.get('a'))?.length ?? 0, 0);
    await cache.put('a', { version: 2, value: value('two') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'two');
  },
  'forgets an entry when its time is over': async ({ cache, tick }) => {
    await cache.put('a', { version: 5, value: value('short') }, 100);
    await cache.put('b', { version: 1, value: value('none') }, 0);
    await cache.put('c', { version: 1, value: value('past') }, -5);
    await tick(150);
    for (const key of ['a', 'b', 'c']) assert.equal(await read(cache, key), null);
    await cache.put('a', { version: 1, value: value('anew') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'anew');
  },
  'removes an entry': async ({ cache }) => {
    await cache.put('a', { version: 5, value: value('x') }, LONG_MS);
    await cache.remove('a');
    assert.equal(await read(cache, 'a'), null);
    await cache.put('a', { version: 1, value: value('y') }, LONG_MS);
    assert.equal(await read(cache, 'a'), 'y');
  },
  'takes no value that is larger than any session': async ({ cache }) => {
    await cache.put('a', { version: 1, value: Buffer.alloc(MAX_VALUE_BYTES + 1) }, LONG_MS);
    assert.equal((await cache.get('a'))?.length, undefined); // a length: to describe how such values differ takes minutes
    await cache.put('a', { version: 1, value: Buffer.alloc(MAX_VALUE_BYTES) }, LONG_MS);
    assert.equal((await cache.get('a'))?.length, MAX_VALUE_BYTES);
  },
};
