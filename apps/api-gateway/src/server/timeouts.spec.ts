import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { TIMEOUTS } from './timeouts.js';

test('docs/operate/timeouts.md says what the code does', () => {
  const page = readFileSync(
    new URL('../../../../docs/operate/timeouts.md', import.meta.url),
    'utf8',
  );
  const rows = [...page.matchAll(/^\| `([a-z]+\.\w+)` *\| *(\d+) *\|/gm)].map(([, name, value]) => [
    name,
    Number(value),
  ]);
  expect(Object.fromEntries(rows)).toEqual(TIMEOUTS);
});

test('the feed is believed through one reading that is lost, costs three statements a second at most, and fails within a second', () => {
  expect(TIMEOUTS['session.heardForMs']).toBeGreaterThan(2 * TIMEOUTS['session.feedReadMs']!);
  expect(TIMEOUTS['session.heardForMs']).toBeLessThanOrEqual(1_000);
  expect(1_000 / TIMEOUTS['session.feedReadMs']!).toBeLessThanOrEqual(3);
});
