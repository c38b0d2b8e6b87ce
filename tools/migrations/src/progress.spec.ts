import { describe, expect, test } from '@jest/globals';
import type { JobResult } from './jobResult.js';
import { createProgress, jsonLine, summary } from './progress.js';

const result = (changes: Partial<JobResult> = {}): JobResult => ({
  run: 'r1',
  mode: 'execute',
  target: 'k1',
  sweeps: 2,
  exitCode: 0,
  bytes: { before: 10, after: 20, written: 15 },
  looked: null,
  health: {
    before: { bytes: 1e6, liveRows: 10, deadRows: 0 },
    after: { bytes: 2e6, liveRows: 10, deadRows: 9 },
  },
  byColumn: { access_token: { plain: 1_234, 'v2 k1': 2, empty: 5 }, id_token: { empty: 1 } },
  counters: {
    scanned: 12_345,
    changed: 7,
    lostRace: 1,
    alreadyCurrent: 3,
    quarantined: 0,
    values: 15,
    late: 0,
    lateBefore: 0,
    remaining: { plain: 4, plan: 5, otherKid: 6 },
    durationMs: 1_500.4,
  },
  ...changes,
});

describe('what the job says', () => {
  test('to programs: one line with exactly these keys', () => {
    // What is stored with a run besides must not come through.
    const stored = Object.assign(result(), { counters: { ...result().counters, columns: ['id'] } });
    expect(jsonLine(stored)).toBe(
      '{"run":"r1","mode":"execute","scanned":12345,"changed":7,"alreadyCurrent":3,"lostRace":1,"quarantined":0,"remaining":{"plain":4,"plan":5,"otherKid":6},"durationMs":1500}',
    );
  });

  function screen(isTTY: boolean): {
    written: string[];
    clock: { now: number };
    progress: ReturnType<typeof createProgress>;
  } {
    const written: string[] = [];
    const clock = { now: 0 };
    return {
      written,
      clock,
      progress: createProgress(
        { write: (text) => written.push(text), isTTY, columns: 100 },
        () => clock.now,
      ),
    };
  }
  const at = {
    sweep: 1,
    scanned: 500,
    scannedBefore: 0,
    total: 2_000,
    changed: 400,
    lostRace: 0,
    throttledBy: null,
  };

  test('on a terminal: a bar in one line with rate, time left and why it rests', () => {
    const { written, clock, progress } = screen(true);
    clock.now = 1_000;
    progress.progress({ ...at, throttledBy: 'held to 500 rows/s' });
    clock.now += 50;
    progress.progress({ ...at, scanned: 510 });
    expect(written).toEqual([
      '\r\x1b[K[###.......]  25%  500 rows/s, 3 s left (held to 500 rows/s), sweep 1, changed 400, 500 of 2,000 rows'.slice(
        0,
        4 + 99,
      ),
    ]);
    progress.note('a note');
    progress.end();
    expect(written.slice(1)).toEqual(['\r\x1b[K', 'a note\n']);
  });

  test('in a pipe: a whole line every few seconds', () => {
    const { written, clock, progress } = screen(false);
    for (clock.now = 500; clock.now <= 7_000; clock.now += 500)
      progress.progress({
        ...at,
        scanned: clock.now,
        lostRace: 2,
        throttledBy: 'working 50 % of the time',
        total: 1_000_000,
      });
    expect(written).toEqual([
      '1,000 rows/s, 17 min left (working 50 % of the time), lost races 2, sweep 1, changed 400, 3,000 of 1,000,000 rows\n',
      '1,000 rows/s, 17 min left (working 50 % of the time), lost races 2, sweep 1, changed 400, 6,000 of 1,000,000 rows\n',
    ]);
  });

  test("the rate is this process's own in this sweep", () => {
    const { written, clock, progress } = screen(false);
    clock.now = 3_000;
    progress.progress({ ...at, scanned: 1_900, scannedBefore: 1_600 });
    clock.now = 4_000;
    progress.progress({ ...at, sweep: 2, scanned: 10, scannedBefore: 1_600 });
    clock.now = 6_000;
    progress.progress({ ...at, sweep: 2, scanned: 1_000, scannedBefore: 1_600 });
    expect(written).toEqual([
      expect.stringMatching(/^100 rows\/s, 1 s left, .*1,900 of 2,000 rows/),
      expect.stringMatching(/^500 rows\/s, 2 s left, sweep 2, .*1,000 of 2,000 rows/),
    ]);
  });

  test('more rows than were counted, and none at all, are no trouble', () => {
    const { written, clock, progress } = screen(true);
    clock.now = 1_000;
    progress.progress({ ...at, scanned: 10, total: 0 });
    expect(written[0]).toContain('100%');
  });

  test('to people: what there is, what was done, what to do next', () => {
    const text = (changes: Partial<JobResult>, sampled = false): string =>
      summary(result(changes), { table: 'user_sessions', flags: ' --to k1', sampled });
    expect(text({})).toContain('Done: a sweep from the start found nothing left to write.');
    expect(text({})).toContain(
      'To check it: npx nx run migrations:encrypt-tokens -- --to k1 --verify',
    );
    expect(text({ mode: 'dry-run', run: null })).toMatch(
      /would be rewritten +15 \(plaintext 4, older format 5, other key 6\)/,
    );
    expect(text({ mode: 'dry-run', run: null })).toMatch(
      /access_token +plaintext 1,234, v2 k1 2\n +id_token +no values/,
    );
    expect(text({ mode: 'dry-run', run: null, target: 'plain' })).toContain(
      '--execute --i-understand-tokens-will-be-plaintext',
    );
    expect(text({ mode: 'dry-run', run: null })).toMatch(
      /estimate +about 4 s to execute at this pace\n/,
    );
    expect(text({ mode: 'dry-run', run: null, exitCode: 130 })).toContain(
      'Interrupted: nothing was changed, and not every row was looked at.',
    );
    expect(text({ mode: 'verify', run: null })).toContain(
      'Verified: every value opens under the target key.',
    );
    expect(text({ mode: 'verify', run: null }, true)).toContain(
      'Verified: every value of the sample opens under the target key.',
    );
    expect(text({ exitCode: 130 })).toContain('-- --to k1 --execute --resume r1');
    expect(text({ mode: 'verify', run: null, exitCode: 3 })).toContain('To encrypt what is left');
    expect(text({ exitCode: 3 })).toContain('Some rows were being written by others each time');
    expect(text({ exitCode: 3, counters: { ...result().counters, quarantined: 2 } })).toContain(
      'token_encryption_quarantine',
    );
  });
});
