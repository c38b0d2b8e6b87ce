import type { Cache, Database, RateLimits } from '@session-gateway/database';
import {
  type ChangeFeed,
  type CircuitBreaker,
  type DpopKeys,
  EntryAuthenticator,
  ExchangedTokens,
  JWTValidator,
  KeycloakClient,
  type Keyring,
  PermissionChecker,
  SessionEvents,
  SessionStore,
  TokenEncryption,
  TokenVault,
} from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { type Log, reasonOf } from '../observability/logging.js';
import type { Metrics } from '../observability/metrics.js';
import { observedFetch } from '../observability/observedFetch.js';
import type { Tracer } from '../observability/tracer.js';
import { createRequestLimits } from '../request/limits.js';
import { GatewayCookies } from '../request/sessionCookie.js';
import type { Config } from '../settings/config.js';
import type { EmbeddedParts } from '../settings/embeddedParts.js';
import type { Keys } from '../settings/keys.js';
import { tellEvent } from './changes.js';
import { createBreaker, createProviderLogouts, createRefresher } from './tokenParts.js';

/** What a gateway is built from; the process opens and closes it. */
export interface Parts {
  readonly config: Config;
  readonly embedded: EmbeddedParts;
  readonly dpop: DpopKeys | null;
  readonly db: Database;
  readonly cache: Cache;
  readonly feed: ChangeFeed;
  readonly rateLimits: RateLimits;
  readonly keyring: Keyring;
  readonly keys: Keys;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly tracer: Tracer | null;
  /** Why each cannot be relied on; null: it can. */
  readonly problems: Readonly<Record<'storage' | 'clock' | 'process', () => string | null>>;
}

/** Builds the gateway; nothing is asked of anybody yet. */
export function composeGateway(parts: Parts): Gateway {
  const { config, db, cache, feed, keyring, metrics, log } = parts;
  const observers = { metrics, log };
  const encryption = new TokenEncryption({
    keyring,
    readPolicy: config.tokenReadPolicy,
    onUse: metrics.keyUse,
  });
  // Anybody can send any cookie: none of them counts as a stored value that did not open, and none was ever
  // written in an older format.
  const cookieEncryption = new TokenEncryption({ keyring, readPolicy: 'v2' });
  const client = new KeycloakClient({
    ...parts.embedded.keycloak,
    scope: config.login.scope,
    dpop: parts.dpop ?? undefined,
    fetch: observedFetch(metrics, parts.tracer),
  });
  const vault = new TokenVault({ db, encryption, confirmKeys: parts.keys.confirm });
  const store = new SessionStore({
    db,
    cache,
    authenticator: new EntryAuthenticator(keyring),
    idleTimeoutMs: config.sessionIdleTimeoutMs,
    onLookup: metrics.sessionLookup,
    onRefusedEntry: () => metrics.cacheEntriesRefused.inc(),
    feed,
  });
  const events = new SessionEvents({ db, onEvent: (event) => tellEvent(event, observers) });
  const providerLogouts = createProviderLogouts({ db, encryption, client, events }, observers);
  const breaker = createBreaker(log);
  const refresher = createRefresher(
    {
      vault,
      store,
      client,
      events,
      providerLogouts,
      breaker,
      refreshAheadMs: config.refreshAheadMs,
      absoluteTimeoutMs: config.sessionAbsoluteTimeoutMs,
      idleTimeoutMs: config.sessionIdleTimeoutMs,
      now: feed.now,
    },
    observers,
  );
  const { issuer, clientId } = client;
  const validator = new JWTValidator({
    issuer,
    clientId,
    jwks: () => client.jwks(),
    now: feed.now,
  });
  const permissions = new PermissionChecker({ client });
  const exchangedTokens = new ExchangedTokens({ db, encryption, client, now: feed.now });
  const cookies = new GatewayCookies({
    https: config.publicUrl.protocol === 'https:',
    sameSite: config.sessionCookieSameSite,
    name: config.sessionCookieName,
  });
  return {
    config,
    cookies,
    db,
    cookieEncryption,
    store,
    vault,
    events,
    providerLogouts,
    refresher,
    client,
    dpop: parts.dpop,
    validator,
    permissions,
    exchangedTokens,
    metrics,
    log,
    tracer: parts.tracer,
    now: feed.now,
    life: { stopping: false },
    limits: createRequestLimits(config.rateLimits, parts.rateLimits),
    health: healthOf(parts, client, breaker),
  };
}

/** Asks PostgreSQL and the provider anew at each call. */
function healthOf(
  { db, cache, problems }: Parts,
  client: KeycloakClient,
  breaker: CircuitBreaker,
): Gateway['health'] {
  return async () => {
    const [database, provider] = await Promise.all([
      db.ping().then(problems.storage, reasonOf),
      client.health(),
    ]);
    return {
      process: { reason: problems.process(), needed: true },
      database: { reason: database, needed: true },
      clock: { reason: problems.clock(), needed: true },
      cache: { reason: cache.healthy() ? null : 'no connection (REDIS_URL)', needed: false },
      // Once its metadata is known, sessions with a live access token do without it: nobody is helped when all
      // instances are taken out of service.
      provider: {
        reason:
          provider.reason ?? (breaker.isOpen ? 'the provider is left alone for a while' : null),
        needed: !provider.metadataKnown,
      },
    };
  };
}
