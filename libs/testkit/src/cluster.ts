import { type KeycloakServer, freePort, startKeycloak } from '@session-gateway/keycloak-server';
import { Agent, request } from 'undici';
import { type GatewayOptions, startGateway, type TestGateway } from './gateway.js';
import { HttpBrowser } from './http.js';
import { startPostgres, type TestPostgres } from './postgres.js';
import { type ProviderStub, type ProviderStubOptions, startProviderStub } from './provider.js';
import { startRedis, type TestRedis } from './redis.js';
import { storm } from './storm.js';
import { startUpstream, type Upstream } from './upstream.js';

export const KEY_TEXT = 'a key text for the tests of the whole gateway';

export interface ClusterOptions {
  gateways?: number;
  /** A real Keycloak with access tokens of so many seconds; else the provider stub. */
  keycloak?: { accessTokenLifespanSeconds: number };
  provider?: ProviderStubOptions;
  redis?: boolean;
  /** Goes to every gateway. */
  env?: Record<string, string | undefined>;
  /** The gateways' program; default: the built one. */
  entry?: string;
  /** Called with the database before any gateway starts. */
  prepare?: (postgres: TestPostgres, databaseUrl: string) => Promise<void>;
  /** False: the test starts gateways itself. */
  start?: boolean;
}

/** An answer as a driver looks at it. */
export interface Reply {
  status: number;
  /** The problem's code; null for any other answer. */
  code: string | null;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

/** A session of somebody who logged in through the first gateway. */
export interface ClusterSession {
  username: string;
  /** The Cookie header. */
  cookie: string;
  id: string;
  subject: string;
}

/** Gateways as separate processes in front of one API, with real services behind them. */
export interface Cluster {
  readonly postgres: TestPostgres;
  readonly databaseUrl: string;
  readonly redis: TestRedis | null;
  readonly keycloak: KeycloakServer | null;
  readonly provider: ProviderStub | null;
  readonly upstream: Upstream;
  readonly gateways: TestGateway[];
  /** The address that browsers use: the first gateway's. */
  readonly url: string;
  startGateway(
    env?: Record<string, string | undefined>,
    waitUntilLive?: boolean,
    how?: Pick<GatewayOptions, 'entry' | 'stdout'>,
  ): Promise<TestGateway>;
  /** Starts another in the place of one that has ended, on its port. */
  restartGateway(
    index: number,
    options?: { entry?: string; env?: Record<string, string | undefined> },
  ): Promise<TestGateway>;
  /** The same for every gateway at once. */
  restartAll(options?: { entry?: string; env?: Record<string, string | undefined> }): Promise<void>;
  /** A browser that is logged in. */
  login(username?: string): Promise<HttpBrowser>;
  /** A session to drive requests with, without a browser behind it. */
  session(username?: string): Promise<ClusterSession>;
  /**
   * The sessions of `count` people called `prefix-0` and so on; `parallel` (default 4) log in at a time.
   * Throws when somebody cannot.
   */
  sessions(
    count: number,
    prefix: string,
    options?: { parallel?: number; onProgress?: (done: number) => void },
  ): Promise<ClusterSession[]>;
  /** One request with a session's cookie at any gateway, as a script of the page sends it; many at once cost little. */
  ask(
    gateway: number,
    path: string,
    options?: {
      cookie?: string;
      method?: string;
      signal?: AbortSignal;
      headers?: Record<string, string>;
    },
  ): Promise<Reply>;
  readonly sql: <Row extends object>(text: string, values?: unknown[]) => Promise<Row[]>;
  dispose(): Promise<void>;
}

/**
 * Starts everything on free ports. Routes: `/api/admin` (role admin), `/api/gold` (acr gold), `/api` and,
 * without authentication, `/open`.
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const ports = await Promise.all(Array.from({ length: options.gateways ?? 1 }, () => freePort()));
  const url = `http://127.0.0.1:${ports[0] ?? 0}`;
  const [postgres, redis, upstream, keycloak, provider] = await Promise.all([
    startPostgres(),
    (options.redis ?? true) ? startRedis() : null,
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
      { path: '/api/gold', upstream: upstream.url, acr: 'gold' },
      { path: '/api', upstream: upstream.url },
      { path: '/open', upstream: upstream.url, auth: 'none', stripPrefix: true },
    ]),
    REFRESH_SWEEP: '0',
    ...options.env,
  };
  const gateways: TestGateway[] = [];
  const launch = (
    port: number | undefined,
    env: Record<string, string | undefined>,
    more: Pick<GatewayOptions, 'entry' | 'stdout' | 'waitUntilLive'> = {},
  ): Promise<TestGateway> => {
    const entry = more.entry ?? options.entry;
    return startGateway({
      waitUntilLive: true,
      ...more,
      env: { ...common, ...env },
      ...(entry === undefined ? {} : { entry }),
      ...(port === undefined ? {} : { port }),
    });
  };
  const start = async (
    env: Record<string, string | undefined> = {},
    waitUntilLive = true,
    how: Pick<GatewayOptions, 'entry' | 'stdout'> = {},
  ): Promise<TestGateway> => {
    const gateway = await launch(ports[gateways.length], env, { waitUntilLive, ...how });
    gateways.push(gateway);
    return gateway;
  };
  if (options.start ?? true) for (let i = 0; i < ports.length; i++) await start();

  const agent = new Agent({ keepAliveTimeout: 1_000, headersTimeout: 60_000 });
  const browsers: HttpBrowser[] = [];
  const login = async (username = 'demo'): Promise<HttpBrowser> => {
    const browser = new HttpBrowser();
    browsers.push(browser);
    provider?.setUser(username);
    const page = await browser.loginAt(
      `${url}/auth/login?login_hint=${encodeURIComponent(username)}`,
      username,
      username,
    );
    if (page.status !== 200 || !browser.cookies.get('session'))
      throw new Error(
        `the login ended at ${page.url.href} with ${page.status}: ${page.text.slice(0, 500)}`,
      );
    return browser;
  };
  const ask: Cluster['ask'] = async (
    gateway,
    path,
    { cookie, method = 'GET', signal, headers } = {},
  ) => {
    const origin = gateways[gateway % gateways.length]?.url ?? url;
    const answer = await request(origin + path, {
      method: method as 'GET',
      dispatcher: agent,
      headers: {
        'sec-fetch-site': 'same-origin',
        accept: 'application/json',
        ...(cookie === undefined ? {} : { cookie }),
        ...headers,
      },
      ...(signal === undefined ? {} : { signal }),
    });
    const text = await answer.body.text();
    const isProblem = String(answer.headers['content-type']).startsWith('application/problem+json');
    return {
      status: answer.statusCode,
      code: isProblem ? (JSON.parse(text) as { code: string }).code : null,
      headers: answer.headers,
      text,
    };
  };
  const session: Cluster['session'] = async (username = 'demo') => {
    const browser = await login(username);
    const cookie = `session=${browser.cookies.get('session')?.value ?? ''}`;
    browsers.splice(browsers.indexOf(browser), 1);
    await browser.close();
    const {
      session: { id },
      user,
    } = JSON.parse((await ask(0, '/auth/session', { cookie })).text) as {
      session: { id: string };
      user: { sub: string };
    };
    return { username, cookie, id, subject: user.sub };
  };
  const restartGateway: Cluster['restartGateway'] = async (index, { entry, env = {} } = {}) => {
    await gateways[index]?.kill();
    const gateway = await launch(ports[index], env, entry === undefined ? {} : { entry });
    gateways[index] = gateway;
    return gateway;
  };
  return {
    postgres,
    databaseUrl,
    redis,
    keycloak,
    provider,
    upstream,
    gateways,
    url,
    login,
    ask,
    session,
    restartGateway,
    startGateway: start,
    async restartAll(as) {
      await Promise.all(gateways.map((_, index) => restartGateway(index, as)));
    },
    async sessions(count, prefix, { parallel = 4, ...more } = {}) {
      const people: ClusterSession[] = [];
      const outcomes = await storm(
        count,
        async (i) => {
          people[i] = await session(`${prefix}-${i}`);
          return 'in';
        },
        { parallel, ...more },
      );
      if (outcomes['in'] !== count)
        throw new Error(`not everybody could log in: ${JSON.stringify(outcomes)}`);
      return people;
    },
    sql: (text, values) => postgres.query(text, values, databaseUrl),
    async dispose() {
      await Promise.all(browsers.map((browser) => browser.close()));
      await agent.destroy();
      await Promise.all(gateways.map((gateway) => gateway.kill()));
      await Promise.all(
        [postgres, redis, upstream, keycloak, provider].map(async (part) => part?.dispose()),
      );
    },
  };
}
