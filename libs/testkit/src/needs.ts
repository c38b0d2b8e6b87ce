import { appendFileSync, existsSync } from 'node:fs';
import { whyNoKeycloak } from '@session-gateway/keycloak-server';
import { whyNoChromium } from './chromium.js';
import { findProgram } from './findProgram.js';
import { whyNoRedis } from './redis.js';

/** What a suite may need beyond Node. */
export type Service = 'redis' | 'keycloak' | 'chromium' | 'nginx' | 'python3+openssl' | 'script';

const reasons: Record<Service, () => string | null> = {
  redis: whyNoRedis, keycloak: whyNoKeycloak, chromium: whyNoChromium, nginx: whyNoNginx, 'python3+openssl': whyNoPythonWithOpenssl,
  script: () => (findProgram('script') ? null : 'no script on the PATH (Debian: apt-get install bsdutils)'),
};

type Describe = ((name: string, fn: () => void) => void) & { skip: (name: string, fn: () => void) => void };
interface JestGlobals {
  describe: Describe;
  test: (name: string, fn: () => void) => void;
}

function whyNoNginx(): string | null {
  return findProgram('nginx') || existsSync('/usr/sbin/nginx') ? null : 'no nginx on the PATH (Debian: apt-get install nginx)';
}

function whyNoPythonWithOpenssl(): string | null {
  const missing = ['python3', 'openssl'].filter((program) => !findProgram(program));
  return missing.length === 0 ? null : `no ${missing.join(' and no ')} on the PATH (Debian: apt-get install ${missing.join(' ')})`;
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
  skip(name, missing.join('; '), fn);
}

/** `describe` for a suite that needs a right which a machine may well not give: with a reason it is skipped by name, whatever is required. */
export function describeUnless(reason: string | null, name: string, fn: () => void): void {
  if (reason === null) (globalThis as unknown as JestGlobals).describe(name, fn);
  else skip(name, reason, fn);
}

function skip(name: string, reason: string, fn: () => void): void {
  if (process.env['SKIP_LOG']) appendFileSync(process.env['SKIP_LOG'], `${name}: ${reason}\n`);
  (globalThis as unknown as JestGlobals).describe.skip(name, fn);
}
