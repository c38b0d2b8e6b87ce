import { appendFileSync, existsSync } from 'node:fs';
import { whyNoKeycloak } from '@session-gateway/keycloak-server';
import { whyNoChromium } from './chromium.js';
import { findProgram } from './findProgram.js';
import { whyNoPgbouncer } from './pgbouncer.js';
import { whyNoRedis } from './redis.js';
import { whyNoFaketime } from './shiftedClock.js';

/** What a suite may need beyond Node. */
export type Service =
  | 'redis'
  | 'keycloak'
  | 'chromium'
  | 'apache2+lua-socket'
  | 'caddy'
  | 'haproxy'
  | 'nginx'
  | 'pgbouncer'
  | 'faketime'
  | 'python3+openssl'
  | 'script'
  | 'promtool';

const reasons: Record<Service, () => string | null> = {
  redis: whyNoRedis,
  keycloak: whyNoKeycloak,
  chromium: whyNoChromium,
  'apache2+lua-socket': whyNoApache,
  caddy: () =>
    findProgram('caddy') ? null : 'no caddy on the PATH (Debian: apt-get install caddy)',
  haproxy: () =>
    findProgram('haproxy') || existsSync('/usr/sbin/haproxy')
      ? null
      : 'no haproxy on the PATH (Debian: apt-get install haproxy)',
  nginx: whyNoNginx,
  pgbouncer: whyNoPgbouncer,
  faketime: whyNoFaketime,
  'python3+openssl': whyNoPythonWithOpenssl,
  script: () =>
    findProgram('script') ? null : 'no script on the PATH (Debian: apt-get install bsdutils)',
  promtool: () =>
    findProgram('promtool') ? null : 'no promtool on the PATH (Debian: apt-get install prometheus)',
};

type Describe = ((name: string, fn: () => void) => void) & {
  skip: (name: string, fn: () => void) => void;
};
interface JestGlobals {
  describe: Describe;
  test: (name: string, fn: () => void) => void;
}

function whyNoNginx(): string | null {
  return findProgram('nginx') || existsSync('/usr/sbin/nginx')
    ? null
    : 'no nginx on the PATH (Debian: apt-get install nginx)';
}

/** Debian's httpd, with the modules in its own folder. */
function whyNoApache(): string | null {
  const needed = [
    '/usr/sbin/apache2',
    '/usr/lib/apache2/modules/mod_lua.so',
    '/usr/share/lua/5.3/socket/http.lua',
  ];
  return needed.every((file) => existsSync(file))
    ? null
    : 'no apache2 with lua-socket (Debian: apt-get install apache2 lua-socket)';
}

function whyNoPythonWithOpenssl(): string | null {
  const missing = ['python3', 'openssl'].filter((program) => !findProgram(program));
  return missing.length === 0
    ? null
    : `no ${missing.join(' and no ')} on the PATH (Debian: apt-get install ${missing.join(' ')})`;
}

/** Why these services are not here, one reason for each that is missing. */
export function whyMissing(services: readonly Service[]): string[] {
  return services.flatMap((service) => reasons[service]() ?? []);
}

/**
 * `describe` for a suite that needs services. When one is missing the suite is skipped and `name: reason` is appended
 * to the file that SKIP_LOG names; with REQUIRE_SERVICES=1 it fails instead and says what to install.
 */
export function describeWith(services: readonly Service[], name: string, fn: () => void): void {
  // Jest's globals, not its module: the module refuses to load outside of a test, where the rest of
  // this library is used too.
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

/**
 * `describe` for a suite that needs a right which a machine may well not give: with a reason it is skipped by
 * name, whatever is required.
 */
export function describeUnless(reason: string | null, name: string, fn: () => void): void {
  if (reason === null) (globalThis as unknown as JestGlobals).describe(name, fn);
  else skip(name, reason, fn);
}

function skip(name: string, reason: string, fn: () => void): void {
  if (process.env['SKIP_LOG']) appendFileSync(process.env['SKIP_LOG'], `${name}: ${reason}\n`);
  (globalThis as unknown as JestGlobals).describe.skip(name, fn);
}
