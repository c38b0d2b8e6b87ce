import { expect, test } from '@jest/globals';
import { BackOff } from './backOff.js';

test('what fails is left alone for longer each time, up to 30 s, and what succeeds is forgotten', () => {
  const backOff = new BackOff();
  let now = 0;
  const heldForMs = (): number => {
    let ms = 0;
    while (backOff.isHeldBack('a', now + ms)) ms += 100;
    return ms;
  };
  const held: number[] = [];
  for (let i = 0; i < 8; i++) {
    backOff.failed('a', now);
    held.push(heldForMs());
    now += 60_000;
  }
  held.forEach((ms, i) => {
    const most = Math.min(30_000, 1_000 * 2 ** i);
    expect(ms).toBeGreaterThanOrEqual(most / 2);
    expect(ms).toBeLessThanOrEqual(most + 100);
  });
  backOff.succeeded('a');
  expect(backOff.isHeldBack('a', now)).toBe(false);
  expect(backOff.isHeldBack('b', now)).toBe(false);
});
