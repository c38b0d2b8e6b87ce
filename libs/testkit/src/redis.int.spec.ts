import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { describeWith } from './needs.js';
import { startRedis, type TestRedis } from './redis.js';

describeWith(['redis'], 'a throw-away Redis', () => {
  let redis: TestRedis;
  beforeAll(async () => void (redis = await startRedis()));
  afterAll(() => redis?.dispose());

  test('shows every key and value of every type in bytes', async () => {
    await redis.command('SET', 'string', Buffer.from([0, 255]), 'PX', 60_000);
    await redis.command('HSET', 'hash', 'field', 'value');
    await redis.command('ZADD', 'sorted', 1.5, 'member');
    await redis.command('RPUSH', 'list', 'a', 'b');
    await redis.command('SADD', 'set', 'm');
    await redis.command('XADD', 'stream', '1-1', 'f', 'v');
    const found = new Map((await redis.scan()).map((entry) => [entry.key.toString(), entry]));
    expect(found.get('string')).toMatchObject({ type: 'string', value: Buffer.from([0, 255]) });
    expect(found.get('string')?.ttlMs).toBeGreaterThan(50_000);
    const texts = (key: string): string[] => [found.get(key)?.value ?? []].flat().map(String);
    expect(texts('hash')).toEqual(['field', 'value']);
    expect(texts('sorted')).toEqual(['member', '1.5']);
    expect(texts('list')).toEqual(['a', 'b']);
    expect(texts('set')).toEqual(['m']);
    expect(texts('stream')).toEqual(['1-1', 'f', 'v']);
  });

  test('is empty after a flush, a stop and a kill, on the same port', async () => {
    await redis.flush();
    expect(await redis.scan()).toEqual([]);
    for (const end of [redis.stop, redis.kill]) {
      await redis.command('SET', 'k', 'v');
      await end();
      await expect(redis.scan()).rejects.toThrow();
      await redis.start();
      expect(await redis.scan()).toEqual([]);
    }
  });

  test('answers nothing while it is frozen, and then goes on', async () => {
    redis.freeze();
    let answered = false;
    const answer = redis.command('PING').then((reply) => {
      answered = true;
      return String(reply);
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(answered).toBe(false);
    redis.thaw();
    expect(await answer).toBe('PONG');
    expect(await redis.usedMemoryBytes()).toBeGreaterThan(500_000);
  });
});
