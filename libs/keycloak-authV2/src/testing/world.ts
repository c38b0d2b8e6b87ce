import {
  createMemoryCache,
  type Database,
  findPrismaDir,
  migrate,
  openDatabase,
} from '@session-gateway/database';
import {
  type ProviderStub,
  type ProviderStubOptions,
  startPostgres,
  startProviderStub,
  type TestPostgres,
} from '@session-gateway/testkit';
import { KeycloakClient } from '../client/KeycloakClient.js';
import type { TokenSet } from '../client/tokenSet.js';
import { type SessionEvent, SessionEvents } from '../services/audit/sessionEvents.js';
import { createKeyring } from '../services/encryption/keyring.js';
import { TokenEncryption } from '../services/encryption/TokenEncryption.js';
import type { Hearing } from '../services/session/ChangeFeed.js';
import { newSessionCookie } from '../services/session/cookieHash.js';
import { EntryAuthenticator } from '../services/session/EntryAuthenticator.js';
import { type ProviderLogoutOutcome, ProviderLogouts } from '../services/logout/ProviderLogouts.js';
import { SessionStore } from '../services/session/SessionStore.js';
import type { Session } from '../services/session/sessionMetadata.js';
import {
  RefreshTokenManager,
  type RefreshTokenManagerOptions,
} from '../services/token/RefreshTokenManager.js';
import { TokenVault } from '../services/token/TokenVault.js';

export const HOUR_MS = 3_600_000;
/** A feed on which nothing ever changes: for tests in which the shared cache tells of all that happens. */
export const QUIET: Hearing = { heardAt: Infinity, now: Date.now, follow: () => undefined };

/** One process's view: its own pool, cache, vault, store and manager. */
export interface Node {
  db: Database;
  store: SessionStore;
  vault: TokenVault;
  client: KeycloakClient;
  manager: RefreshTokenManager;
  events: SessionEvents;
  providerLogouts: ProviderLogouts;
  outcomes: string[];
  /** What came of rows of `provider_logouts` that this process sent. */
  sent: ProviderLogoutOutcome[];
  told: SessionEvent[];
}

/** PostgreSQL, a provider stub, and as many processes' worth of this library as a test wants. */
export interface World {
  postgres: TestPostgres;
  /** Of the database. */
  url: string;
  provider: ProviderStub;
  encryption: TokenEncryption;
  authenticator: EntryAuthenticator;
  node(
    options?: Partial<RefreshTokenManagerOptions> & {
      wrapVault?: (vault: TokenVault) => TokenVault;
    },
  ): Node;
  /** A session of a new login, and its cookie. */
  login(node: Node, username?: string): Promise<{ session: Session; cookie: string }>;
  dispose(): Promise<void>;
}

export async function createWorld(options: ProviderStubOptions = {}): Promise<World> {
  const [postgres, provider] = await Promise.all([startPostgres(), startProviderStub(options)]);
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  const keyring = createKeyring({ keyText: 'a key text for the tests of this library' });
  const encryption = new TokenEncryption({ keyring });
  const authenticator = new EntryAuthenticator(keyring);
  // Shared, as Redis is.
  const cache = createMemoryCache();
  const opened: Database[] = [];
  const senders: ProviderLogouts[] = [];
  return {
    postgres,
    url,
    provider,
    encryption,
    authenticator,
    node({ wrapVault = (vault: TokenVault) => vault, now = Date.now, ...overrides } = {}) {
      const db = openDatabase({ url });
      opened.push(db);
      const store = new SessionStore({
        db,
        cache,
        authenticator,
        feed: { ...QUIET, now },
        idleTimeoutMs: HOUR_MS,
      });
      const vault = wrapVault(new TokenVault({ db, encryption }));
      const client = new KeycloakClient({
        issuer: provider.issuer,
        clientId: provider.clientId,
        clientSecret: provider.clientSecret,
      });
      const outcomes: string[] = [];
      const sent: ProviderLogoutOutcome[] = [];
      const told: SessionEvent[] = [];
      const events = new SessionEvents({ db, onEvent: (event) => told.push(event) });
      const providerLogouts = new ProviderLogouts({
        db,
        encryption,
        client,
        events,
        onOutcome: (outcome) => sent.push(outcome),
      });
      senders.push(providerLogouts);
      const manager = new RefreshTokenManager({
        vault,
        store,
        client,
        events,
        providerLogouts,
        refreshAheadMs: 30_000,
        absoluteTimeoutMs: 10 * HOUR_MS,
        idleTimeoutMs: HOUR_MS,
        onOutcome: (outcome) => outcomes.push(outcome),
        now,
        ...overrides,
      });
      return { db, store, vault, client, manager, events, providerLogouts, outcomes, sent, told };
    },
    async login(node, username = 'demo') {
      const granted = await provider.grant(username);
      const tokens: TokenSet = {
        accessToken: granted.accessToken,
        refreshToken: granted.refreshToken,
        idToken: granted.idToken,
        tokenExpiresAt: new Date(Date.now() + granted.expiresIn * 1000),
        tokenLifetimeSeconds: granted.expiresIn,
        refreshExpiresAt: new Date(Date.now() + HOUR_MS),
        identity: {
          subject: granted.sub,
          sid: granted.sid,
          preferredUsername: username,
          email: null,
          name: null,
          acr: null,
          roles: ['realm:user'],
        },
      };
      const cookie = newSessionCookie();
      const id = await node.db.transaction(async (sql) => {
        const created = await node.store.create(sql, {
          cookie,
          ...tokens.identity,
          roles: tokens.identity.roles ?? [],
          expiresAt: new Date(Date.now() + HOUR_MS),
          ipAddress: '127.0.0.1',
          userAgent: 'spec',
          fingerprint: null,
        });
        await node.vault.store(sql, created, tokens);
        return created;
      });
      const session = await node.store.reload(id);
      if (!session) throw new Error('the new session is not there');
      return { session, cookie };
    },
    async dispose() {
      await Promise.all(senders.map((sender) => sender.stop(1_000)));
      await Promise.all(opened.map((db) => db.close()));
      await Promise.all([postgres.dispose(), provider.dispose()]);
    },
  };
}
