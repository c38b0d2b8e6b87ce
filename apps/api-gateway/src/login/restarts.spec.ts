import { expect, test } from '@jest/globals';
import { nextRestart, restartsOf, stateEnding } from './restarts.js';

const NOW = 1_700_000_000_000;
const stateAfter = (restarts: number, at = NOW): string => `random-_${stateEnding(restarts, at)}`;

test('a login begins anew once, and again only when more than a minute has passed', () => {
  expect(nextRestart(stateAfter(0), NOW)).toBe(1);
  expect(nextRestart('', NOW)).toBe(1);
  expect(nextRestart(stateAfter(1), NOW)).toBeNull();
  expect(nextRestart(stateAfter(1), NOW + 59_000)).toBeNull();
  expect(nextRestart(stateAfter(1), NOW + 62_000)).toBe(2);
});

test('a chain of restarts ends, by whatever clocks', () => {
  for (const skew of [-86_400_000, -61_000, 61_000, 86_400_000]) {
    let restarts = 0;
    for (let next: number | null = 1; next !== null; restarts++)
      next = nextRestart(stateAfter(next), NOW + skew);
    expect(restarts).toBeLessThanOrEqual(3);
  }
});

test.each([
  ['1', 1],
  ['3', 3],
  ['4', 0],
  ['0', 0],
  ['11', 0],
  ['-1', 0],
  ['', 0],
  [null, 0],
])('again=%s says %i restarts', (again, restarts) => expect(restartsOf(again)).toBe(restarts));
