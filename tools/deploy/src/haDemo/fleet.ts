import { join } from 'node:path';
import { type Child, startChild } from '@session-gateway/keycloak-server';
import {
  findProgram,
  freePort,
  type KeycloakServer,
  type ProviderStub,
  startGateway,
  startKeycloak,
  startPostgres,
  startProviderStub,
  startRedisSentinel,
  startReplica,
  startUpstream,
  type TestGateway,
  type TestPostgres,
  type TestRedisSentinel,
  until,
  whyMissing,
} from '@session-gateway/testkit';
import { ROOT } from '../files.js';

/** Two gateways behind HAProxy, with two of everything that keeps something. */
export interface Fleet {
  /** HAProxy's address, which is PUBLIC_URL. */
  readonly url: string;
  readonly provider: KeycloakServer | ProviderStub;
  readonly isKeycloak: boolean;
  readonly primary: TestPostgres;
  readonly standby: TestPostgres;
  readonly redis: TestRedisSentinel;
  /** Resolves when both gateways are in service at HAProxy. */
  whole(): Promise<void>;
  killGateway(index: number): Promise<void>;
  startGateway(index: number): Promise<void>;
  dispose(): Promise<void>;
}

/** Starts everything on free ports of this machine. With `keycloak` a real one, where it is installed. */
export async function startFleet({ keycloak }: { keycloak: boolean }): Promise<Fleet> {
  const port = await freePort();
  const watch = await freePort();
  const ports = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  const isKeycloak = keycloak && whyMissing(['keycloak']).length === 0;
  const [postgres, redis, upstream, provider] = await Promise.all([
    startPairOfPostgres(),
    startRedisSentinel(),
    startUpstream(),
    isKeycloak ? startKeycloak({ gatewayUrl: url }) : startProviderStub(),
  ]);
  const env = {
    PUBLIC_URL: url,
    TRUSTED_PROXIES: '127.0.0.1',
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    KEYCLOAK_ISSUER: provider.issuer,
    KEYCLOAK_CLIENT_ID: provider.clientId,
    KEYCLOAK_CLIENT_SECRET: provider.clientSecret,
    SESSION_TOKEN_ENCRYPTION_KEY: 'a key text for the demonstration of outages',
    GATEWAY_ROUTES: JSON.stringify([{ path: '/api', upstream: upstream.url }]),
  };
  const gateways: TestGateway[] = [];
  const start = async (index: number): Promise<void> => {
    gateways[index] = await startGateway({ env, port: ports[index] ?? 0 });
  };
  await start(0);
  await start(1);
  const haproxy = await startHaproxy(port, watch, ports);
  const whole = async (): Promise<void> => {
    const inService = async (): Promise<boolean> => {
      if (haproxy.exit()) throw new Error(`HAProxy ended: ${haproxy.output()}`);
      const answer = await fetch(`http://127.0.0.1:${watch}/`).catch(() => null);
      return (await answer?.text()) === '2';
    };
    await until(inService, { timeoutMs: 60_000, what: 'both gateways being in service' });
  };
  await whole();
  return {
    url,
    provider,
    isKeycloak,
    primary: postgres.primary,
    standby: postgres.standby,
    redis,
    whole,
    killGateway: async (index) => gateways[index]?.kill(),
    startGateway: start,
    async dispose() {
      haproxy.signal('SIGKILL');
      await Promise.all(gateways.map((gateway) => gateway.kill()));
      await Promise.all([provider, upstream, redis].map((part) => part.dispose()));
      await Promise.all([postgres.primary.dispose(), postgres.standby.dispose()]);
    },
  };
}

/** A commit counts when the standby has it too: a failover that forgets a renewed token loses its session. */
async function startPairOfPostgres(): Promise<{
  primary: TestPostgres;
  standby: TestPostgres;
  url: string;
}> {
  const primary = await startPostgres();
  const first = await primary.createDatabase('gateway');
  const standby = await startReplica(primary);
  await primary.query(`ALTER SYSTEM SET synchronous_standby_names = '*'`);
  await primary.query('SELECT pg_reload_conf()');
  const hosts = `127.0.0.1:${primary.port},127.0.0.1:${standby.port}`;
  const url = first.replace(`127.0.0.1:${primary.port}`, hosts);
  return { primary, standby, url: `${url}?target_session_attrs=primary` };
}

function startHaproxy(port: number, watch: number, gateways: number[]): Promise<Child> {
  return startChild(
    findProgram('haproxy') ?? '/usr/sbin/haproxy',
    ['-db', '-f', join(ROOT, 'deploy/ha-demo/haproxy.cfg')],
    {
      env: {
        PATH: process.env['PATH'],
        LISTEN: `127.0.0.1:${port}`,
        WATCH: `127.0.0.1:${watch}`,
        GATEWAY_A: `127.0.0.1:${gateways[0] ?? 0}`,
        GATEWAY_B: `127.0.0.1:${gateways[1] ?? 0}`,
      },
    },
  );
}
