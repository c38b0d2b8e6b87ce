import { expect, test } from '@jest/globals';
import { median, p99, slopeOf } from './statistics.js';

test('medians, percentiles and slopes are what they are by hand', () => {
  const values = [30, 10, 20];
  expect([
    median(values),
    median([]),
    p99(Array.from({ length: 200 }, (_, i) => 200 - i)),
    p99([]),
    slopeOf([
      [0, 1],
      [1, 3],
      [2, 5],
    ]),
  ]).toEqual([20, NaN, 198, Infinity, 2]);
  expect(values).toEqual([30, 10, 20]);
});
