import { POSTGRES_TIMEOUTS, REDIS_TIMEOUTS } from '@session-gateway/database';
import { CACHE_TRUST_MS, LEASE_MS, WAIT_MS, WRITE_MS } from '@session-gateway/keycloak-auth';

const named = (group: string, values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`${group}.${name}`, value]));

/** What docs/timeouts.md promises, from where it is decided. */
export const TIMEOUTS: Readonly<Record<string, number>> = {
  ...named('postgres', POSTGRES_TIMEOUTS),
  ...named('redis', REDIS_TIMEOUTS),
  ...named('session', { copyTrustMs: CACHE_TRUST_MS }),
  ...named('refresh', { leaseMs: LEASE_MS, waitMs: WAIT_MS, writeMs: WRITE_MS }),
};
