import { describe, expect, test } from '@jest/globals';
import { parseFlags } from './goal.js';
import { randomOf } from './random.js';

describe('the flags of a goal', () => {
  test('are a seed and the full size', () => {
    expect(parseFlags(['--seed', '7', '--full'])).toEqual({ seed: 7, full: true });
    expect(parseFlags(['--seed=7'])).toEqual({ seed: 7, full: false });
    expect(parseFlags([]).seed).toBeLessThan(2 ** 32);
  });

  test.each([
    [['--sed', '7'], 'unknown flag --sed'],
    [['-f'], 'unknown flag -f'],
    [['full'], 'unexpected word full'],
    [['--seed'], '--seed must be'],
    [['--seed', 'x'], '--seed must be'],
    [['--seed', '4294967296'], '--seed must be'],
    [['--full=no'], '--full takes no value'],
    [['--full', '--full'], '--full is given twice'],
  ])('%j are refused by name', (args, message) => {
    expect(() => parseFlags(args)).toThrow(message);
  });
});

describe('the numbers of a seed', () => {
  test('are the same each time, and others under another seed', () => {
    const [one, same, other] = [7, 7, 8].map((seed) => randomOf(seed).bytes(33).toString('hex'));
    expect(one).toBe(same);
    expect(one).not.toBe(other);
  });

  test('spread evenly', () => {
    const random = randomOf(1);
    const counts = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 100_000; i++) {
      const at = random.below(10);
      counts[at] = (counts[at] ?? 0) + 1;
    }
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(800);
  });
});
