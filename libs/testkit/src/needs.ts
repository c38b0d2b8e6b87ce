import { appendFileSync } from 'node:fs';
import { whyNoKeycloak } from '@session-gateway/keycloak-server';
import { whyNoChromium } from './chromium.js';
import { whyNoRedis } from './redis.js';

/** What a suite may need beyond Node. */
export type Service = 'redis' | 'keycloak' | 'chromium';

const reasons: Record<Service, () => string | null> = { redis: whyNoRedis, keycloak: whyNoKeycloak, chromium: whyNoChromium };

type Describe = ((name: string, fn: () => void) => void) & { skip: (name: string, fn: () => void) => void };
interface JestGlobals {
  describe: Describe;
  test: (name: string, fn: () => void) => void;
}

/** Why these services are not here, one reason for each that is missing. */
export function whyMissing(services: readonly Service[]): string[] {
  return services.flatMap((service) => reasons[service]() ?? []);
}

/**
 * `describe` for a suite that needs services. When one is missing the suite is skipped and `name: reason` is appended to
 * the file that SKIP_LOG names; with REQUIRE_SERVICES=1 it fails instead and says what to install.
 */
export function describeWith(services: readonly Service[], name: string, fn: () => void): void {
  // Jest's globals, not its module: the module refuses to load outside of a test, where the rest of this library is used too.
  const jest = globalThis as unknown as JestGlobals;
  const missing = whyMissing(services);
  if (missing.length === 0) {
    jest.describe(name, fn);
    return;
  }
  if (process.env['REQUIRE_SERVICES'] === '1') {
    jest.describe(name, () => {
      jest.test('has the services it needs', () => {
        throw new Error(`REQUIRE_SERVICES=1, but: ${missing.join('; ')}`);
      });
    });
    return;
  }
  if (process.env['SKIP_LOG']) appendFileSync(process.env['SKIP_LOG'], `${name}: ${missing.join('; ')}\n`);
  jest.describe.skip(name, fn);
}
