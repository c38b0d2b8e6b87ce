import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeWith, startRedis, type TestRedis, until } from '@session-gateway/testkit';
import { openRateLimits } from './rateLimits.js';

describe('a rate limit in the process', () => {
  const limits = openRateLimits(undefined);
  afterAll(() => limits.close());

  test('refuses what is over it, key by key, and says for how long', async () => {
    const limit = limits.limit('login', 2);
    expect([await limit.take('a'), await limit.take('a'), await limit.look('a')]).toEqual([null, null, expect.any(Number)]);
    const wait = await limit.take('a');
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(60);
    expect([await limit.take('b'), await limit.look('b')]).toEqual([null, null]);
  });

  test('counts what was given back as not taken', async () => {
    const limit = limits.limit('login', 1);
    for (let i = 0; i < 5; i++) {
      expect(await limit.take('a')).toBeNull();
      await limit.giveBack('a');
    }
    expect([await limit.take('a'), await limit.take('a')]).toEqual([null, expect.any(Number)]);
  });

  test('of 0 is none', async () => {
    const limit = limits.limit('login', 0);
    for (let i = 0; i < 100; i++) expect(await limit.take('a')).toBeNull();
  });

  test('takes no more memory for many addresses than for as many as there are counters', async () => {
    const limit = limits.limit('login', 1_000);
    const grown = async (from: number, to: number): Promise<number> => {
      const before = process.memoryUsage().heapUsed;
      for (let i = from; i < to; i++) await limit.take(`address ${i}`);
      return process.memoryUsage().heapUsed - before;
    };
    await grown(0, 100_000);
    expect(await grown(100_000, 150_000)).toBeLessThan(20_000_000);
  }, 60_000);
});

describeWith(['redis'], 'a rate limit in Redis', () => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.dispose());

  test('is shared by instances, and goes on in the process while Redis is away', async () => {
    const instances = [openRateLimits(redis.url), openRateLimits(redis.url)];
    const [one, two] = instances.map((instance) => instance.limit('callback', 3));
    await until(async () => (await redis.scan()).length > 0 || (await one!.take('warm up')) !== null, { what: 'the connection' });
    await until(async () => { await two!.take('a'); return (await redis.scan()).some(({ key }) => key.toString() === 'limit:callback:a'); }, { what: 'the other connection' });
    await one!.take('b');
    await two!.take('b');
    await one!.take('b');
    expect(await two!.take('b')).toBeGreaterThan(0);
    await redis.kill();
    expect([await one!.take('c'), await one!.take('c'), await one!.take('c'), await one!.take('c')]).toEqual([null, null, null, expect.any(Number)]);
    await Promise.all(instances.map((instance) => instance.close()));
  });
});
