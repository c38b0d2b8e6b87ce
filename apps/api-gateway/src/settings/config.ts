import {
  parseDatabaseUrl,
  parseRedisUrl,
  parseUrl,
  REDIS_URL_FORMS,
} from '@session-gateway/database';
import {
  ConfigError,
  type Environment,
  type Keyring,
  PACKAGED,
  readKeyring,
  type ReadPolicy,
  readSecret,
} from '@session-gateway/keycloak-auth';
import { parseTrustedProxies, type TrustedProxies } from '../request/forwarded.js';
import { isLoopbackHost } from '../request/loopback.js';
import { DEFAULT_SESSION_COOKIE, isSessionCookieName } from '../request/sessionCookie.js';
import { type GatewayRoute, parseRoutes } from './gatewayRoutes.js';
import { type IdentitySettings, parseIdentityRoles } from './identitySettings.js';
import {
  type KeycloakSettings,
  type LoginSettings,
  readKeycloak,
  readLogin,
} from './keycloakSettings.js';
import { type Brand, readBrand } from './brand.js';
import { type ClearedSiteData, parseClearSiteData } from './clearSiteData.js';
import { parsePostLogoutUrl } from './postLogoutUrl.js';
import { parseWorkers } from './workers.js';

/** Everything the gateway is told from outside. A part left out is embedded: development only. */
export interface Config {
  readonly production: boolean;
  /** Processes of this service. */
  readonly workers: number;
  readonly host: string;
  readonly port: number;
  /** Undefined: 3001, or any free port where that one is taken in development. */
  readonly managementPort: number | undefined;
  readonly managementHost: string;
  /** The browser's address of the gateway: an origin, without a path. */
  readonly publicUrl: URL;
  readonly dataDir: string;
  /** Whether the development provider, where it is embedded, answers callers on other machines too. */
  readonly developmentProviderForAll: boolean;
  readonly databaseUrl: string | undefined;
  /** PostgreSQL without a pooler in between, for migrations; undefined: as `databaseUrl`. */
  readonly directDatabaseUrl: string | undefined;
  /** Undefined: as the URL says, or 10. */
  readonly databaseMaxConnections: number | undefined;
  readonly redisUrl: string | undefined;
  readonly keycloak: KeycloakSettings | undefined;
  readonly login: LoginSettings;
  readonly identity: IdentitySettings;
  /** Undefined: generate a key into the data directory. */
  readonly keyring: Keyring | undefined;
  readonly tokenReadPolicy: ReadPolicy;
  readonly routes: readonly GatewayRoute[];
  readonly sessionIdleTimeoutMs: number;
  readonly sessionAbsoluteTimeoutMs: number;
  /** Live sessions that one person may have; 0: any number. */
  readonly sessionIdleFromProvider: boolean;
  readonly sessionMaxPerUser: number;
  /** How long ended sessions and the events of sessions are kept. */
  readonly sessionRetentionMs: number;
  readonly sessionCookieSameSite: 'lax' | 'strict';
  /** Without the `__Host-` that https puts before it. */
  readonly sessionCookieName: string;
  readonly refreshAheadMs: number;
  readonly refreshSweepMs: number;
  readonly backchannelLogoutScope: 'sid' | 'sub';
  readonly logoutTokenTyp: 'required' | 'if-present';
  /** Where a person goes on to from `/auth/logged-out`; null: nowhere, the page is the gateway's own. */
  readonly postLogoutUrl: string | null;
  /** Who goes to the provider first when a person logs out. */
  readonly logoutOrder: 'server' | 'browser';
  /** What people's pages show of the application. */
  readonly brand: Brand;
  /** What a browser is to forget of this origin with a logout (`Clear-Site-Data`). */
  readonly logoutClearSiteData: readonly ClearedSiteData[];
  /** Whose `X-Forwarded-*` are believed. */
  readonly trustedProxies: TrustedProxies;
  /** Open connections of one address (IPv6: of one /64) that is no trusted proxy's; 0: any number. */
  readonly maxConnectionsPerAddress: number;
  /** How long to go on serving, unready, after the signal to end: until load balancers have noticed. */
  readonly shutdownDelayMs: number;
  /** Where traces go; undefined: nowhere. */
  readonly otlpEndpoint: string | undefined;
  /** Go with them: mostly what the collector knows us by. */
  readonly otlpHeaders: Readonly<Record<string, string>>;
  /** Requests a minute for each address; 0: no limit. */
  readonly rateLimits: {
    readonly login: number;
    readonly callback: number;
    readonly logoutToken: number;
  };
  readonly logLevel: string;
}

export const DEFAULT_MANAGEMENT_PORT = 3001;

/**
 * `problems`: what is known to be wrong already with the keyring, which is then left out of `env`.
 * @throws ConfigError with every problem at once
 */
export function readConfig(env: Environment, problems: string[] = []): Config {
  const keyringRefused = problems.length > 0;
  const production = env['NODE_ENV'] === 'production';
  if (!production && /^\s*prod(uction)?\s*$/i.test(env['NODE_ENV'] ?? ''))
    problems.push('NODE_ENV must be written production: any other text is development');
  const insecureAllowed = !production || env['ALLOW_INSECURE_HTTP'] === 'true';

  const text = (name: string): string | undefined => readSecret(env, name, problems);
  /** Also where it cannot be read, which is a problem of its own then. */
  const given = (name: string): boolean => Boolean(env[name] || env[`${name}_FILE`]);
  const oneOf = <Choice extends string>(
    name: string,
    choices: readonly Choice[],
    fallback: Choice,
  ): Choice => {
    const value = env[name] || fallback;
    if ((choices as readonly string[]).includes(value)) return value as Choice;
    problems.push(`${name} must be one of: ${choices.join(', ')}`);
    return fallback;
  };
  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const value = env[name];
    if (!value) return fallback;
    if (/^\d{1,10}$/.test(value) && Number(value) >= min && Number(value) <= max)
      return Number(value);
    problems.push(`${name} must be a whole number from ${min} to ${max}`);
    return fallback;
  };
  const url = (
    name: string,
    value: string | undefined,
    protocols: readonly string[],
  ): URL | undefined => {
    if (value === undefined) return undefined;
    const parsed = parseUrl(value);
    if (parsed && protocols.includes(parsed.protocol) && parsed.hostname !== '') return parsed;
    problems.push(
      `${name} is not a URL of the form ${protocols.map((protocol) => `${protocol}//…`).join(' or ')}, without white space or control characters`,
    );
    return undefined;
  };
  const plainUrl = (name: string, value: string | undefined): URL | undefined => {
    const parsed = url(name, value, ['https:', 'http:']);
    if (parsed && (parsed.username || parsed.password || /[?#]/.test(parsed.href)))
      problems.push(`${name} must have no user, query or fragment`);
    return parsed;
  };
  const httpUrl = (name: string, value: string | undefined): URL | undefined => {
    const parsed = plainUrl(name, value);
    if (parsed?.protocol === 'http:' && !insecureAllowed) {
      problems.push(
        `${name} uses http in production: use https, or set ALLOW_INSECURE_HTTP=true where something in front ends TLS`,
      );
    }
    return parsed;
  };
  const postgresUrl = (name: string): string | undefined => {
    const value = text(name);
    try {
      if (value !== undefined) parseDatabaseUrl(value, env);
      return value;
    } catch (error) {
      problems.push(`${name} ${(error as Error).message}`);
      return undefined;
    }
  };
  const workersGiven = parseWorkers(env['WORKERS']);
  if (workersGiven === null) problems.push('WORKERS must be a whole number from 1 to 256, or auto');
  const workers = workersGiven ?? 1;
  const embedded = (name: string, what: string): void => {
    if (given(name)) return;
    if (production) problems.push(`${name} must be set in production: ${what}`);
    else if (workers > 1)
      problems.push(`${name} must be set where WORKERS is more than 1: workers share it`);
    else if (PACKAGED && name !== 'REDIS_URL')
      problems.push(`${name} must be set: this program has no embedded parts`);
  };

  const port = integer('PORT', 3000, 1, 65_535);
  const publicUrl =
    httpUrl('PUBLIC_URL', text('PUBLIC_URL')) ?? new URL(`http://localhost:${port}`);
  if (publicUrl.pathname !== '/')
    problems.push('PUBLIC_URL must have no path: the gateway serves a whole origin');
  if (production && !given('PUBLIC_URL'))
    problems.push(
      'PUBLIC_URL must be set in production: the address under which browsers reach the gateway',
    );

  const databaseUrl = postgresUrl('DATABASE_URL');
  const directDatabaseUrl = postgresUrl('DIRECT_DATABASE_URL');
  embedded('DATABASE_URL', 'the embedded PostgreSQL is for development');
  const redisUrl = text('REDIS_URL');
  if (redisUrl !== undefined && !parseRedisUrl(redisUrl))
    problems.push(`REDIS_URL is not of the form ${REDIS_URL_FORMS}`);
  embedded('REDIS_URL', 'the in-process cache serves one instance only');

  const keycloak = readKeycloak({ given, text, httpUrl, oneOf, embedded, problems });
  const providerMode = oneOf('DEVELOPMENT_PROVIDER', ['automatic', 'true', 'false'], 'automatic');
  if (production && providerMode === 'true')
    problems.push('DEVELOPMENT_PROVIDER must not be true in production');
  const isLocal = publicUrl.protocol === 'http:' && isLoopbackHost(publicUrl.hostname);
  if (!production && !PACKAGED && !given('KEYCLOAK_ISSUER') && providerMode !== 'true') {
    if (providerMode === 'false' || !isLocal)
      problems.push(
        'KEYCLOAK_ISSUER must be set: the development provider, whose passwords everybody knows, starts only where PUBLIC_URL is http on localhost (or with DEVELOPMENT_PROVIDER=true)',
      );
  }

  const keyring = readKeyring(env, problems);
  if (!keyringRefused && !given('SESSION_TOKEN_KEYRING')) {
    embedded(
      'SESSION_TOKEN_ENCRYPTION_KEY',
      'a generated key would be lost with the machine (or set SESSION_TOKEN_KEYRING)',
    );
  }
  const tokenReadPolicy = oneOf<ReadPolicy>(
    'TOKEN_READ_POLICY',
    ['v2', 'v2+plan', 'all'],
    'v2+plan',
  );
  const { routes, problems: routeProblems } = parseRoutes(text('GATEWAY_ROUTES'));
  problems.push(...routeProblems.map((problem) => `GATEWAY_ROUTES: ${problem}`));

  if (keycloak?.dpopKey !== undefined && routes.some(({ enforce }) => enforce.length > 0)) {
    problems.push(
      "GATEWAY_ROUTES: enforce cannot be used with KEYCLOAK_DPOP_KEY: Keycloak's authorization services decide nothing for tokens that are bound to a key",
    );
  }

  const sessionCookieName = env['SESSION_COOKIE_NAME'] || DEFAULT_SESSION_COOKIE;
  if (!isSessionCookieName(sessionCookieName))
    problems.push(
      'SESSION_COOKIE_NAME must be the name of a cookie, of 64 characters at most, without the prefixes __Host-, __Secure- and login-',
    );

  const postLogoutUrl = parsePostLogoutUrl(env['POST_LOGOUT_URL'], publicUrl);
  if (postLogoutUrl === undefined)
    problems.push(
      'POST_LOGOUT_URL must be a path of this site, or an absolute URL with https, or with http on loopback',
    );

  const logoutClearSiteData = parseClearSiteData(env['LOGOUT_CLEAR_SITE_DATA']);
  if (logoutClearSiteData === null)
    problems.push(
      'LOGOUT_CLEAR_SITE_DATA must be none, or a list with commas of cache and storage',
    );

  const identityRoles = parseIdentityRoles(env['IDENTITY_ROLES']);
  if (identityRoles === null)
    problems.push(
      'IDENTITY_ROLES must be all, none, or a comma-separated list of names of clients and realm',
    );

  const trustedProxies = parseTrustedProxies(env['TRUSTED_PROXIES'] ?? '');
  if (trustedProxies === null)
    problems.push('TRUSTED_PROXIES must be a comma-separated list of addresses and CIDRs');

  const otlpHeaders = parseHeaders(text('OTEL_EXPORTER_OTLP_HEADERS') ?? '');
  if (otlpHeaders === null)
    problems.push(
      'OTEL_EXPORTER_OTLP_HEADERS must be header fields of the form name=value,name=value with percent-encoded values, none of them of the connection or the content',
    );

  const config: Config = {
    production,
    workers,
    port,
    publicUrl,
    databaseUrl,
    directDatabaseUrl,
    databaseMaxConnections: env['DATABASE_MAX_CONNECTIONS']
      ? integer('DATABASE_MAX_CONNECTIONS', 10, 1, 10_000)
      : undefined,
    redisUrl,
    keycloak,
    login: readLogin(env, { problems }),
    identity: {
      roles: identityRoles ?? 'all',
      rolesMaxBytes: integer('IDENTITY_ROLES_MAX_BYTES', 4_096, 0, 65_536),
    },
    keyring,
    tokenReadPolicy,
    routes,
    trustedProxies: trustedProxies ?? (() => false),
    postLogoutUrl: postLogoutUrl ?? null,
    sessionCookieName,
    developmentProviderForAll: providerMode === 'true',
    host: env['HOST'] || '127.0.0.1',
    managementPort:
      env['MANAGEMENT_PORT'] || production
        ? integer('MANAGEMENT_PORT', DEFAULT_MANAGEMENT_PORT, 0, 65_535)
        : undefined,
    managementHost: env['MANAGEMENT_HOST'] || '127.0.0.1',
    dataDir: env['DATA_DIR'] || '.data',
    sessionIdleTimeoutMs: integer('SESSION_IDLE_TIMEOUT', 1800, 1, 31_536_000) * 1000,
    sessionAbsoluteTimeoutMs: integer('SESSION_ABSOLUTE_TIMEOUT', 36_000, 1, 31_536_000) * 1000,
    sessionIdleFromProvider:
      oneOf('SESSION_IDLE_FROM_PROVIDER', ['true', 'false'], 'true') === 'true',
    sessionMaxPerUser: integer('SESSION_MAX_PER_USER', 100, 0, 100_000),
    sessionRetentionMs: integer('SESSION_RETENTION', 30, 0, 36_500) * 86_400_000,
    sessionCookieSameSite: oneOf('SESSION_COOKIE_SAMESITE', ['lax', 'strict'], 'lax'),
    refreshAheadMs: integer('REFRESH_AHEAD', 30, 0, 86_400) * 1000,
    refreshSweepMs: integer('REFRESH_SWEEP', 10, 0, 86_400) * 1000,
    backchannelLogoutScope: oneOf('BACKCHANNEL_LOGOUT_SCOPE', ['sid', 'sub'], 'sid'),
    logoutTokenTyp: oneOf('LOGOUT_TOKEN_TYP', ['required', 'if-present'], 'required'),
    maxConnectionsPerAddress: integer('MAX_CONNECTIONS_PER_ADDRESS', 2_000, 0, 1_000_000),
    brand: readBrand(env, publicUrl, problems),
    logoutClearSiteData: logoutClearSiteData ?? [],
    logoutOrder: oneOf('LOGOUT_ORDER', ['server', 'browser'], 'server'),
    shutdownDelayMs: integer('SHUTDOWN_DELAY', 0, 0, 600) * 1000,
    otlpEndpoint: plainUrl(
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      env['OTEL_EXPORTER_OTLP_ENDPOINT'] || undefined,
    )?.href,
    otlpHeaders: otlpHeaders ?? {},
    rateLimits: {
      login: integer('RATE_LIMIT_LOGIN', 2_000, 0, 1_000_000),
      callback: integer('RATE_LIMIT_CALLBACK', 1_000, 0, 1_000_000),
      logoutToken: integer('RATE_LIMIT_LOGOUT_TOKEN', 1_000, 0, 1_000_000),
    },
    logLevel: oneOf(
      'LOG_LEVEL',
      ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
      'info',
    ),
  };
  if (config.managementPort === port) problems.push('MANAGEMENT_PORT must differ from PORT');
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** What `fetch` says itself of a request that it sends, and refuses to be told. */
const HEADERS_OF_FETCH =
  /^(connection|content-length|content-type|expect|host|keep-alive|transfer-encoding|upgrade)$/i;

/** `name=value,name=value`, values percent-encoded (OpenTelemetry's exporter specification); null when it is none. */
function parseHeaders(list: string): Record<string, string> | null {
  try {
    const fields = list.split(',').flatMap((member) => {
      if (member.trim() === '') return [];
      const [, name, value] = /^([^=]+)=(.*)$/s.exec(member) ?? [];
      if (name === undefined || value === undefined || HEADERS_OF_FETCH.test(name.trim()))
        throw new TypeError('not a header field');
      return [[name.trim(), decodeURIComponent(value.trim())]];
    });
    return Object.fromEntries(new Headers(fields as [string, string][]));
  } catch {
    return null;
  }
}
