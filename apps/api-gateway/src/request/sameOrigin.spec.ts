import { describe, expect, test } from '@jest/globals';
import { requireSameOrigin } from './sameOrigin.js';

const ours = 'https://app.example';
type Cell = { site?: string; origin?: string; csrf?: string };

function allowed(method: string, cell: Cell): boolean {
  const headers: Record<string, string | undefined> = {
    'sec-fetch-site': cell.site,
    origin: cell.origin,
    'x-csrf': cell.csrf,
  };
  try {
    requireSameOrigin(method, (name) => headers[name] ?? null, ours);
    return true;
  } catch {
    return false;
  }
}

describe('an unsafe request with the session cookie', () => {
  test.each<[Cell, boolean]>([
    [{ site: 'same-origin' }, true],
    [{ origin: ours }, true],
    [{ csrf: '1' }, true],
    [{ site: 'same-origin', origin: ours }, true],
    [{}, false],
    [{ csrf: '0' }, false],
    [{ site: 'same-site' }, false],
    [{ site: 'cross-site' }, false],
    [{ site: 'none' }, false],
    [{ origin: 'null' }, false],
    [{ origin: 'https://evil.example' }, false],
    [{ origin: 'http://app.example' }, false],
    [{ origin: 'https://app.example.evil.example' }, false],
    [{ site: 'same-origin', origin: 'https://evil.example' }, false],
    [{ site: 'cross-site', origin: ours }, false],
    [{ site: 'cross-site', csrf: '1' }, false],
    [{ origin: 'null', csrf: '1' }, false],
    [{ site: 'same-origin', origin: 'null' }, true],
    [{ site: 'same-site', origin: 'null' }, false],
    [{ site: 'cross-site', origin: 'null' }, false],
    [{ site: 'none', origin: 'null' }, false],
    [{ site: 'same-origin', origin: 'null, null' }, false],
    [{ site: 'same-origin', origin: '' }, false],
  ])('that says %j passes: %s', (cell, expected) => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'])
      expect(allowed(method, cell)).toBe(expected);
  });

  test('is not held against safe methods', () => {
    for (const method of ['GET', 'HEAD', 'OPTIONS'])
      expect(allowed(method, { site: 'cross-site' })).toBe(true);
  });
});
