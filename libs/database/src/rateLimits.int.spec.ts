import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeWith, startRedis, type TestRedis, until } from '@session-gateway/testkit';
import { openRateLimits } from './rateLimits.js';

describe('a rate limit in the process', () => {
  const limits = openRateLimits(undefined);
  afterAll(() => limits.close());

  test('refuses what is over it, key by key, and says for how long', async () => {
    const limit = limits.limit('login', 2);
    expect([await limit.take('a'), await limit.take('a'), await limit.look('a')]).toEqual([
      null,
      null,
      expect.any(Number),
    ]);
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

  test('holds nobody up for longer than its window, whatever stands in Redis', async () => {
    const limits = openRateLimits(redis.url);
    const limit = limits.limit('forged', 2);
    const holdsUp = async (key: string): Promise<boolean> =>
      (await limit.look(key)) !== null || (await limit.take(key)) !== null;
    const key = 'limit:forged:a';
    await until(
      async () => {
        await limit.take('warm up');
        return (await redis.scan()).some((entry) => entry.key.toString().endsWith('warm up'));
      },
      { what: 'the connection' },
    );
    expect(await limit.look('nobody')).toBeNull();
    expect((await redis.scan()).map((entry) => entry.key.toString())).not.toContain(
      'limit:forged:nobody',
    );
    const forgeries: (string | number)[][] = [
      ['SET', key, '999999999'],
      ['SET', key, '999999999', 'PX', 86_400_000],
      ['SET', key, '9223372036854775807'],
      ['SET', key, 'for ever', 'PX', 30_000],
      ['SET', key, '', 'PX', 30_000],
      ['SET', key, '3.5', 'PX', 30_000],
      ['SETRANGE', key, 5_000_000, '1'],
      ['RPUSH', key, '99'],
      ['HSET', key, 'count', '99'],
      ['XADD', key, '*', 'count', '99'],
    ];
    for (const forgery of forgeries) {
      await redis.command('DEL', key);
      await redis.command(...(forgery as [string]));
      expect([forgery, await holdsUp('a')]).toEqual([forgery, false]);
      const [counted] = (await redis.scan()).filter((entry) => entry.key.toString() === key);
      expect([counted?.value, counted!.ttlMs! <= 60_000]).toEqual([Buffer.from('1'), true]);
    }
    // One that ends with the window is believed: it is how instances tell each other.
    await redis.command('SET', key, '2', 'PX', 30_000);
    const wait = await limit.look('a');
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(30);
    await limits.close();
  });

  test('is shared by instances, and goes on in the process while Redis is away', async () => {
    const instances = [openRateLimits(redis.url), openRateLimits(redis.url)];
    const [one, two] = instances.map((instance) => instance.limit('callback', 3));
    await until(
      async () => (await redis.scan()).length > 0 || (await one!.take('warm up')) !== null,
      { what: 'the connection' },
    );
    await until(
      async () => {
        await two!.take('a');
        return (await redis.scan()).some(({ key }) => key.toString() === 'limit:callback:a');
      },
      { what: 'the other connection' },
    );
    await one!.take('b');
    await two!.take('b');
    await one!.take('b');
    expect(await two!.take('b')).toBeGreaterThan(0);
    await redis.kill();
    expect([
      await one!.take('c'),
      await one!.take('c'),
      await one!.take('c'),
      await one!.take('c'),
    ]).toEqual([null, null, null, expect.any(Number)]);
    await Promise.all(instances.map((instance) => instance.close()));
  });
});
