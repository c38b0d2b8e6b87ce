import { parseRedisUrl, parseUrl, REDIS_URL_FORMS } from '@session-gateway/database';
import { areDpopKeys, type ClientAuthMethod, ConfigError, type Environment, isSigningKey, type Keyring, readKeyring, type ReadPolicy, readSecret } from '@session-gateway/keycloak-auth';
import { parseTrustedProxies, type TrustedProxies } from './forwarded.js';
import { type GatewayRoute, parseRoutes } from './gatewayRoutes.js';

/** Everything the gateway is told from outside. A part left out is embedded: development only. */
export interface Config {
  readonly production: boolean;
  readonly host: string;
  readonly port: number;
  /** Undefined: 3001, or any free port where that one is taken in development. */
  readonly managementPort: number | undefined;
  /** The browser's address of the gateway: an origin, without a path. */
  readonly publicUrl: URL;
  readonly dataDir: string;
  readonly databaseUrl: string | undefined;
  readonly redisUrl: string | undefined;
  readonly keycloak: {
    readonly issuer: string;
    readonly clientId: string;
    readonly clientSecret: string;
    readonly internalUrl: string | undefined;
    readonly clientAuth: ClientAuthMethod;
    /** PEM, for `private_key_jwt`. */
    readonly clientKey: string | undefined;
    readonly pushedRequests: boolean;
    /** PEM, the key for new tokens first; undefined: access tokens are bound to no key. */
    readonly dpopKey: string | undefined;
    readonly userinfo: boolean;
  } | undefined;
  /** Undefined: generate a key into the data directory. */
  readonly keyring: Keyring | undefined;
  readonly tokenReadPolicy: ReadPolicy;
  readonly routes: readonly GatewayRoute[];
  readonly sessionIdleTimeoutMs: number;
  readonly sessionAbsoluteTimeoutMs: number;
  /** Live sessions that one person may have; 0: any number. */
  readonly sessionMaxPerUser: number;
  /** How long ended sessions and the events of sessions are kept. */
  readonly sessionRetentionMs: number;
  readonly sessionCookieSameSite: 'lax' | 'strict';
  readonly refreshAheadMs: number;
  readonly refreshSweepMs: number;
  readonly backchannelLogoutScope: 'sid' | 'sub';
  readonly logoutTokenTyp: 'required' | 'if-present';
  /** Whose `X-Forwarded-*` are believed. */
  readonly trustedProxies: TrustedProxies;
  /** How long to go on serving, unready, after the signal to end: until load balancers have noticed. */
  readonly shutdownDelayMs: number;
  /** Where traces go; undefined: nowhere. */
  readonly otlpEndpoint: string | undefined;
  /** Go with them: mostly what the collector knows us by. */
  readonly otlpHeaders: Readonly<Record<string, string>>;
  /** Requests a minute for each address; 0: no limit. */
  readonly rateLimits: { readonly login: number; readonly callback: number; readonly logoutToken: number };
  readonly logLevel: string;
}

export const DEFAULT_MANAGEMENT_PORT = 3001;

/** `problems`: what is known to be wrong already with the keyring, which is then left out of `env`. @throws ConfigError with every problem at once */
export function readConfig(env: Environment, problems: string[] = []): Config {
  const keyringRefused = problems.length > 0;
  const production = env['NODE_ENV'] === 'production';
  const insecureAllowed = !production || env['ALLOW_INSECURE_HTTP'] === 'true';

  const text = (name: string): string | undefined => readSecret(env, name, problems);
  /** Also where it cannot be read, which is a problem of its own then. */
  const given = (name: string): boolean => Boolean(env[name] || env[`${name}_FILE`]);
  const oneOf = <Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice): Choice => {
    const value = env[name] || fallback;
    if ((choices as readonly string[]).includes(value)) return value as Choice;
    problems.push(`${name} must be one of: ${choices.join(', ')}`);
    return fallback;
  };
  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const value = env[name];
    if (!value) return fallback;
    if (/^\d{1,10}$/.test(value) && Number(value) >= min && Number(value) <= max) return Number(value);
    problems.push(`${name} must be a whole number from ${min} to ${max}`);
    return fallback;
  };
  const url = (name: string, value: string | undefined, protocols: readonly string[]): URL | undefined => {
    if (value === undefined) return undefined;
    const parsed = parseUrl(value);
    if (parsed && protocols.includes(parsed.protocol) && parsed.hostname !== '') return parsed;
    problems.push(`${name} is not a URL of the form ${protocols.map((protocol) => `${protocol}//…`).join(' or ')}, without white space or control characters`);
    return undefined;
  };
  const plainUrl = (name: string, value: string | undefined): URL | undefined => {
    const parsed = url(name, value, ['https:', 'http:']);
    if (parsed && (parsed.username || parsed.password || /[?#]/.test(parsed.href))) problems.push(`${name} must have no user, query or fragment`);
    return parsed;
  };
  const httpUrl = (name: string, value: string | undefined): URL | undefined => {
    const parsed = plainUrl(name, value);
    if (parsed?.protocol === 'http:' && !insecureAllowed) {
      problems.push(`${name} uses http in production: use https, or set ALLOW_INSECURE_HTTP=true where something in front ends TLS`);
    }
    return parsed;
  };
  const embedded = (name: string, what: string): void => {
    if (production && !given(name)) problems.push(`${name} must be set in production: ${what}`);
  };

  const port = integer('PORT', 3000, 1, 65_535);
  const publicUrl = httpUrl('PUBLIC_URL', text('PUBLIC_URL')) ?? new URL(`http://localhost:${port}`);
  if (publicUrl.pathname !== '/') problems.push('PUBLIC_URL must have no path: the gateway serves a whole origin');
  if (production && !given('PUBLIC_URL')) problems.push('PUBLIC_URL must be set in production: the address under which browsers reach the gateway');

  const databaseUrl = url('DATABASE_URL', text('DATABASE_URL'), ['postgresql:', 'postgres:'])?.href;
  embedded('DATABASE_URL', 'the embedded PostgreSQL is for development');
  const redisUrl = text('REDIS_URL');
  if (redisUrl !== undefined && !parseRedisUrl(redisUrl)) problems.push(`REDIS_URL is not of the form ${REDIS_URL_FORMS}`);
  embedded('REDIS_URL', 'the in-process cache serves one instance only');

  const keycloak = readKeycloak({ given, text, httpUrl, oneOf, embedded, problems });
  const keyring = readKeyring(env, problems);
  if (!keyringRefused && !given('SESSION_TOKEN_KEYRING')) {
    embedded('SESSION_TOKEN_ENCRYPTION_KEY', 'a generated key would be lost with the machine (or set SESSION_TOKEN_KEYRING)');
  }
  const tokenReadPolicy = oneOf<ReadPolicy>('TOKEN_READ_POLICY', ['v2', 'v2+plan', 'all'], 'v2+plan');
  const { routes, problems: routeProblems } = parseRoutes(text('GATEWAY_ROUTES'));
  problems.push(...routeProblems.map((problem) => `GATEWAY_ROUTES: ${problem}`));

  if (keycloak?.dpopKey !== undefined && routes.some(({ enforce }) => enforce.length > 0)) {
    problems.push('GATEWAY_ROUTES: enforce cannot be used with KEYCLOAK_DPOP_KEY: Keycloak\'s authorization services decide nothing for tokens that are bound to a key');
  }

  const trustedProxies = parseTrustedProxies(env['TRUSTED_PROXIES'] ?? '');
  if (trustedProxies === null) problems.push('TRUSTED_PROXIES must be a comma-separated list of addresses and CIDRs');

  const otlpHeaders = parseHeaders(text('OTEL_EXPORTER_OTLP_HEADERS') ?? '');
  if (otlpHeaders === null) problems.push('OTEL_EXPORTER_OTLP_HEADERS must be header fields of the form name=value,name=value with percent-encoded values, none of them of the connection or the content');

  const config: Config = {
    production, port, publicUrl, databaseUrl, redisUrl, keycloak, keyring, tokenReadPolicy, routes,
    trustedProxies: trustedProxies ?? (() => false),
    host: env['HOST'] || '127.0.0.1',
    managementPort: env['MANAGEMENT_PORT'] || production ? integer('MANAGEMENT_PORT', DEFAULT_MANAGEMENT_PORT, 0, 65_535) : undefined,
    dataDir: env['DATA_DIR'] || '.data',
    sessionIdleTimeoutMs: integer('SESSION_IDLE_TIMEOUT', 1800, 1, 31_536_000) * 1000,
    sessionAbsoluteTimeoutMs: integer('SESSION_ABSOLUTE_TIMEOUT', 36_000, 1, 31_536_000) * 1000,
    sessionMaxPerUser: integer('SESSION_MAX_PER_USER', 0, 0, 100_000),
    sessionRetentionMs: integer('SESSION_RETENTION', 30, 0, 36_500) * 86_400_000,
    sessionCookieSameSite: oneOf('SESSION_COOKIE_SAMESITE', ['lax', 'strict'], 'lax'),
    refreshAheadMs: integer('REFRESH_AHEAD', 30, 0, 86_400) * 1000,
    refreshSweepMs: integer('REFRESH_SWEEP', 10, 0, 86_400) * 1000,
    backchannelLogoutScope: oneOf('BACKCHANNEL_LOGOUT_SCOPE', ['sid', 'sub'], 'sid'),
    logoutTokenTyp: oneOf('LOGOUT_TOKEN_TYP', ['required', 'if-present'], 'required'),
    shutdownDelayMs: integer('SHUTDOWN_DELAY', 0, 0, 600) * 1000,
    otlpEndpoint: plainUrl('OTEL_EXPORTER_OTLP_ENDPOINT', env['OTEL_EXPORTER_OTLP_ENDPOINT'] || undefined)?.href,
    otlpHeaders: otlpHeaders ?? {},
    rateLimits: {
      login: integer('RATE_LIMIT_LOGIN', 2_000, 0, 1_000_000), callback: integer('RATE_LIMIT_CALLBACK', 1_000, 0, 1_000_000), logoutToken: integer('RATE_LIMIT_LOGOUT_TOKEN', 1_000, 0, 1_000_000),
    },
    logLevel: oneOf('LOG_LEVEL', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  };
  if (config.managementPort === port) problems.push('MANAGEMENT_PORT must differ from PORT');
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** What `fetch` says itself of a request that it sends, and refuses to be told. */
const HEADERS_OF_FETCH = /^(connection|content-length|content-type|expect|host|keep-alive|transfer-encoding|upgrade)$/i;

/** `name=value,name=value`, values percent-encoded (OpenTelemetry's exporter specification); null when it is none. */
function parseHeaders(list: string): Record<string, string> | null {
  try {
    const fields = list.split(',').flatMap((member) => {
      if (member.trim() === '') return [];
      const [, name, value] = /^([^=]+)=(.*)$/s.exec(member) ?? [];
      if (name === undefined || value === undefined || HEADERS_OF_FETCH.test(name.trim())) throw new TypeError('not a header field');
      return [[name.trim(), decodeURIComponent(value.trim())]];
    });
    return Object.fromEntries(new Headers(fields as [string, string][]));
  } catch {
    return null;
  }
}

interface Reader {
  given: (name: string) => boolean;
  text: (name: string) => string | undefined;
  httpUrl: (name: string, value: string | undefined) => URL | undefined;
  oneOf: <Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice) => Choice;
  embedded: (name: string, what: string) => void;
  problems: string[];
}

function readKeycloak({ given, text, httpUrl, oneOf, embedded, problems }: Reader): Config['keycloak'] {
  const issuer = text('KEYCLOAK_ISSUER');
  const clientId = text('KEYCLOAK_CLIENT_ID');
  const clientSecret = text('KEYCLOAK_CLIENT_SECRET');
  const internalUrl = text('KEYCLOAK_INTERNAL_URL');
  httpUrl('KEYCLOAK_ISSUER', issuer);
  httpUrl('KEYCLOAK_INTERNAL_URL', internalUrl);
  const clientAuth = oneOf<ClientAuthMethod>('KEYCLOAK_CLIENT_AUTH', ['client_secret_basic', 'client_secret_post', 'private_key_jwt'], 'client_secret_basic');
  const clientKey = text('KEYCLOAK_CLIENT_KEY');
  if (clientKey !== undefined && !isSigningKey(clientKey)) problems.push('KEYCLOAK_CLIENT_KEY must be a private key in PEM: RSA, EC on a NIST curve, or Ed25519');
  const dpopKey = text('KEYCLOAK_DPOP_KEY');
  if (dpopKey !== undefined && !areDpopKeys(dpopKey)) problems.push('KEYCLOAK_DPOP_KEY must be private keys in PEM: EC on a NIST curve, Ed25519, or RSA');
  const pushedRequests = oneOf('KEYCLOAK_PAR', ['true', 'false'], 'false') === 'true';
  const userinfo = oneOf('KEYCLOAK_USERINFO', ['true', 'false'], 'false') === 'true';
  embedded('KEYCLOAK_ISSUER', 'the development OpenID Provider is for development');
  if (issuer === undefined) {
    if (given('KEYCLOAK_ISSUER')) return undefined;
    for (const name of ['KEYCLOAK_CLIENT_ID', 'KEYCLOAK_CLIENT_SECRET', 'KEYCLOAK_INTERNAL_URL', 'KEYCLOAK_DPOP_KEY']) {
      if (given(name)) problems.push(`${name} is set but KEYCLOAK_ISSUER is not: set both, or neither for the development provider`);
    }
    return undefined;
  }
  if (!given('KEYCLOAK_CLIENT_ID')) problems.push('KEYCLOAK_CLIENT_ID must be set together with KEYCLOAK_ISSUER');
  if (clientAuth === 'private_key_jwt') {
    if (!given('KEYCLOAK_CLIENT_KEY')) problems.push('KEYCLOAK_CLIENT_KEY_FILE must be set for KEYCLOAK_CLIENT_AUTH=private_key_jwt');
  } else if (!given('KEYCLOAK_CLIENT_SECRET')) problems.push('KEYCLOAK_CLIENT_SECRET must be set together with KEYCLOAK_ISSUER');
  const trim = (value: string): string => value.replace(/\/+$/, '');
  return {
    issuer: trim(issuer), clientId: clientId ?? '', clientSecret: clientSecret ?? '', clientAuth, clientKey, pushedRequests, dpopKey, userinfo,
    internalUrl: internalUrl === undefined ? undefined : trim(internalUrl),
  };
}
