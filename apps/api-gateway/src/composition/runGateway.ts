import cluster from 'node:cluster';
import type { AddressInfo } from 'node:net';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cache, Database, RateLimits } from '@session-gateway/database';
import {
  type ChangeFeed,
  createKeyring,
  reloadable,
  SETTLE_MS,
} from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { loadTracer } from '../observability/loadTracer.js';
import { type Log, reasonOf, traceOf } from '../observability/logging.js';
import { createMetrics } from '../observability/metrics.js';
import { UnexpectedErrors } from '../observability/unexpectedErrors.js';
import { createManagementServer } from '../server/managementServer.js';
import { closeServer, createPublicServer } from '../server/server.js';
import { watchStorage } from '../server/storageWatch.js';
import { keepClientSecret } from '../settings/clientSecret.js';
import type { Config } from '../settings/config.js';
import { type EmbeddedParts, startEmbeddedParts } from '../settings/embeddedParts.js';
import { keepKeys, type Keys } from '../settings/keys.js';
import { followChanges } from './changes.js';
import { composeGateway } from './composeGateway.js';
import { listen, listenForManagement } from './listen.js';
import { openDpopKeys, openLog, openStores, tellOfSettings } from './openParts.js';
import { takeSignals } from './signals.js';
import { prepareStorage, type Storage } from './storage.js';
import { sweep } from './sweep.js';
import { answerPrimary } from './workers/answering.js';

/**
 * Where PostgreSQL answers, the first request finds the schema there; a liveness probe does not wait longer than this.
 */
const STORAGE_HEAD_START_MS = 1_000;
/** For the last lines of the log, where its target is slow. */
const LAST_LINES_MS = 1_000;

/** What ends with the gateway, in the order of `stop`. */
interface Running {
  readonly gateway: Gateway;
  readonly embedded: EmbeddedParts;
  readonly database: Database;
  readonly cache: Cache;
  readonly rateLimits: RateLimits;
  readonly feed: ChangeFeed;
  readonly keys: Keys;
  readonly watches: readonly { stop: () => void }[];
}

/**
 * Starts the gateway and resolves once it listens; it runs until the process is asked to end.
 * @throws StartError, ConfigError
 */
export async function runGateway(config: Config): Promise<void> {
  const metrics = createMetrics();
  const { log, target } = openLog(config.logLevel, metrics);
  tellOfSettings(config, log);
  const signals = takeSignals();
  const embedded = await startEmbeddedParts(config);
  const { database, cache, rateLimits } = openStores(config, embedded.databaseUrl, log);
  const feed = followChanges(database, metrics, log);
  const keyring = reloadable(config.keyring ?? createKeyring({ keyText: embedded.encryptionKey }));
  const keys = keepKeys({
    env: process.env,
    keyring,
    generatedText: embedded.encryptionKey,
    readPolicy: config.tokenReadPolicy,
    db: database,
    metrics,
    log,
  });
  const watch = watchStorage(database, log);
  const schema = prepareStorage(config.directDatabaseUrl ?? embedded.databaseUrl, watch, keys, log);
  await headStart(schema);
  const unexpected = new UnexpectedErrors((error) => {
    metrics.unexpectedErrors.inc();
    log.error({ event: 'unexpected', error: traceOf(error) }, 'an error that no code expected');
  });
  const gateway = composeGateway({
    config,
    embedded,
    dpop: await openDpopKeys(config),
    db: database,
    cache,
    feed,
    rateLimits,
    keyring,
    keys,
    metrics,
    log,
    tracer: await loadTracer(config, log),
    problems: {
      storage: () => schema.problem ?? watch.storage,
      clock: () => watch.clock,
      process: () => unexpected.problem,
    },
  });
  feed.start();
  const clientSecret = keepClientSecret(process.env, gateway.client, metrics, log);

  const { server, close } = createPublicServer(gateway, embedded.developmentProvider);
  await listen(server, config.port, config.host, 'PORT');
  const management = await openManagement(gateway);
  askProvider(gateway);
  // From here on there is more to lose by ending than by going on.
  process.on('uncaughtException', (error) => unexpected.note(error));
  process.on('unhandledRejection', (error) => unexpected.note(error));
  const stopSweeping = sweep(gateway);
  gateway.providerLogouts.start();
  log.info(
    {
      event: 'listening',
      address: config.publicUrl.origin,
      management: management.port,
    },
    'the gateway is listening',
  );
  if (embedded.names.length > 0) process.stdout.write(embedded.banner());

  const watches = [clientSecret, schema, watch];
  const running = { gateway, embedded, database, cache, rateLimits, feed, keys, watches };
  signals.ask(async (signal) => {
    await stop(running, signal, {
      stopSweeping,
      closePublic: close,
      closeManagement: management.close,
    });
    await target.flush(LAST_LINES_MS);
    process.exit(0);
  });
  // It restarts workers, of which this is the only one, or one that the primary restarts.
  process.on('SIGUSR2', () => undefined);
  process.on('SIGHUP', () => {
    clientSecret.reload();
    void keys.reload();
  });
}

async function headStart({ firstAttempt }: Storage): Promise<void> {
  await Promise.race([firstAttempt, delay(STORAGE_HEAD_START_MS, undefined, { ref: false })]);
}

/** The management port, or where this is one of several workers the primary's questions. */
async function openManagement(
  gateway: Gateway,
): Promise<{ port: number | undefined; close: () => Promise<void> }> {
  if (cluster.isWorker) {
    answerPrimary(gateway);
    return { port: undefined, close: async () => undefined };
  }
  const server = createManagementServer(gateway);
  await listenForManagement(server, gateway.config);
  const { port } = server.address() as AddressInfo;
  return { port, close: () => closeServer(server) };
}

/** A first try now, so that readiness does not wait for the first login; later tries follow from requests. */
function askProvider({ client, log }: { client: Gateway['client']; log: Log }): void {
  client
    .unlistedAlgorithms()
    .then((problems) => {
      if (problems.length > 0)
        log.warn(
          { event: 'provider', problems },
          'the identity provider does not list what our keys sign with (KEYCLOAK_CLIENT_KEY_ALG)',
        );
    })
    .catch((error: unknown) =>
      log.warn(
        { event: 'provider', error: reasonOf(error) },
        'the identity provider cannot be used yet (KEYCLOAK_ISSUER); trying again',
      ),
    );
}

interface Closing {
  readonly stopSweeping: () => Promise<void>;
  readonly closePublic: () => Promise<void>;
  readonly closeManagement: () => Promise<void>;
}

/** Finishes the requests under way, writes what is still to be written, and closes every connection. */
async function stop(running: Running, signal: string, closing: Closing): Promise<void> {
  const { gateway, embedded, database, cache, rateLimits, feed, keys, watches } = running;
  gateway.life.stopping = true;
  gateway.log.info({ event: 'stopping', signal }, 'finishing the requests under way');
  for (const each of watches) each.stop();
  // Unready, but serving: whoever sends requests here needs a moment to notice.
  await delay(gateway.config.shutdownDelayMs);
  await closing.stopSweeping();
  await closing.closePublic();
  await gateway.refresher.settled(SETTLE_MS);
  // Another instance, or the next start, sends what is left.
  await gateway.providerLogouts.stop();
  await gateway.store.settled().catch(() => undefined);
  await closing.closeManagement();
  await keys.stop();
  await feed.stop();
  await cache.close();
  await rateLimits.close();
  await database.close();
  await embedded.stop();
  await gateway.tracer?.stop();
}
