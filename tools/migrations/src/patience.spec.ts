import { expect, test } from '@jest/globals';
import { Patience } from './patience.js';

test('a worker that waits for the database goes on waiting when another has found it back', async () => {
  const patience = new Patience({
    db: undefined as never,
    table: 't',
    note: () => undefined,
    stopRequested: () => false,
    troubled: () => undefined,
  });
  const away = Object.assign(new Error('terminating connection due to administrator command'), {
    code: '57P01',
  });
  let tries = 0;
  const waiting = patience.outlast(away, async () => {
    if (++tries < 3) throw away;
    return 'back';
  });
  patience.recovered();
  expect(await waiting).toBe('back');
});
