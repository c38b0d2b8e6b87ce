import { setTimeout as delay } from 'node:timers/promises';
import {
  type Cache,
  createMemoryCache,
  createRedisCache,
  type Database,
} from '@session-gateway/database';
import {
  confirmKeys,
  type Enders,
  endSessions,
  EntryAuthenticator,
  type Keyring,
  type Origin,
  type ReadPolicy,
  SessionEvents,
  type SessionSelection,
  SessionStore,
  TokenEncryption,
  TokenVault,
} from '@session-gateway/keycloak-auth';

/** Ends of so many sessions are one transaction. */
const BATCH = 200;
const REDIS_WITHIN_MS = 1_000;
const REDIS_LOOK_MS = 20;

/** What ending takes, as in a gateway; its own copies of sessions stay empty. */
export interface Ending {
  readonly end: (selection: SessionSelection) => Promise<number>;
  readonly close: () => Promise<void>;
}

export interface EndingOptions {
  readonly db: Database;
  readonly keyring: Keyring;
  readonly readPolicy: ReadPolicy;
  readonly redisUrl: string | undefined;
  readonly origin: Origin;
}

/**
 * Ends sessions as an administrator does over HTTP: the same statement, the same audit trail, and what is owed to the
 * provider goes into the same table, from which a gateway sends it. @throws ConfigError where the keys are not the
 * database's
 */
export async function openEnding(options: EndingOptions): Promise<Ending> {
  const { db, keyring, readPolicy, origin } = options;
  await confirmKeys(db, keyring, readPolicy);
  const cache = await openCache(options.redisUrl);
  const enders: Enders = {
    vault: new TokenVault({ db, encryption: new TokenEncryption({ keyring, readPolicy }) }),
    store: new SessionStore({
      db,
      cache,
      authenticator: new EntryAuthenticator(keyring),
      feed: { heardAt: -Infinity, now: Date.now, follow: () => undefined },
      idleTimeoutMs: Infinity,
    }),
    events: new SessionEvents({ db }),
    providerLogouts: { kick: () => undefined },
  };
  return {
    end: async (selection) =>
      (await endSessions(enders, selection, 'ended_by_admin', origin)).length,
    close: () => cache.close(),
  };
}

/** Ends everybody's session that began before now, in batches. */
export async function endAll(
  { end }: Ending,
  createdBefore: Date,
  onProgress: (ended: number) => void,
): Promise<number> {
  for (let ended = 0; ;) {
    const some = await end({ createdBefore, most: BATCH });
    ended += some;
    if (some === 0) return ended;
    onProgress(ended);
  }
}

/**
 * Redis only makes ends faster: one that does not answer soon is left alone, and gateways hear of them from PostgreSQL.
 */
async function openCache(redisUrl: string | undefined): Promise<Cache> {
  if (redisUrl === undefined) return createMemoryCache();
  const cache = createRedisCache({ url: redisUrl, onError: () => undefined });
  const end = performance.now() + REDIS_WITHIN_MS;
  while (!cache.healthy() && performance.now() < end) await delay(REDIS_LOOK_MS);
  return cache;
}
