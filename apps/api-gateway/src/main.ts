import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { constants } from 'node:os';
import process from 'node:process';
import { type Cache, createMemoryCache, createRedisCache, type Database, DatabaseError, findPrismaDir, isStorageUnavailable, migrate, openDatabase, openRateLimits, type RateLimits } from '@session-gateway/database';
import { CircuitBreaker, ConfigError, createKeyring, DpopKeys, ExchangedTokens, isAuthError, JWTValidator, KeycloakClient, type Keyring, PermissionChecker, purge, RefreshTokenManager, reloadable, type SessionEvent, SessionEvents, SessionStore, TokenEncryption, TokenVault } from '@session-gateway/keycloak-auth';
import { keepClientSecret } from './clientSecret.js';
import { type Config, DEFAULT_MANAGEMENT_PORT, readConfig } from './config.js';
import { type EmbeddedParts, startEmbeddedParts } from './embeddedParts.js';
import type { Gateway } from './gateway.js';
import { keepKeys, type Keys, loadKeyringAtStart } from './keys.js';
import { createRequestLimits } from './limits.js';
import { createLog, reasonOf } from './logging.js';
import { createMetrics, type Metrics } from './metrics.js';
import { closeServer, createManagementServer, createPublicServer } from './server.js';
import { GatewayCookies } from './sessionCookie.js';
import { observedFetch } from './telemetry.js';
import { createTracer } from './tracing.js';

const EXIT_CONFIGURATION = 78;
const LOOPBACK = '127.0.0.1';
const STORAGE_RETRY_MS = 2_000;
/** Some package runners pass on the terminal's Ctrl-C, which this process has had from the terminal already. */
const SAME_SIGNAL_MS = 500;
/** Batches of old rows removed in one background round at most. */
const PURGE_BATCHES = 10;

async function main(): Promise<void> {
  const checkOnly = readFlags(process.argv.slice(2));
  const problems: string[] = [];
  const config = readConfig(await loadKeyringAtStart(process.env, problems, (line) => process.stderr.write(`session-gateway: ${line}\n`)), problems);
  if (checkOnly) return report(config);
  const log = createLog(config.logLevel);
  const signals = takeSignals();
  const embedded = await startEmbeddedParts(config);
  const database = openDatabase({ url: embedded.databaseUrl, applicationName: 'session-gateway', onError: (error) => log.warn({ event: 'database', error: reasonOf(error) }, 'a database connection failed') });
  const metrics = createMetrics();
  const cache = config.redisUrl === undefined
    ? createMemoryCache()
    : createRedisCache({ url: config.redisUrl, onError: (error) => log.warn({ event: 'cache', error: reasonOf(error) }, 'the cache does not answer (REDIS_URL); PostgreSQL does its work') });
  const keyring = reloadable(config.keyring ?? createKeyring({ keyText: embedded.encryptionKey }));
  const keys = keepKeys({ env: process.env, keyring, generatedText: embedded.encryptionKey, readPolicy: config.tokenReadPolicy, db: database, metrics, log });
  const schema = prepareStorage(embedded.databaseUrl, keys, log);
  // Where PostgreSQL answers, the first request finds the schema there; where it does not, this takes a moment only.
  await schema.firstAttempt;
  const rateLimits = openRateLimits(config.redisUrl, (error) => log.debug({ event: 'rate_limits', error: reasonOf(error) }, 'rate limits are counted in this process'));
  const dpop = config.keycloak?.dpopKey === undefined ? null : await DpopKeys.from(config.keycloak.dpopKey);
  const gateway = compose({ config, embedded, dpop, db: database, cache, rateLimits, keyring, keys, metrics, log, storageProblem: () => schema.problem });

  const clientSecret = keepClientSecret(process.env, gateway.client, metrics, log);

  const { server, close } = createPublicServer(gateway, embedded.developmentProvider);
  const management = createManagementServer(gateway);
  await listen(server, config.port, config.host, 'PORT');
  if (config.managementPort !== undefined) await listen(management, config.managementPort, LOOPBACK, 'MANAGEMENT_PORT');
  // A second gateway on a developer's machine is no mistake.
  else await listen(management, DEFAULT_MANAGEMENT_PORT, LOOPBACK, 'MANAGEMENT_PORT').catch(() => listen(management, 0, LOOPBACK, 'MANAGEMENT_PORT'));
  // A first try now, so that readiness does not wait for the first login; later tries follow from requests.
  gateway.client.ready().catch((error: unknown) => log.warn({ event: 'provider', error: reasonOf(error) }, 'the identity provider cannot be used yet (KEYCLOAK_ISSUER); trying again'));
  const stopSweeping = sweep(gateway);
  log.info({ event: 'listening', address: config.publicUrl.origin, management: (management.address() as AddressInfo).port }, 'the gateway is listening');
  if (embedded.names.length > 0) process.stdout.write(embedded.banner());

  signals.ask(async (signal) => {
    gateway.life.stopping = true;
    log.info({ event: 'stopping', signal }, 'finishing the requests under way');
    clientSecret.stop();
    schema.stop();
    // Unready, but serving: whoever sends requests here needs a moment to notice.
    await new Promise((resolve) => setTimeout(resolve, config.shutdownDelayMs));
    await stopSweeping();
    await close();
    await gateway.refresher.settled();
    await gateway.store.settled().catch(() => undefined);
    await closeServer(management);
    await keys.stop();
    await cache.close();
    await rateLimits.close();
    await database.close();
    await embedded.stop();
    await gateway.tracer?.stop();
    process.exit(0);
  });
  process.on('SIGHUP', () => {
    clientSecret.reload();
    void keys.reload();
  });
}

/** Until there is something to finish a signal ends the process at once, and so does the second one of somebody who insists. */
function takeSignals(): { ask: (toStop: (signal: string) => Promise<void>) => void } {
  let stop: ((signal: string) => Promise<void>) | null = null;
  let asked: number | null = null;
  const take = (signal: 'SIGINT' | 'SIGTERM'): void => {
    const now = performance.now();
    if (asked !== null && now - asked < SAME_SIGNAL_MS) return;
    if (stop === null || asked !== null) process.exit(128 + constants.signals[signal]);
    asked = now;
    void stop(signal);
  };
  process.on('SIGINT', take);
  process.on('SIGTERM', take);
  // While it starts there is nothing to read anew, and no reason to end.
  process.on('SIGHUP', () => undefined);
  return { ask: (toStop) => { stop = toStop; } };
}

interface Parts {
  config: Config;
  embedded: EmbeddedParts;
  dpop: DpopKeys | null;
  db: Database;
  cache: Cache;
  rateLimits: RateLimits;
  keyring: Keyring;
  keys: Keys;
  metrics: Metrics;
  log: Gateway['log'];
  storageProblem: () => string | null;
}

function compose({ config, embedded, dpop, db, cache, rateLimits, keyring, keys, metrics, log, storageProblem }: Parts): Gateway {
  const encryption = new TokenEncryption({ keyring, readPolicy: config.tokenReadPolicy, onUse: metrics.keyUse });
  // Anybody can send any cookie: none of them counts as a stored value that did not open, and none was ever written in an older format.
  const cookieEncryption = new TokenEncryption({ keyring, readPolicy: 'v2' });
  const tracer = config.otlpEndpoint === undefined ? null : createTracer({
    endpoint: config.otlpEndpoint, headers: config.otlpHeaders, serviceName: process.env['OTEL_SERVICE_NAME'] || 'session-gateway',
    onChange: (problem) => (problem === null
      ? log.info({ event: 'traces' }, 'traces are sent again')
      : log.warn({ event: 'traces', error: problem }, 'traces cannot be sent (OTEL_EXPORTER_OTLP_ENDPOINT); they are dropped until they can')),
  });
  const client = new KeycloakClient({ ...embedded.keycloak, dpop: dpop ?? undefined, fetch: observedFetch(metrics, tracer) });
  const vault = new TokenVault({ db, encryption, confirmKeys: keys.confirm });
  const store = new SessionStore({ db, cache, idleTimeoutMs: config.sessionIdleTimeoutMs, onLookup: metrics.sessionLookup });
  const events = new SessionEvents({ db, onEvent: (event) => tell(event, { metrics, log }) });
  const breaker = new CircuitBreaker({
    onChange: (state, openMs) => log.warn({ event: 'provider', state, ms: Math.round(openMs) }, state === 'open' ? 'the identity provider is left alone for a while' : 'the identity provider is back'),
  });
  const refresher = new RefreshTokenManager({
    vault, store, client, events, breaker,
    refreshAheadMs: config.refreshAheadMs,
    absoluteTimeoutMs: config.sessionAbsoluteTimeoutMs,
    idleTimeoutMs: config.sessionIdleTimeoutMs,
    onOutcome(outcome, session, error) {
      metrics.refreshes.inc({ outcome });
      if (outcome === 'refreshed' || outcome === 'waited' || outcome === 'circuit_open') return;
      const level = outcome === 'subject_changed' || outcome === 'provider_rejected' || outcome === 'storage_unavailable' ? 'error' : 'warn';
      log[level]({ event: 'refresh', outcome, session, error: error instanceof Error ? error.message : undefined }, 'a session could not be refreshed');
    },
  });
  const { issuer, clientId } = client;
  const validator = new JWTValidator({ issuer, clientId, jwks: () => client.jwks() });
  const permissions = new PermissionChecker({ client });
  const exchangedTokens = new ExchangedTokens({ db, encryption, client });
  const cookies = new GatewayCookies({ https: config.publicUrl.protocol === 'https:', sameSite: config.sessionCookieSameSite });
  return {
    config, cookies, db, cookieEncryption, store, vault, events, refresher, client, dpop, validator, permissions, exchangedTokens, metrics, log,
    tracer, life: { stopping: false },
    limits: createRequestLimits(config.rateLimits, rateLimits),
    health: async () => {
      const [database, provider] = await Promise.all([db.ping().then(storageProblem, reasonOf), client.health()]);
      return {
        database: { reason: database, needed: true },
        cache: { reason: cache.healthy() ? null : 'no connection (REDIS_URL)', needed: false },
        // Once its metadata is known, sessions with a live access token do without it: nobody is helped when all instances are taken out of service.
        provider: { reason: provider.reason ?? (breaker.isOpen ? 'the provider is left alone for a while' : null), needed: !provider.metadataKnown },
      };
    },
  };
}

/** The audit trail's line in the log; the ends of sessions are counted here and nowhere else. */
function tell({ event, sessionId: session, reason, actor, subject: sub, sid, ipAddress: address }: SessionEvent, { metrics, log }: Pick<Gateway, 'metrics' | 'log'>): void {
  if (event === 'session_ended') metrics.sessionsEnded.inc({ reason: reason ?? 'unknown' });
  const alarming = event === 'reuse_suspected' || event === 'logout_token_refused' || reason === 'subject_changed';
  log[alarming ? 'warn' : 'info']({ event, session, reason, actor, sub, sid, address }, AUDIT_LOG);
}

const AUDIT_LOG = 'audit';

/** Brings the schema up to date and has the keys confirmed, waiting for PostgreSQL as long as it takes; what waiting cannot mend ends the process. */
function prepareStorage(url: string, keys: Keys, log: Gateway['log']): { readonly problem: string | null; readonly firstAttempt: Promise<void>; stop: () => void } {
  const state = { problem: 'the schema has not been migrated yet' as string | null, stopped: false };
  const attempt = async (): Promise<void> => {
    try {
      const { applied } = await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
      if (applied.length > 0) log.info({ event: 'migrated', applied }, 'the schema is up to date');
      await keys.confirm();
      state.problem = null;
    } catch (error) {
      if (error instanceof ConfigError) return refuse(error);
      if (!isStorageUnavailable(error)) {
        fail(1, [error instanceof DatabaseError ? error.message : `the schema cannot be migrated: ${String(error)}`]);
        return;
      }
      state.problem = `PostgreSQL cannot be used yet (DATABASE_URL): ${reasonOf(error)}`;
      log.warn({ event: 'database', error: reasonOf(error) }, 'PostgreSQL cannot be used yet (DATABASE_URL); trying again');
      if (!state.stopped) setTimeout(() => void attempt(), STORAGE_RETRY_MS).unref();
    }
  };
  const firstAttempt = attempt();
  return { get problem() { return state.problem; }, firstAttempt, stop: () => { state.stopped = true; } };
}

/** Background rounds, a pause apart; the returned function stops them and waits for the one under way. */
function sweep({ config, db, refresher, log }: Gateway): () => Promise<void> {
  if (config.refreshSweepMs === 0) return async () => undefined;
  let round: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const next = (): void => {
    timer = setTimeout(() => {
      const work = async (): Promise<void> => {
        await refresher.sweep();
        for (let i = 0; i < PURGE_BATCHES && await purge(db.sql, config.sessionRetentionMs); i++);
      };
      // PostgreSQL's absence is told elsewhere.
      round = work().catch((error: unknown) => log[isStorageUnavailable(error) ? 'debug' : 'warn']({ event: 'sweep', error: reasonOf(error) }, 'a sweep failed')).then(next);
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

/** Whether only the configuration is to be checked. @throws UsageError */
function readFlags(flags: readonly string[]): boolean {
  const unknown = flags.find((flag) => flag !== '--check-config');
  if (unknown !== undefined) throw new UsageError(`unknown flag or word ${unknown}; usage: main.js [--check-config]`);
  return flags.length > 0;
}

/** What a usable configuration comes to; nothing has been connected to, but for Vault where it wraps the keyring. */
function report({ routes, publicUrl, databaseUrl, redisUrl, keycloak, keyring }: Config): void {
  const embedded = Object.entries({ DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, KEYCLOAK_ISSUER: keycloak, SESSION_TOKEN_ENCRYPTION_KEY: keyring }).flatMap(([name, value]) => (value === undefined ? [name] : []));
  process.stdout.write(`session-gateway: the configuration is usable: ${publicUrl.origin}, ${routes.length} routes${embedded.length > 0 ? `; embedded for development, as not set: ${embedded.join(', ')}` : ''}\n`);
}

class UsageError extends Error {}
class StartError extends Error {}

function fail(code: number, lines: readonly string[]): void {
  process.stderr.write(`${lines.map((line) => `session-gateway: ${line}`).join('\n')}\n`);
  process.exit(code);
}

function refuse(error: ConfigError): void {
  fail(EXIT_CONFIGURATION, ['the configuration is not usable:', ...error.problems.map((problem) => `  ${problem}`)]);
}

main().catch((error: unknown) => {
  if (error instanceof ConfigError) refuse(error);
  else if (error instanceof UsageError) fail(2, [error.message]);
  else fail(1, [error instanceof Error ? (error instanceof StartError || isAuthError(error, 'key_provider_unavailable') ? error.message : (error.stack ?? error.message)) : String(error)]);
});
