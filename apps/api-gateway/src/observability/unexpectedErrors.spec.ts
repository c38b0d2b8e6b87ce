import { expect, test } from '@jest/globals';
import { REPEATED, UnexpectedErrors } from './unexpectedErrors.js';

test('a few unexpected errors are told; more within a minute make the instance unready for as long', () => {
  let now = 0;
  const told: unknown[] = [];
  const errors = new UnexpectedErrors(
    (error) => {
      told.push(error);
      throw new Error('the log itself fails');
    },
    () => now,
  );
  for (let i = 0; i < REPEATED.count; i++) errors.note(i);
  expect([told, errors.problem]).toEqual([[0, 1, 2, 3, 4], null]);
  now = REPEATED.windowMs / 2;
  errors.note('one more');
  expect(errors.problem).toMatch(/unexpected errors repeat/);
  now = REPEATED.windowMs;
  expect(errors.problem).toBeNull();
  for (let i = 0; i < 1_000; i++) errors.note(i);
  expect(errors.problem).not.toBeNull();
  now += REPEATED.windowMs;
  expect(errors.problem).toBeNull();
});
