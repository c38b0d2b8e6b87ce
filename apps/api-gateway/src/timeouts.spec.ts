import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { TIMEOUTS } from './timeouts.js';

test('docs/timeouts.md says what the code does', () => {
  const page = readFileSync(new URL('../../../docs/timeouts.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z]+\.\w+)` \| (\d+) \|/gm)].map(([, name, value]) => [name, Number(value)]);
  expect(Object.fromEntries(rows)).toEqual(TIMEOUTS);
});

test('a proof of hearing outlives two beats, and a lost one is noticed within a second', () => {
  expect(TIMEOUTS['redis.heardForMs']).toBeGreaterThan(2 * TIMEOUTS['redis.heartbeatMs']!);
  expect(TIMEOUTS['redis.heardForMs']).toBeLessThan(1_000);
});
