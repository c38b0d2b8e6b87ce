import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { describeWith, startRedis, type TestRedis, until } from '@session-gateway/testkit';
import type { Cache } from './cache.js';
import { createRedisCache } from './redis.js';

describeWith(['redis'], 'messages of changes between processes that share a Redis', () => {
  let redis: TestRedis;
  let caches: [Cache, Cache];
  const heard: [string, number | null][] = [];
  beforeAll(async () => {
    redis = await startRedis();
    caches = [createRedisCache({ url: redis.url }), createRedisCache({ url: redis.url })];
    caches[1].watch((key, version) => heard.push([key, version]));
    await hearing();
  });
  afterAll(async () => {
    await Promise.all(caches.map((cache) => cache.close()));
    await redis.dispose();
  });

  const hearing = () =>
    until(() => caches.every((cache) => cache.healthy()), { what: 'both hearing' });
  const entry = (version: number) => ({ version, value: Buffer.from(`version ${version}`) });
  /** What arrives until a burial of our own has arrived, behind everything else. */
  const heardAfter = async (act: () => Promise<unknown>): Promise<[string, number | null][]> => {
    heard.length = 0;
    await act();
    await caches[0].bury(['end'], 1_000);
    await until(() => heard.some(([key]) => key === 'end'), { what: 'the last message' });
    return heard.filter(([key]) => key !== 'end');
  };

  test('tells of a burial, and of an entry that became newer, but not of one that was only confirmed', async () => {
    const [cache] = caches;
    expect(await heardAfter(() => cache.put('a', entry(3), 60_000))).toEqual([['a', 3]]);
    expect(await heardAfter(() => cache.put('a', entry(3), 60_000))).toEqual([]);
    expect(await heardAfter(() => cache.put('a', entry(2), 60_000))).toEqual([]);
    expect(await heardAfter(() => cache.put('a', entry(2_147_483_648), 60_000))).toEqual([
      ['a', 2_147_483_648],
    ]);
    expect(await heardAfter(() => cache.bury(['a'], 60_000))).toEqual([['a', null]]);
    expect(await heardAfter(() => cache.put('a', entry(4), 60_000))).toEqual([]);
  });

  test('tells the process that buries at once', async () => {
    heard.length = 0;
    const burial = caches[1].bury(['mine'], 1_000);
    expect(heard).toEqual([['mine', null]]);
    await burial;
    // Its own message comes back, too.
    await until(() => heard.length === 2, { what: 'the echo' });
  });

  test('takes what others publish there for nothing', async () => {
    expect(
      await heardAfter(async () => {
        for (const message of ['', ' ', 'x y z', '1', '99999999999 a', '\u0000'])
          await redis.command('PUBLISH', 'session-gateway:changes', message);
      }),
    ).toEqual([['1', null]]);
  });

  test.each(['killed', 'frozen', 'cut off'])(
    'with Redis %s and back, messages are heard again',
    async (how) => {
      if (how === 'killed') await redis.kill();
      else if (how === 'frozen') redis.freeze();
      else await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
      if (how === 'killed') await redis.start();
      else if (how === 'frozen') redis.thaw();
      // A connection that breaks is noticed in its own time.
      heard.length = 0;
      await until(
        async () => {
          await caches[0].bury(['later'], 1_000);
          return heard.some(([key]) => key === 'later');
        },
        { timeoutMs: 10_000, what: 'a message' },
      );
      await hearing();
    },
  );
});
