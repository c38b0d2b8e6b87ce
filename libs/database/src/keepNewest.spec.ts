import { expect, test } from '@jest/globals';
import { keepNewest } from './keepNewest.js';

test('the oldest entry gives way, and one that is put again is the newest', () => {
  const map = new Map<string, number>();
  keepNewest(map, 'a', 1, 2);
  keepNewest(map, 'b', 2, 2);
  keepNewest(map, 'a', 3, 2);
  keepNewest(map, 'c', 4, 2);
  expect([...map]).toEqual([
    ['a', 3],
    ['c', 4],
  ]);
});
