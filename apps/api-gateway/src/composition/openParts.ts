import process from 'node:process';
import {
  type Cache,
  createMemoryCache,
  createRedisCache,
  type Database,
  openDatabase,
  openRateLimits,
  parseDatabaseUrl,
  type RateLimits,
  weakLinks,
} from '@session-gateway/database';
import { DpopKeys } from '@session-gateway/keycloak-auth';
import { createLog, type Log, reasonOf } from '../observability/logging.js';
import { LogTarget, sinkOf } from '../observability/logTarget.js';
import type { Metrics } from '../observability/metrics.js';
import type { Config } from '../settings/config.js';

/** The log on standard output, which never makes a request wait; lines that are lost are counted. */
export function openLog(
  level: string,
  { logLinesDropped }: Metrics,
): { log: Log; target: LogTarget } {
  const target = new LogTarget(sinkOf(process.stdout), {
    onDropped: (count) => logLinesDropped.inc(count),
    onRecovered: (count) =>
      log.warn(
        { event: 'log', count },
        'lines of the log were dropped; its target takes them again',
      ),
  });
  const log = createLog(level, target);
  process.on('exit', () => target.flushNow());
  process.stderr.on('error', () => undefined);
  return { log, target };
}

/** Tells of settings that are usable and still worth a second look. */
export function tellOfSettings(config: Config, log: Log): void {
  if (config.production)
    for (const problem of weakLinks(config)) log.warn({ event: 'weak_link' }, problem);
  const ignored = config.databaseUrl && parseDatabaseUrl(config.databaseUrl).ignored.join(', ');
  if (ignored)
    log.info(
      { event: 'database' },
      `DATABASE_URL has parameters that have no effect here: ${ignored}`,
    );
}

/** PostgreSQL, the cache and the rate limits; none of them is connected to yet. */
export function openStores(
  config: Config,
  databaseUrl: string,
  log: Log,
): { database: Database; cache: Cache; rateLimits: RateLimits } {
  const database = openDatabase({
    url: databaseUrl,
    maxConnections: config.databaseMaxConnections,
    applicationName: 'session-gateway',
    keepOneApart: true,
    onError: (error) =>
      log.warn({ event: 'database', error: reasonOf(error) }, 'a database connection failed'),
  });
  const cache =
    config.redisUrl === undefined
      ? createMemoryCache()
      : createRedisCache({
          url: config.redisUrl,
          onError: (error) =>
            log.warn(
              { event: 'cache', error: reasonOf(error) },
              'the cache does not answer (REDIS_URL); PostgreSQL does its work',
            ),
        });
  const rateLimits = openRateLimits(config.redisUrl, (error) =>
    log.debug(
      { event: 'rate_limits', error: reasonOf(error) },
      'rate limits are counted in this process',
    ),
  );
  return { database, cache, rateLimits };
}

/** The keys of DPoP proofs; null where access tokens are bound to no key. */
export async function openDpopKeys({ keycloak }: Config): Promise<DpopKeys | null> {
  return keycloak?.dpopKey === undefined
    ? null
    : DpopKeys.from(keycloak.dpopKey, keycloak.clientKeyAlgorithm);
}
