import { expect, test } from '@jest/globals';
import type { Session } from '@session-gateway/keycloak-auth';
import { sessionEnd } from './sessionEnd.js';

const NOW = Date.parse('2026-03-02T12:00:00Z');
const [MINUTE, HOUR] = [60_000, 3_600_000];
const at = (ms: number): Date => new Date(NOW + ms);

type Options = Parameters<typeof sessionEnd>[0];

/** Ends from now, in minutes, of a session that was used `usedAgo` and renewed `renewedAgo`. */
function endOf(
  {
    usedAgo = 0,
    renewedAgo = 4 * MINUTE,
    refreshLife = 5 * MINUTE,
    createdAgo = HOUR,
    idle = 5 * MINUTE,
  },
  settings: Partial<Options['config']> = {},
): { at: number; latest: number } {
  const absolute = 10 * HOUR;
  const expiresAt = Math.min(absolute - createdAgo, refreshLife - renewedAgo);
  const session = {
    createdAt: at(-createdAgo),
    lastAccessedAt: at(-usedAgo),
    tokenExpiresAt: at(5 * MINUTE - renewedAgo),
    tokenLifetimeSeconds: 300,
    expiresAt: at(expiresAt),
  } as Session;
  const end = sessionEnd(
    {
      store: { idleExpiresAt: () => at(idle - usedAgo) } as unknown as Options['store'],
      config: {
        refreshSweepMs: 10_000,
        sessionIdleFromProvider: true,
        sessionAbsoluteTimeoutMs: absolute,
        ...settings,
      } as Options['config'],
    },
    session,
  );
  return {
    at: (end.at.getTime() - NOW) / MINUTE,
    latest: (end.latest.getTime() - NOW) / MINUTE,
  };
}

test('a session in use outlives its refresh token, which is renewed in the background', () => {
  expect(endOf({})).toEqual({ at: 5, latest: 540 });
  expect(endOf({ usedAgo: 3 * MINUTE })).toEqual({ at: 2, latest: 540 });
  expect(endOf({ idle: 30 * MINUTE, refreshLife: 30 * MINUTE })).toEqual({ at: 30, latest: 540 });
});

test("a refresh token that lasts for less than the provider's idle time is the last", () => {
  expect(endOf({ refreshLife: 4.9 * MINUTE }).latest).toBeCloseTo(0.9);
  expect(endOf({ refreshLife: 4.9 * MINUTE }).at).toBeCloseTo(0.9);
  // Whole seconds at the provider.
  expect(endOf({ refreshLife: 5 * MINUTE - 1_000 })).toEqual({ at: 5, latest: 540 });
  // Where the idle time is not the provider's, its tokens say nothing of the end.
  const own = { sessionIdleFromProvider: false };
  expect(endOf({ idle: 30 * MINUTE }, own)).toEqual({ at: 30, latest: 540 });
});

test('a session that nobody renews ends with its refresh token, and every one at the absolute timeout', () => {
  expect(endOf({}, { refreshSweepMs: 0 })).toEqual({ at: 1, latest: 1 });
  expect(endOf({ createdAgo: 10 * HOUR - 3 * MINUTE })).toEqual({ at: 3, latest: 3 });
});
