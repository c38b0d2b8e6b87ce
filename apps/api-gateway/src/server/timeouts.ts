import { POSTGRES_TIMEOUTS, REDIS_TIMEOUTS } from '@session-gateway/database';
import {
  CACHE_TRUST_MS,
  LEASE_MS,
  SETTLE_MS,
  CUT_OFF_MS,
  FEED_READ_MS,
  HEARD_FOR_MS,
  PROVIDER_LOGOUT_BOUNDS,
  WAIT_MS,
  WRITE_MS,
} from '@session-gateway/keycloak-auth';
import { BROWSER_FIRST_MS, WAIT_FOR_PROVIDER_MS } from '../login/logoutRoutes.js';

const named = (group: string, values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`${group}.${name}`, value]));

/** What docs/operate/timeouts.md promises, from where it is decided. */
export const TIMEOUTS: Readonly<Record<string, number>> = {
  ...named('postgres', POSTGRES_TIMEOUTS),
  ...named('redis', REDIS_TIMEOUTS),
  ...named('session', {
    copyTrustMs: CACHE_TRUST_MS,
    cutOffMs: CUT_OFF_MS,
    feedReadMs: FEED_READ_MS,
    heardForMs: HEARD_FOR_MS,
  }),
  ...named('refresh', {
    leaseMs: LEASE_MS,
    waitMs: WAIT_MS,
    writeMs: WRITE_MS,
    settleMs: SETTLE_MS,
  }),
  ...named('logout', {
    ...PROVIDER_LOGOUT_BOUNDS,
    waitMs: WAIT_FOR_PROVIDER_MS,
    browserFirstMs: BROWSER_FIRST_MS,
  }),
};
