import {
  freePort, type HttpAnswer, HttpBrowser, type KeycloakServer, type ProviderStub, type ProviderStubOptions, startGateway, startKeycloak, startPostgres, startProviderStub, startRedis,
  startUpstream, type TestGateway, type TestPostgres, type TestRedis, type Upstream,
} from '@session-gateway/testkit';

export const KEY_TEXT = 'a key text for the tests of the whole gateway';

export interface StackOptions {
  gateways?: number;
  /** A real Keycloak with access tokens of so many seconds; else the provider stub. */
  keycloak?: { accessTokenLifespanSeconds: number };
  provider?: ProviderStubOptions;
  redis?: boolean;
  env?: Record<string, string | undefined>;
  /** Called with the database before any gateway starts. */
  prepare?: (postgres: TestPostgres, databaseUrl: string) => Promise<void>;
  /** False: the test starts gateways itself. */
  start?: boolean;
}

/** Gateways as separate processes in front of one API, with real services behind them. */
export interface Stack {
  readonly postgres: TestPostgres;
  readonly databaseUrl: string;
  readonly redis: TestRedis | null;
  readonly keycloak: KeycloakServer | null;
  readonly provider: ProviderStub | null;
  readonly upstream: Upstream;
  readonly gateways: TestGateway[];
  /** The address that browsers use: the first gateway's. */
  readonly url: string;
  startGateway(env?: Record<string, string | undefined>, waitUntilLive?: boolean): Promise<TestGateway>;
  /** A browser that is logged in. */
  login(username?: string): Promise<HttpBrowser>;
  sql<Row extends object>(text: string, values?: unknown[]): Promise<Row[]>;
  dispose(): Promise<void>;
}

export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const ports = await Promise.all(Array.from({ length: options.gateways ?? 1 }, () => freePort()));
  const url = `http://127.0.0.1:${ports[0] ?? 0}`;
  const [postgres, redis, upstream, keycloak, provider] = await Promise.all([
    startPostgres(),
    options.redis ?? true ? startRedis() : null,
    startUpstream(),
    options.keycloak ? startKeycloak({ gatewayUrl: url, ...options.keycloak }) : null,
    options.keycloak ? null : startProviderStub(options.provider ?? {}),
  ]);
  const databaseUrl = await postgres.createDatabase('gateway');
  await options.prepare?.(postgres, databaseUrl);
  const idp = keycloak ?? provider;
  const common = {
    PUBLIC_URL: url,
    DATABASE_URL: databaseUrl,
    REDIS_URL: redis?.url,
    KEYCLOAK_ISSUER: idp?.issuer,
    KEYCLOAK_CLIENT_ID: idp?.clientId,
    KEYCLOAK_CLIENT_SECRET: idp?.clientSecret,
    SESSION_TOKEN_ENCRYPTION_KEY: KEY_TEXT,
    GATEWAY_ROUTES: JSON.stringify([
      { path: '/api/admin', upstream: upstream.url, protect: 'realm:admin' },
      { path: '/api', upstream: upstream.url },
      { path: '/open', upstream: upstream.url, auth: 'none', stripPrefix: true },
    ]),
    REFRESH_SWEEP: '0',
    ...options.env,
  };
  const gateways: TestGateway[] = [];
  const start = async (env: Record<string, string | undefined> = {}, waitUntilLive = true): Promise<TestGateway> => {
    const port = ports[gateways.length];
    const gateway = await startGateway({ env: { ...common, ...env }, waitUntilLive, ...(port === undefined ? {} : { port }) });
    gateways.push(gateway);
    return gateway;
  };
  if (options.start ?? true) for (let i = 0; i < ports.length; i++) await start();

  const browsers: HttpBrowser[] = [];
  return {
    postgres, databaseUrl, redis, keycloak, provider, upstream, gateways, url,
    startGateway: start,
    async login(username = 'demo') {
      const browser = new HttpBrowser();
      browsers.push(browser);
      const page = await browser.loginThroughKeycloak(url, username, username);
      if (page.status !== 200 || !browser.cookies.get('session')) throw new Error(`the login ended at ${page.url.href} with ${page.status}: ${page.text.slice(0, 500)}`);
      return browser;
    },
    sql: (text, values) => postgres.query(text, values, databaseUrl),
    async dispose() {
      await Promise.all(browsers.map((browser) => browser.close()));
      await Promise.all(gateways.map((gateway) => gateway.kill()));
      await Promise.all([postgres, redis, upstream, keycloak, provider].map((part) => part?.dispose()));
    },
  };
}

export interface SessionBody {
  session: { id: string; created_at: string; expires_at: string; idle_expires_at: string; token_expires_at: string; last_accessed_at: string };
  user: { sub: string; preferred_username: string; email: string; name: string; roles: string[] };
}

export interface ProblemBody { status: number; code: string; title: string }

export const problemCode = (answer: HttpAnswer): string => answer.json<ProblemBody>().code;

/** The three stored values of a session. */
export async function storedTokens(stack: Stack, id: string): Promise<Record<'access_token' | 'refresh_token' | 'id_token', string | null>> {
  const [row] = await stack.sql<Record<'access_token' | 'refresh_token' | 'id_token', string | null>>('SELECT access_token, refresh_token, id_token FROM user_sessions WHERE id = $1', [id]);
  if (!row) throw new Error(`there is no session ${id}`);
  return row;
}
