import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { describeWith, startRedis, type TestRedis, until } from '@session-gateway/testkit';
import type { Cache } from './cache.js';
import { CACHE_CONTRACT } from './cache.contract.js';
import { createRedisCache } from './redis.js';

describeWith(['redis'], 'the cache in Redis', () => {
  let redis: TestRedis;
  let cache: Cache;
  const errors: Error[] = [];
  beforeAll(async () => {
    redis = await startRedis();
    cache = createRedisCache({ url: redis.url, onError: (error) => errors.push(error) });
    await until(() => cache.healthy(), { what: 'the connection' });
  });
  afterAll(async () => {
    await cache.close();
    await redis.dispose();
  });
  beforeEach(() => redis.flush());

  /** Time in Redis is Redis's own. */
  const tick = async (ms: number): Promise<void> => {
    const end = Date.now() + ms;
    await until(() => Date.now() >= end, { what: 'time passing' });
  };
  const entry = (text: string, version = 1) => ({ version, value: Buffer.from(text) });

  test.each(Object.entries(CACHE_CONTRACT))('%s', (_, check) => check({ cache, tick }));

  test('keeps four bytes beside a value, and an expiry with every key', async () => {
    await cache.put('a', entry('12345678'), 60_000);
    await cache.bury(['b'], 60_000);
    const entries = await redis.scan();
    expect(entries.map(({ value }) => [value].flat()[0]!.length).sort((a, b) => a - b)).toEqual([
      0, 12,
    ]);
    expect(entries.every(({ ttlMs }) => ttlMs !== null && ttlMs <= 60_000)).toBe(true);
  });

  test('takes whatever it does not understand for absent, and replaces it', async () => {
    await redis.command('SET', 'a', 'x');
    expect(await cache.get('a')).toBeNull();
    await cache.put('a', entry('good'), 60_000);
    expect((await cache.get('a'))?.toString()).toBe('good');
    await redis.command('LPUSH', 'list', 'x');
    expect(await cache.get('list')).toBeNull();
    await cache.put('list', entry('good'), 60_000);
    expect((await cache.get('list'))?.toString()).toBe('good');
    // A tombstone of ours ends by itself; one that never would is not ours.
    await redis.command('SET', 'for ever', '');
    await cache.put('for ever', entry('good'), 60_000);
    expect((await cache.get('for ever'))?.toString()).toBe('good');
    // The end of a session does not depend on what stands in its place.
    await redis.command('DEL', 'list');
    await redis.command('LPUSH', 'list', 'x');
    await cache.bury(['list'], 60_000);
    expect((await redis.scan()).find(({ key }) => key.toString() === 'list')).toMatchObject({
      type: 'string',
      value: Buffer.alloc(0),
    });
  });

  test('reads no more of a huge value than any value of ours has', async () => {
    const sent = async (): Promise<number> =>
      Number(
        /total_net_output_bytes:(\d+)/.exec(String(await redis.command('INFO', 'stats')))?.[1],
      );
    await redis.command('SETRANGE', 'huge', 50_000_000, 'x');
    const before = await sent();
    expect(await cache.get('huge')).toBeNull();
    await cache.put('huge', entry('good'), 60_000);
    expect((await sent()) - before).toBeLessThan(1_000_000);
    expect((await cache.get('huge'))?.toString()).toBe('good');
  });

  test('goes on after everything was flushed, its own scripts too', async () => {
    await cache.put('a', entry('before'), 60_000);
    await cache.bury(['b'], 60_000);
    await redis.flush();
    await redis.command('SCRIPT', 'FLUSH');
    expect(await cache.get('a')).toBeNull();
    await cache.put('a', entry('after'), 60_000);
    await cache.bury(['b'], 60_000);
    await cache.remove('c');
    expect([(await cache.get('a'))?.toString(), (await redis.scan()).length]).toEqual(['after', 2]);
  });

  test("lets another instance's tombstone stand that lasts longer", async () => {
    await redis.command('SET', 'a', '', 'PX', 60_000);
    await cache.bury(['a'], 1_000);
    const [tombstone] = await redis.scan();
    expect(tombstone?.ttlMs).toBeGreaterThan(30_000);
  });

  test('without the look at tombstones and versions would fail the contract', async () => {
    const careless: Cache = {
      ...cache,
      put: async (key, { version, value }, ttlMs) => {
        const head = Buffer.alloc(4);
        head.writeUInt32BE(version);
        await redis.command('SET', key, Buffer.concat([head, value]), 'PX', ttlMs);
      },
    };
    for (const check of [
      'keeps a newer entry from being replaced by an older one, as numbers compare',
      'lets no late write past a tombstone until it has expired',
    ]) {
      await redis.flush();
      await expect(CACHE_CONTRACT[check]!({ cache: careless, tick })).rejects.toThrow(
        /AssertionError|Expected/,
      );
    }
  });

  test.each(['killed', 'frozen'])(
    '%s answers as if it were empty, throws nothing, and works again when it is back',
    async (how) => {
      await cache.put('kept', entry('live'), 60_000);
      if (how === 'killed') await redis.kill();
      else redis.freeze();
      expect(await cache.get('kept')).toBeNull();
      await cache.put('kept', entry('late', 2), 60_000);
      await cache.bury(
        Array.from({ length: 2_000 }, (_, i) => `many-${i}`),
        60_000,
      );
      await cache.remove('kept');
      expect(errors.length).toBeGreaterThan(0);
      if (how === 'killed') await redis.start();
      else redis.thaw();
      await until(
        async () => {
          await cache.put('other', entry('works'), 60_000);
          return (await cache.get('other'))?.toString() === 'works';
        },
        { what: 'the cache working again' },
      );
    },
  );
});
