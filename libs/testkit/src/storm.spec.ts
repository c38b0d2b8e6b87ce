import { expect, test } from '@jest/globals';
import { storm } from './storm.js';

test('a storm runs each number once, at most so many at a time, and counts what came of them', async () => {
  let [running, most] = [0, 0];
  const seen = new Set<number>();
  const counts = await storm(
    20,
    async (i) => {
      seen.add(i);
      most = Math.max(most, ++running);
      await Promise.resolve();
      running--;
      if (i === 7) throw new Error('seven');
      return i % 2 === 0 ? 200 : 503;
    },
    { parallel: 4 },
  );
  expect([seen.size, most]).toEqual([20, 4]);
  expect(counts).toEqual({ 200: 10, 503: 9, 'failed: seven': 1 });
});
