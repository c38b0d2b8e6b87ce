import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import {
  describeWith,
  startRedisCluster,
  startRedisSentinel,
  type TestRedisCluster,
  type TestRedisSentinel,
  until,
} from '@session-gateway/testkit';
import type { Cache } from './cache.js';
import { CACHE_CONTRACT } from './cache.contract.js';
import { createRedisCache } from './redis.js';

const tick = async (ms: number): Promise<void> => {
  const end = Date.now() + ms;
  await until(() => Date.now() >= end, { what: 'time passing' });
};
const healthy = (...caches: Cache[]) =>
  until(() => caches.every((cache) => cache.healthy()), {
    timeoutMs: 20_000,
    what: 'the connections',
  });
const entry = (text: string) => ({ version: 1, value: Buffer.from(text) });

describeWith(['redis'], 'the cache in a Redis cluster', () => {
  let cluster: TestRedisCluster;
  let caches: Cache[];
  beforeAll(async () => {
    cluster = await startRedisCluster();
    caches = [1, 2].map(() => createRedisCache({ url: cluster.url }));
    await healthy(...caches);
  }, 60_000);
  afterAll(async () => {
    await Promise.all(caches.map((cache) => cache.close()));
    await cluster.dispose();
  });
  beforeEach(() => Promise.all(cluster.nodes.map((node) => node.flush())));

  test.each(Object.entries(CACHE_CONTRACT))('%s', (_, check) => check({ cache: caches[0]!, tick }));

  test('spreads entries over the nodes, and tells of every burial whichever node it is for', async () => {
    const heard = new Set<string>();
    caches[1]!.watch((key, version) => {
      if (version === null) heard.add(key);
    });
    const keys = Array.from({ length: 60 }, (_, i) => `s:${i}`);
    for (const key of keys) await caches[0]!.put(key, entry(key), 60_000);
    const counts = await Promise.all(cluster.nodes.map(async (node) => (await node.scan()).length));
    expect([counts.reduce((a, b) => a + b), Math.min(...counts) > 0]).toEqual([60, true]);
    await caches[0]!.bury(keys, 60_000);
    await until(() => keys.every((key) => heard.has(key)), { what: 'the messages of all burials' });
  });

  test('without one node loses what that node held and nothing else, and goes on with it when it is back', async () => {
    const keys = Array.from({ length: 30 }, (_, i) => `s:${i}`);
    for (const key of keys) await caches[0]!.put(key, entry(key), 60_000);
    await cluster.nodes[2]!.kill();
    await until(
      async () =>
        (await Promise.all(keys.map((key) => caches[0]!.get(key)))).some((value) => value === null),
      { what: 'the loss' },
    );
    await cluster.nodes[2]!.start();
    await until(
      async () => {
        await caches[0]!.bury(keys, 60_000);
        const held = await Promise.all(cluster.nodes.map((node) => node.scan()));
        return held.flat().length === keys.length;
      },
      { timeoutMs: 30_000, what: 'all tombstones' },
    );
    for (const key of keys) expect(await caches[0]!.get(key)).toBeNull();
    await healthy(...caches);
  }, 60_000);
});

describeWith(['redis'], 'the cache in a Redis that sentinels watch', () => {
  let world: TestRedisSentinel;
  let cache: Cache;
  beforeAll(async () => {
    world = await startRedisSentinel();
    cache = createRedisCache({ url: world.url });
    await healthy(cache);
  }, 60_000);
  afterAll(async () => {
    await cache.close();
    await world.dispose();
  });

  test('is in the primary, and goes on in the replica when that has taken over', async () => {
    await cache.put('a', entry('one'), 60_000);
    await cache.bury(['b'], 60_000);
    expect((await world.primary.scan()).length).toBe(2);
    await until(async () => (await world.replica.scan()).length === 2, { what: 'replication' });
    await world.primary.kill();
    expect(await cache.get('a')).toBeNull();
    await until(() => !cache.healthy(), { what: 'the loss' });
    await until(() => cache.healthy(), { timeoutMs: 30_000, what: 'the failover' });
    await until(
      async () => {
        await cache.put('c', entry('three'), 60_000);
        return (await cache.get('c')) !== null;
      },
      { timeoutMs: 20_000, what: 'writing to the new primary' },
    );
    // Tombstones have gone over with the replica.
    await cache.put('b', entry('back'), 60_000);
    expect([(await cache.get('a'))?.toString(), await cache.get('b')]).toEqual(['one', null]);
  }, 60_000);
});
