import {
  AuthError,
  ConfigError,
  createKeyring,
  type Environment,
  type Keyring,
} from '@session-gateway/keycloak-auth';
import { type Config, readConfig } from '../../../../../apps/api-gateway/src/settings/config.js';
import { parseRoutes } from '../../../../../apps/api-gateway/src/settings/gatewayRoutes.js';
import type { Random } from '../../harness/random.js';
import { bentJson, bentText, hostileJson, joined, type Json } from './grammar.js';
import type { Surface } from './trial.js';

/** Keyring JSON. */
export function keyringSurface(
  random: Random,
  read = (keyringJson: string): Keyring => createKeyring({ keyringJson }),
): Surface {
  return {
    name: 'keyring',
    weight: 12,
    next() {
      const keys = ['k26b', 'k26a', 'k1'].map((kid) => ({
        kid,
        key: random.bytes(32).toString('base64url'),
      }));
      const sound: Json = {
        primary: 'k26b',
        keys: [
          keys[0] as Json,
          { ...keys[1], status: random.pick(['decrypt-only', 'active']) },
          keys[2] as Json,
        ],
      };
      const odd: Json[] = [
        'k26a',
        'K1',
        'k'.repeat(17),
        'decrypt-only',
        'retired',
        keys[1]?.key ?? '',
        random.bytes(31).toString('base64url'),
        random.bytes(33).toString('base64url'),
        Buffer.alloc(32, 7).toString('base64url'),
        `${keys[0]?.key ?? ''}=`,
        `${keys[0]?.key ?? ''}${'='.repeat(random.chance(0.01) ? 200_000 : 3)}x`,
        null,
        7,
        [],
        {},
      ];
      const text = random.chance(0.1)
        ? JSON.stringify(sound)
        : hostileJson(
            random,
            random.chance(0.3)
              ? bentJson(random, bentJson(random, sound, odd), odd)
              : bentJson(random, sound, odd),
          );
      const fault = keyringFault(text);
      return {
        input: text.slice(0, 2000),
        run: () => read(text),
        documented: (error) =>
          error instanceof AuthError &&
          error.code === 'keyring_invalid' &&
          !keys.some(({ key }) => error.message.includes(key.slice(0, 10))) &&
          error.cause === undefined,
        accepted: () => true,
        wrong: (outcome) =>
          fault ?? (isWhole(outcome as Keyring) ? null : 'a keyring lacks its own keys'),
        wronglyRefused: () => (fault === null ? 'a sound keyring is refused' : null),
      };
    },
  };
}

function isWhole(ring: Keyring): boolean {
  return (
    ring.kids.includes(ring.primary) &&
    !ring.decryptOnly.has(ring.primary) &&
    ring.kids.every((kid) => ring.key(kid) !== undefined)
  );
}

/** What is wrong with a keyring, by the contract. */
function keyringFault(text: string): string | null {
  let ring: unknown;
  try {
    ring = JSON.parse(text);
  } catch {
    return 'no JSON passes';
  }
  if (!isRecord(ring) || !Array.isArray(ring['keys'])) return 'something that is no keyring passes';
  const [kids, secrets, readers] = [new Set<unknown>(), new Set<string>(), new Set<unknown>()];
  for (const entry of ring['keys'] as unknown[]) {
    if (!isRecord(entry)) return 'a key that is none passes';
    const { kid, key, status } = entry;
    if (typeof kid !== 'string' || !/^[a-z0-9]{1,16}$/.test(kid) || kids.has(kid))
      return 'a key id that is none, or stands there twice, passes';
    if (typeof key !== 'string' || !/^[A-Za-z0-9_-]{43}=?$/.test(key))
      return 'a key that is not 32 bytes passes';
    const bytes = Buffer.from(key, 'base64url');
    if (
      bytes.toString('base64url') !== key.slice(0, 43) ||
      secrets.has(bytes.toString('hex')) ||
      new Set(bytes).size < 8
    )
      return 'a key in another spelling, a second time, or a weak one passes';
    if (status !== undefined && status !== 'active' && status !== 'decrypt-only')
      return 'a status that is none passes';
    kids.add(kid);
    secrets.add(bytes.toString('hex'));
    if (status === 'decrypt-only') readers.add(kid);
  }
  return kids.has(ring['primary']) && !readers.has(ring['primary'])
    ? null
    : 'a primary that is missing or only reads passes';
}

/** The routing table. */
export function routesSurface(random: Random, read: typeof parseRoutes = parseRoutes): Surface {
  const secret = 'hunter2';
  const odd: Json[] = [
    '/',
    '/auth',
    '/auth/x',
    '/admin/sessions',
    '/account',
    '/health/live',
    '//x',
    '/a/../auth',
    '/./auth',
    '/%61uth',
    '/a b',
    'api',
    '/é',
    '\\auth',
    '/auth\\x',
    '/Auth',
    '/auth/',
    '/x?y',
    '/x#y',
    `http://u:${secret}@h`,
    'http://',
    'ftp://h',
    'http://h?x',
    'http://h#x',
    'HTTP://H',
    'javascript:x',
    'http://[::1]:99999',
    'none',
    'any',
    'session',
    'realm:admin',
    'a:b:c',
    ':',
    'a:',
    'access',
    0,
    -1,
    1.5,
    3_600_001,
    1e9,
    true,
    null,
    [],
    {},
    { audience: 'x' },
  ];
  return {
    name: 'routes',
    weight: 10,
    next() {
      const sound: Json = [
        {
          path: '/api',
          upstream: 'http://127.0.0.1:8080/base',
          auth: 'session',
          protect: 'realm:admin',
          stripPrefix: true,
        },
        {
          path: '/public',
          upstream: 'https://public.example',
          auth: 'none',
          token: 'none',
          websocket: true,
          timeoutMs: 1000,
        },
      ];
      const bent = (): Json =>
        bentJson(random, random.chance(0.3) ? bentJson(random, sound, odd) : sound, odd);
      const text = hostileJson(random, random.chance(0.1) ? sound : bent());
      return {
        input: text.slice(0, 2000),
        run: () => read(text),
        documented: () => false,
        accepted: (outcome) => (outcome as ReturnType<typeof parseRoutes>).problems.length === 0,
        wrong(outcome) {
          const { routes, problems } = outcome as ReturnType<typeof parseRoutes>;
          if (problems.some((problem) => problem.includes(secret)))
            return 'what is wrong quotes a secret';
          if (problems.length > 0) return null;
          const entries: unknown = JSON.parse(text);
          if (!Array.isArray(entries) || entries.length !== routes.length)
            return 'a table is read as another';
          return routes.map(routeFault).find((fault) => fault !== null) ?? null;
        },
      };
    },
  };
}

function routeFault({
  path,
  upstream,
  auth,
  protect,
  timeoutMs,
  stripPrefix,
  websocket,
}: ReturnType<typeof parseRoutes>['routes'][number]): string | null {
  const url = URL.canParse(`http://h${path}`) ? new URL(`http://h${path}`) : null;
  if (
    !url ||
    !path.startsWith('/') ||
    url.pathname !== path ||
    url.host !== 'h' ||
    path.includes('//') ||
    path.includes('%')
  )
    return 'a path that a parser reads otherwise passes';
  if (/^\/(auth|account|health|admin\/sessions)(\/|$)/.test(path))
    return "a route takes the gateway's own path";
  if (
    !['http:', 'https:'].includes(upstream.protocol) ||
    upstream.username ||
    upstream.password ||
    upstream.search ||
    upstream.hash
  )
    return 'an upstream that is none passes';
  if (
    !['session', 'bearer', 'any', 'none'].includes(auth) ||
    (auth === 'none' && protect !== undefined)
  )
    return 'a protection that nobody checks passes';
  return Number.isInteger(timeoutMs) &&
    timeoutMs > 0 &&
    typeof stripPrefix === 'boolean' &&
    typeof websocket === 'boolean'
    ? null
    : 'a setting of another type passes';
}

const NUMBERS: Record<string, [keyof Config, number, number]> = {
  PORT: ['port', 1, 65_535],
  SESSION_IDLE_TIMEOUT: ['sessionIdleTimeoutMs', 1000, 31_536_000_000],
  SESSION_ABSOLUTE_TIMEOUT: ['sessionAbsoluteTimeoutMs', 1000, 31_536_000_000],
  REFRESH_AHEAD: ['refreshAheadMs', 0, 86_400_000],
  REFRESH_SWEEP: ['refreshSweepMs', 0, 86_400_000],
};

/** The environment as a whole. */
export function configurationSurface(
  random: Random,
  read: (env: Environment) => Config = readConfig,
): Surface {
  const secrets = [
    'database-password',
    'redis-password',
    'client-secret-value',
    'user-info-password',
  ];
  const values = [
    '',
    ' ',
    '0',
    '1',
    '-1',
    '65536',
    '3000',
    '1e3',
    '0x10',
    '٣',
    '99999999999',
    'true',
    'false',
    'TRUE',
    'production',
    'development',
    'http://h',
    'https://h',
    'https://h/path',
    `https://u:${secrets[3] ?? ''}@h`,
    'https://h?x',
    'https://h#x',
    'ftp://h',
    'javascript:x',
    '//h',
    'h',
    'postgresql://u:p@h/d',
    `postgresql://u:${secrets[0] ?? ''}@/d`,
    'mysql://h',
    'redis://h',
    'rediss://h',
    '/nonexistent',
    'lax',
    'strict',
    'none',
    'v2',
    'v2+plan',
    'all',
    'plain',
    'sid',
    'sub',
    '10.0.0.0/8',
    '10.0.0.0/33',
    'x'.repeat(31),
    '[]',
    '[{}]',
    '{',
    'null',
    '\0',
    '\n',
    'é',
    '__proto__',
    'info',
    'silent',
  ];
  const names = [
    'NODE_ENV',
    'HOST',
    'PORT',
    'PUBLIC_URL',
    'DATABASE_URL',
    'REDIS_URL',
    'DATA_DIR',
    'KEYCLOAK_ISSUER',
    'KEYCLOAK_CLIENT_ID',
    'KEYCLOAK_CLIENT_SECRET',
    'KEYCLOAK_INTERNAL_URL',
    'KEYCLOAK_CLIENT_AUTH',
    'KEYCLOAK_USERINFO',
    'SESSION_TOKEN_KEYRING',
    'GATEWAY_ROUTES',
    'SESSION_IDLE_TIMEOUT',
    'SESSION_ABSOLUTE_TIMEOUT',
    'REFRESH_AHEAD',
    'REFRESH_SWEEP',
    'BACKCHANNEL_LOGOUT_SCOPE',
    'LOGOUT_TOKEN_TYP',
    'SESSION_COOKIE_SAMESITE',
    'TOKEN_READ_POLICY',
    'TRUSTED_PROXIES',
    'MANAGEMENT_PORT',
    'LOG_LEVEL',
    'ALLOW_INSECURE_HTTP',
    'DATABASE_URL_FILE',
    'SESSION_TOKEN_KEYRING_FILE',
    'GATEWAY_ROUTES_FILE',
  ];
  return {
    name: 'configuration',
    weight: 12,
    next() {
      const key = random.bytes(32).toString('base64url');
      const env: Record<string, string> = {
        PUBLIC_URL: 'https://app.example',
        DATABASE_URL: `postgresql://u:${secrets[0] ?? ''}@db/d`,
        REDIS_URL: `redis://u:${secrets[1] ?? ''}@cache`,
        KEYCLOAK_ISSUER: 'https://id.example/realms/main',
        KEYCLOAK_CLIENT_ID: 'gateway',
        KEYCLOAK_CLIENT_SECRET: secrets[2] ?? '',
        SESSION_TOKEN_KEYRING: JSON.stringify({ primary: 'k1', keys: [{ kid: 'k1', key }] }),
        ...(random.chance(0.5) ? { NODE_ENV: 'production' } : {}),
      };
      const another = (): string =>
        random.chance(0.2) ? joined(random, values, 3) : random.pick(values);
      for (let times = random.below(4); times > 0; times--) {
        const name = random.pick(names);
        const known = env[name];
        if (random.chance(0.1)) Reflect.deleteProperty(env, name);
        else
          env[name] =
            known !== undefined && random.chance(0.5) ? bentText(random, known, values) : another();
      }
      if (random.chance(0.1)) {
        const name = random.pick(ADDRESSES);
        const at = random.below((env[name]?.length ?? 0) + 1);
        env[name] =
          (env[name] ?? '').slice(0, at) +
          random.pick(['\n', '\r', '\t', ' ', '\u00a0', '\ufeff']) +
          (env[name] ?? '').slice(at);
      }
      return {
        input: JSON.stringify(env),
        run: () => read(env),
        documented: (error) =>
          error instanceof ConfigError &&
          error.problems.length > 0 &&
          ![...secrets, key.slice(0, 10)].some((secret) => error.message.includes(secret)),
        accepted: () => true,
        wrong: (outcome) => configFault(outcome as Config, env),
      };
    },
  };
}

export const ADDRESSES = [
  'PUBLIC_URL',
  'DATABASE_URL',
  'REDIS_URL',
  'KEYCLOAK_ISSUER',
  'KEYCLOAK_INTERNAL_URL',
];

function configFault(config: Config, env: Record<string, string>): string | null {
  const { production, publicUrl, keycloak, databaseUrl, redisUrl, keyring } = config;
  for (const [variable, [name, min, max]] of Object.entries(NUMBERS)) {
    const number = config[name];
    if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < min || number > max)
      return `${variable} is out of its bounds`;
  }
  if (config.managementPort === config.port) return 'both ports are one';
  if (
    publicUrl.pathname !== '/' ||
    publicUrl.search ||
    publicUrl.hash ||
    publicUrl.username ||
    !/^https?:$/.test(publicUrl.protocol)
  )
    return 'PUBLIC_URL is no origin';
  if (production !== (env['NODE_ENV'] === 'production'))
    return 'production is read from something else';
  if (production && (!databaseUrl || !redisUrl || !keycloak || !keyring))
    return 'production starts with an embedded part';
  const addresses = ADDRESSES.flatMap((name) => env[name] ?? []);
  if (addresses.some((address) => /[\0-\x20\x7f-\xa0\u2028\u2029\ufeff]/.test(address)))
    return 'an address passes that a parser reads as another';
  const insecure = [publicUrl.href, keycloak?.issuer, keycloak?.internalUrl].some(
    (url) => url !== undefined && !/^https:\/\//i.test(url),
  );
  if (production && insecure && env['ALLOW_INSECURE_HTTP'] !== 'true')
    return 'production speaks http unasked';
  if (keycloak && (!keycloak.clientId || !keycloak.clientSecret || !URL.canParse(keycloak.issuer)))
    return 'a provider without a client passes';
  if (databaseUrl !== undefined && !/^postgres(ql)?:\/\//.test(databaseUrl))
    return 'a database that is none passes';
  if (
    !['v2', 'v2+plan', 'all'].includes(config.tokenReadPolicy) ||
    !['lax', 'strict'].includes(config.sessionCookieSameSite)
  )
    return 'a choice that is none passes';
  return config.routes.map(routeFault).find((fault) => fault !== null) ?? null;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
