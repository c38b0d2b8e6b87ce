import { describe, expect, test } from '@jest/globals';
import type { Load } from './loadSignals.js';
import { Pace, type PaceLimits } from './pace.js';

const never = (): boolean => false;
const stopped = (): boolean => true;
const UNBOUND: PaceLimits = {
  chunkSize: 100,
  maxRowsPerSecond: null,
  duty: 1,
  maxWalMbPerSecond: null,
  maxReplicationLagSeconds: 0,
  maxSlotWalMb: 0,
  maxActiveSessions: 0,
  maxLockWaits: 0,
};
const QUIET: Load = {
  walBytes: 0,
  replica: null,
  slot: null,
  activeSessions: 0,
  lockWaits: 0,
  seesAll: true,
};

/** A pace whose clock and server are the test's. */
function paceOf(limits: Partial<PaceLimits>, loads: Partial<Load>[] = []) {
  const clock = { now: 0 };
  const notes: string[] = [];
  let read = 0;
  const signals = {
    read: async () => ({ ...QUIET, ...(loads[Math.min(read++, loads.length - 1)] ?? {}) }),
  };
  const pace = new Pace(
    { ...UNBOUND, ...limits },
    {
      now: () => clock.now,
      ...(loads.length > 0 ? { signals } : {}),
      note: (line) => notes.push(line),
    },
  );
  return { pace, clock, notes, reads: () => read };
}

describe('the pace', () => {
  test('batches grow to the chunk size while they are quick, and shrink when they are slow', () => {
    const { pace } = paceOf({ chunkSize: 10_000 });
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

  test("a batch is never more than the chunk size or a second's worth", () => {
    expect(paceOf({ chunkSize: 100 }).pace.rows).toBe(100);
    expect(paceOf({ chunkSize: 100, maxRowsPerSecond: 7 }).pace.rows).toBe(7);
  });

  test('its bounds can be changed while it is at work', async () => {
    const { pace, clock } = paceOf({ chunkSize: 1_000 });
    pace.change({ chunkSize: 50, maxRowsPerSecond: 10 });
    expect(pace.rows).toBe(10);
    clock.now = 100;
    await pace.rest(10, stopped);
    expect(pace.throttledBy).toBe('held to 10 rows/s');
  });

  test.each<[string | null, Partial<PaceLimits>, Partial<Load>[]]>([
    ['held to 10 rows/s', { maxRowsPerSecond: 10 }, []],
    ['working 50 % of the time', { duty: 0.5 }, []],
    [null, {}, []],
    [
      'replica east is 12 s behind, at most 10',
      { maxReplicationLagSeconds: 10 },
      [{ replica: { name: 'east', behindMs: 12_000 } }],
    ],
    [null, { maxReplicationLagSeconds: 10 }, [{ replica: { name: 'east', behindMs: 9_000 } }]],
    [
      'the replication slot east keeps 2000 MB of WAL, at most 1999',
      { maxSlotWalMb: 1_999 },
      [{ slot: { name: 'east', keptBytes: 2e9 } }],
    ],
    [null, { maxSlotWalMb: 2_000 }, [{ slot: { name: 'east', keptBytes: 2e9 } }]],
    [
      '26 other sessions are at work, at most 25',
      { maxActiveSessions: 25, maxLockWaits: 5 },
      [{ activeSessions: 26, lockWaits: 5 }],
    ],
    [
      '6 sessions wait for locks, at most 5',
      { maxActiveSessions: 25, maxLockWaits: 5 },
      [{ activeSessions: 26, lockWaits: 6 }],
    ],
    [null, {}, [{ replica: { name: 'east', behindMs: 1e9 }, activeSessions: 1e6, lockWaits: 1e6 }]],
  ])('it says %j', async (reason, limits, loads) => {
    const { pace, clock } = paceOf(limits, loads);
    clock.now = 900;
    // Once it is to stop, it rests no longer, whatever the reason.
    await pace.rest(20, loads.length > 0 && reason !== null ? once() : stopped);
    expect(pace.throttledBy).toBe(reason);
  });

  test('it rests until the server is at ease again', async () => {
    const busy = { activeSessions: 9 };
    const { pace, reads } = paceOf({ maxActiveSessions: 3 }, [busy, busy, { activeSessions: 3 }]);
    await pace.rest(10, never);
    expect(reads()).toBe(3);
  });

  test("WAL beyond the bound is paid for with time, and others' WAL with no more than ten seconds", async () => {
    const { pace, clock } = paceOf({ maxWalMbPerSecond: 10 }, [
      { walBytes: 0 },
      { walBytes: 1_000_000 },
      { walBytes: 30_000_000 },
    ]);
    await pace.rest(10, never);
    clock.now = 100;
    await pace.rest(10, never);
    expect(pace.throttledBy).toBeNull();
    clock.now = 200;
    await pace.rest(10, stopped);
    expect(pace.throttledBy).toBe('WAL held to 10 MB/s');
  });

  test('a batch that takes much longer than at best is followed by a rest as long as it took', async () => {
    const { pace } = paceOf({});
    for (const ms of [900, 700]) pace.batchTook(ms, 100);
    await pace.rest(100, stopped);
    // A slow server that was never quick is no reason.
    expect(pace.throttledBy).toBeNull();
    pace.batchTook(60, 100);
    pace.batchTook(640, 100);
    await pace.rest(100, stopped);
    expect(pace.throttledBy).toBe('statements are slow: 11 times as slow as at best');
    pace.batchTook(100, 50);
    await pace.rest(50, stopped);
    expect(pace.throttledBy).toBeNull();
  });

  test('what is read ahead of a long rest would be old', async () => {
    const pace = new Pace({ ...UNBOUND, maxRowsPerSecond: 10 });
    expect(pace.unhurried).toBe(false);
    await pace.rest(4, never);
    expect(pace.unhurried).toBe(true);
  });

  test('a job that is to work only part of the time does not work ahead', () => {
    expect(new Pace({ ...UNBOUND, duty: 0.99 }).unhurried).toBe(true);
  });

  test('it says once that the server hides its load', async () => {
    const { pace, clock, notes } = paceOf({}, [{ seesAll: false }]);
    await pace.rest(1, never);
    clock.now = 10_000;
    await pace.rest(1, never);
    expect(notes).toEqual([expect.stringContaining('GRANT pg_read_all_stats')]);
  });
});

/** False the first time it is asked. */
function once(): () => boolean {
  let asked = 0;
  return () => asked++ > 0;
}
