import { describe, expect, test } from '@jest/globals';
import { Pace } from './pace.js';

const never = (): boolean => false;
const stopped = (): boolean => true;

describe('the pace', () => {
  test('batches grow to the chunk size while they are quick, and shrink when they are slow', () => {
    const pace = new Pace({ chunkSize: 10_000, maxRowsPerSecond: null, duty: 1 });
    expect(pace.rows).toBe(500);
    for (let batch = 0; batch < 6; batch++) pace.batchTook(100);
    expect(pace.rows).toBe(10_000);
    pace.batchTook(600);
    expect(pace.rows).toBe(10_000);
    pace.batchTook(2_000);
    expect(pace.rows).toBe(5_000);
    for (let batch = 0; batch < 20; batch++) pace.slower();
    expect(pace.rows).toBe(1);
  });

  test('a batch is never more than the chunk size or a second\'s worth', () => {
    expect(new Pace({ chunkSize: 100, maxRowsPerSecond: null, duty: 1 }).rows).toBe(100);
    expect(new Pace({ chunkSize: 100, maxRowsPerSecond: 7, duty: 1 }).rows).toBe(7);
  });

  test('it says why it rests, and rests no longer once it is to stop', async () => {
    const clock = { now: 0 };
    const held = new Pace({ chunkSize: 100, maxRowsPerSecond: 10, duty: 1 }, () => clock.now);
    expect([held.unhurried, held.throttledBy]).toEqual([true, null]);
    clock.now = 500;
    await held.rest(10, stopped);
    expect(held.throttledBy).toBe('held to 10 rows/s');
    const half = new Pace({ chunkSize: 100, maxRowsPerSecond: null, duty: 0.5 }, () => clock.now);
    clock.now = 900;
    await half.rest(10, stopped);
    expect(half.throttledBy).toBe('working 50 % of the time');
    const full = new Pace({ chunkSize: 100, maxRowsPerSecond: null, duty: 1 }, () => clock.now);
    await full.rest(10, never);
    expect([full.unhurried, full.throttledBy]).toEqual([false, null]);
  });
});
