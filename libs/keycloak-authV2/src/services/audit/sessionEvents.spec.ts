import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { END_REASONS } from './sessionEvents.js';

test('the reasons for which a session ends stand in docs/operate/audit.md, all of them and no others', () => {
  const page = readFileSync(
    fileURLToPath(new URL('../../../../../docs/operate/audit.md', import.meta.url)),
    'utf8',
  );
  const row =
    page
      .split('\n')
      .find((line) => line.startsWith('| `session_ended`'))
      ?.split('|')[2] ?? '';
  expect([...row.matchAll(/`(\w+)`/g)].map(([, reason]) => reason).sort()).toEqual(
    [...END_REASONS].sort(),
  );
});
