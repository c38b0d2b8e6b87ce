import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import process from 'node:process';
import { type Cache, createMemoryCache, createRedisCache, type Database, DatabaseError, findPrismaDir, isStorageUnavailable, migrate, openDatabase } from '@session-gateway/database';
import { ConfigError, createKeyring, JWTValidator, KeycloakClient, RefreshTokenManager, SessionStore, TokenEncryption, TokenVault } from '@session-gateway/keycloak-auth';
import pino from 'pino';
import { type Config, DEFAULT_MANAGEMENT_PORT, readConfig } from './config.js';
import { type EmbeddedParts, startEmbeddedParts } from './embeddedParts.js';
import type { Gateway } from './gateway.js';
import { createMetrics } from './metrics.js';
import { closeServer, createManagementServer, createPublicServer } from './server.js';
import { GatewayCookies } from './sessionCookie.js';

const EXIT_CONFIGURATION = 78;
const LOOPBACK = '127.0.0.1';
const MIGRATION_RETRY_MS = 2_000;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = pino({ level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime });
  const embedded = await startEmbeddedParts(config);
  const database = openDatabase({ url: embedded.databaseUrl, applicationName: 'session-gateway', onError: (error) => log.warn({ event: 'database', error: error.message }, 'a database connection failed') });
  const cache: Cache = config.redisUrl === undefined
    ? createMemoryCache()
    : createRedisCache({ url: config.redisUrl, onError: (error) => log.warn({ event: 'cache', error: error.message }, 'the cache does not answer (REDIS_URL); PostgreSQL does its work') });
  const schema = migrateUntilDone(embedded.databaseUrl, log);
  // Where PostgreSQL answers, the first request finds the schema there; where it does not, this takes a moment only.
  await schema.firstAttempt;
  const gateway = compose(config, embedded, database, cache, log, () => schema.problem);

  const { server, close } = createPublicServer(gateway, embedded.developmentProvider);
  const management = createManagementServer(gateway);
  await listen(server, config.port, config.host, 'PORT');
  if (config.managementPort !== undefined) await listen(management, config.managementPort, LOOPBACK, 'MANAGEMENT_PORT');
  // A second gateway on a developer's machine is no mistake.
  else await listen(management, DEFAULT_MANAGEMENT_PORT, LOOPBACK, 'MANAGEMENT_PORT').catch(() => listen(management, 0, LOOPBACK, 'MANAGEMENT_PORT'));
  // A first try now, so that readiness does not wait for the first login; later tries follow from requests.
  gateway.client.ready().catch((error: unknown) => log.warn({ event: 'provider', error: String(error) }, 'the identity provider cannot be reached yet (KEYCLOAK_ISSUER); trying again'));
  const stopSweeping = sweep(gateway);
  log.info({ event: 'listening', address: config.publicUrl.origin, management: (management.address() as AddressInfo).port }, 'the gateway is listening');
  if (embedded.names.length > 0) process.stdout.write(embedded.banner());

  let stopping = false;
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info({ event: 'stopping', signal }, 'finishing the requests under way');
    schema.stop();
    await stopSweeping();
    await close();
    await gateway.refresher.settled();
    await closeServer(management);
    await cache.close();
    await database.close();
    await embedded.stop();
    process.exit(0);
  };
  process.on('SIGINT', (signal) => void stop(signal));
  process.on('SIGTERM', (signal) => void stop(signal));
}

function compose(config: Config, embedded: EmbeddedParts, db: Database, cache: Cache, log: Gateway['log'], schemaProblem: () => string | null): Gateway {
  const metrics = createMetrics();
  const keyring = config.keyring ?? createKeyring({ keyText: embedded.encryptionKey });
  const encryption = new TokenEncryption({ keyring, readPolicy: config.tokenReadPolicy, onRead: (stored) => metrics.tokenReads.inc({ class: stored }) });
  const client = new KeycloakClient(embedded.keycloak);
  const vault = new TokenVault({ db, encryption });
  const store = new SessionStore({ db, cache, idleTimeoutMs: config.sessionIdleTimeoutMs });
  const refresher = new RefreshTokenManager({
    vault, store, client,
    refreshAheadMs: config.refreshAheadMs,
    absoluteTimeoutMs: config.sessionAbsoluteTimeoutMs,
    idleTimeoutMs: config.sessionIdleTimeoutMs,
    onOutcome(outcome, session, error) {
      metrics.refreshes.inc({ outcome });
      if (outcome === 'refreshed' || outcome === 'waited') return;
      const level = outcome === 'subject_changed' || outcome === 'provider_rejected' || outcome === 'storage_unavailable' ? 'error' : 'warn';
      log[level]({ event: 'refresh', outcome, session, error: error instanceof Error ? error.message : undefined }, 'a session could not be refreshed');
    },
  });
  const { issuer, clientId } = client;
  const validator = new JWTValidator({ issuer, clientId, jwks: () => client.jwks() });
  const cookies = new GatewayCookies({ https: config.publicUrl.protocol === 'https:', sameSite: config.sessionCookieSameSite });
  const reason = (error: unknown): string => (error instanceof Error ? error.message : 'unknown');
  return {
    config, cookies, db, encryption, store, vault, refresher, client, validator, metrics, log,
    health: async () => ({
      database: await db.ping().then(schemaProblem, reason),
      cache: cache.healthy() ? null : 'no connection (REDIS_URL)',
      provider: await client.ready().then(() => null, reason),
    }),
  };
}

/** Brings the schema up to date, waiting for PostgreSQL as long as it takes; what waiting cannot mend ends the process. */
function migrateUntilDone(url: string, log: Gateway['log']): { readonly problem: string | null; readonly firstAttempt: Promise<void>; stop: () => void } {
  const state = { problem: 'the schema has not been migrated yet' as string | null, stopped: false };
  const attempt = async (): Promise<void> => {
    try {
      const { applied } = await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
      if (applied.length > 0) log.info({ event: 'migrated', applied }, 'the schema is up to date');
      state.problem = null;
    } catch (error) {
      if (!isStorageUnavailable(error)) {
        fail(1, [error instanceof DatabaseError ? error.message : `the schema cannot be migrated: ${String(error)}`]);
        return;
      }
      state.problem = 'PostgreSQL cannot be reached (DATABASE_URL)';
      log.warn({ event: 'database' }, 'PostgreSQL cannot be reached yet (DATABASE_URL); trying again');
      if (!state.stopped) setTimeout(() => void attempt(), MIGRATION_RETRY_MS).unref();
    }
  };
  const firstAttempt = attempt();
  return { get problem() { return state.problem; }, firstAttempt, stop: () => { state.stopped = true; } };
}

/** Background rounds, a pause apart; the returned function stops them and waits for the one under way. */
function sweep({ config, refresher, log }: Gateway): () => Promise<void> {
  if (config.refreshSweepMs === 0) return async () => undefined;
  let round: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const next = (): void => {
    timer = setTimeout(() => {
      round = refresher.sweep().catch((error: unknown) => log.debug({ event: 'sweep', error: String(error) }, 'a sweep failed')).then(next);
    }, config.refreshSweepMs);
    timer.unref();
  };
  next();
  return async () => {
    clearTimeout(timer);
    await round;
    clearTimeout(timer);
  };
}

function listen(server: Server, port: number, host: string, variable: string): Promise<void> {
  return new Promise((done, refuse) => {
    server.once('error', (error: NodeJS.ErrnoException) => refuse(new StartError(
      error.code === 'EADDRINUSE' ? `port ${port} is in use: stop what uses it, or set ${variable}` : `cannot listen: ${error.code ?? 'unknown'}; see HOST and ${variable}`)));
    server.listen(port, host, () => done());
  });
}

class StartError extends Error {}

function fail(code: number, lines: readonly string[]): void {
  process.stderr.write(`${lines.map((line) => `session-gateway: ${line}`).join('\n')}\n`);
  process.exit(code);
}

main().catch((error: unknown) => {
  if (error instanceof ConfigError) fail(EXIT_CONFIGURATION, ['the configuration is not usable:', ...error.problems.map((problem) => `  ${problem}`)]);
  else fail(1, [error instanceof Error ? (error instanceof StartError ? error.message : (error.stack ?? error.message)) : String(error)]);
});
