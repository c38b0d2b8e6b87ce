import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { createGuard, type Guard } from './index.js';
import {
  CLAIMS,
  ISSUER,
  issuerOf,
  judge,
  type Key,
  newKey,
  now,
  requestOf,
  sign,
} from './testing/world.js';

let [first, second]: Key[] = [];
beforeAll(async () => {
  [first, second] = await Promise.all([newKey('ES256', 'k1'), newKey('ES256', 'k2')]);
});
beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] });
});
afterEach(() => {
  jest.useRealTimers();
});

function worldOf(...keys: (Key | undefined)[]) {
  const issuer = issuerOf(...keys.filter((key) => key !== undefined));
  const guard = createGuard({ issuer: ISSUER, audience: 'orders', now, fetch: issuer.fetch });
  return { issuer, guard };
}
const ask = async (guard: Guard, key: Key | undefined, jti = 'x'): Promise<string> => {
  if (key === undefined) throw new Error('no key');
  const token = await sign({ key, claims: { ...CLAIMS, jti } });
  const { status, code } = await judge(guard, requestOf(`Bearer ${token}`));
  return `${status} ${code}`;
};

describe("the issuer's keys", () => {
  test('are read at the first request, once for all who ask at once', async () => {
    const { issuer, guard } = worldOf(first);
    expect(issuer.asked).toEqual([]);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => ask(guard, first, String(i))),
    );
    expect(new Set(answers)).toEqual(new Set(['200 passed']));
    expect(issuer.asked).toEqual([`${ISSUER}/protocol/openid-connect/certs`]);
  });

  test('are read again for a key that is new, once a second at most', async () => {
    const { issuer, guard } = worldOf(first);
    await ask(guard, first);
    for (let i = 0; i < 50; i++) expect(await ask(guard, second)).toBe('401 token_key_unknown');
    expect(issuer.asked).toHaveLength(1);
    issuer.keys = [first, second].map((key) => key?.jwk ?? {});
    jest.advanceTimersByTime(1_000);
    expect(await ask(guard, second)).toBe('200 passed');
    expect(issuer.asked).toHaveLength(2);
  });

  test('that are withdrawn count for a minute, also for tokens that were verified', async () => {
    const { issuer, guard } = worldOf(first, second);
    expect(await ask(guard, first)).toBe('200 passed');
    issuer.keys = [second?.jwk ?? {}];
    jest.advanceTimersByTime(59_999);
    expect(await ask(guard, first)).toBe('200 passed');
    jest.advanceTimersByTime(1);
    expect(await ask(guard, first)).toBe('401 token_key_unknown');
    expect(await ask(guard, second)).toBe('200 passed');
  });

  test('that cannot be read are 503, never 401, and asked for once a second at most', async () => {
    const { issuer, guard } = worldOf(first);
    issuer.away = true;
    for (let i = 0; i < 20; i++) expect(await ask(guard, first)).toBe('503 issuer_unavailable');
    expect(issuer.asked).toHaveLength(1);
    issuer.away = false;
    jest.advanceTimersByTime(1_000);
    expect(await ask(guard, first)).toBe('200 passed');
  });

  test('count on for ten minutes while the issuer is away; a new one is 503 meanwhile', async () => {
    const { issuer, guard } = worldOf(first);
    expect(await ask(guard, first)).toBe('200 passed');
    issuer.away = true;
    jest.advanceTimersByTime(60_000);
    expect(await ask(guard, first)).toBe('200 passed');
    expect(await ask(guard, second)).toBe('503 issuer_unavailable');
    jest.advanceTimersByTime(540_001);
    expect(await ask(guard, first, 'not seen before')).toBe('503 issuer_unavailable');
    issuer.away = false;
    jest.advanceTimersByTime(1_000);
    expect(await ask(guard, first)).toBe('200 passed');
  });

  test.each<[string, () => Response]>([
    ['an error', () => new Response(null, { status: 500 })],
    ['a redirect', () => Response.redirect('https://evil.example/certs', 302)],
    ['no JSON', () => new Response('<html>')],
    ['no keys', () => Response.json({ keys: [] })],
    ['keys that are none', () => Response.json({ keys: [null] })],
    ['something else', () => Response.json('keys')],
    ['null', () => Response.json(null)],
  ])('answered with %s are 503', async (_what, answer) => {
    const { issuer, guard } = worldOf(first);
    issuer.answer = answer;
    expect(await ask(guard, first)).toBe('503 issuer_unavailable');
  });
});
