import { randomBytes } from 'node:crypto';
import {
  type Cache,
  createRedisCache,
  type Database,
  findPrismaDir,
  migrate,
  openDatabase,
} from '@session-gateway/database';
import {
  ChangeFeed,
  createKeyring,
  EntryAuthenticator,
  type Hearing,
  KeycloakClient,
  newSessionCookie,
  RefreshTokenManager,
  reloadable,
  type ReloadableKeyring,
  type Session,
  SessionEvents,
  SessionStore,
  TokenEncryption,
  TokenVault,
} from '@session-gateway/keycloak-auth';
import {
  type ProviderStub,
  startPostgres,
  startProviderStub,
  startRedis,
  type TestPostgres,
  type TestRedis,
  until,
} from '@session-gateway/testkit';
import { carelessCache, type Flaw, UpsertingStore } from './flaws.js';

export const IDLE_MS = 3_600_000;
export const ABSOLUTE_MS = 3 * IDLE_MS;
const NODES = 2;
/** Believes copies and hears of nothing. */
const DEAF: Omit<Hearing, 'now'> = { heardAt: Infinity, follow: () => undefined };
/** Beside the time that passes: no session's end is ever so near that clocks could differ about it. */
const OFF_THE_MINUTE_MS = 1_000;
/** PostgreSQL's clock, which ends sessions, as far ahead of the real one as the model has let time pass. */
const CLOCK = `CREATE SCHEMA clock; CREATE TABLE clock.ahead (ms float8 NOT NULL); INSERT INTO clock.ahead VALUES (0);
  CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    $$ SELECT pg_catalog.now() + ms * interval '1 millisecond' FROM clock.ahead $$;
  CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT pg_catalog.clock_timestamp() + ms * interval '1 millisecond' FROM clock.ahead $$`;

/** One process's view. */
export interface Node {
  db: Database;
  cache: Cache;
  feed: ChangeFeed;
  store: SessionStore;
  vault: TokenVault;
  events: SessionEvents;
  providerLogouts: { kick: () => void };
  manager: RefreshTokenManager;
  client: KeycloakClient;
}

/** A session as the model has it: what was done to it, and so what must be true of it. */
export interface Known {
  readonly id: string;
  readonly cookie: string;
  readonly sid: string;
  readonly subject: string;
  readonly createdAt: number;
  usedAt: number;
  ended: boolean;
  /** A request that began before, with the session as it was then. */
  readonly seenAtLogin: Session;
}

export interface Model {
  sessions: Known[];
}

interface Put {
  key: string;
  version: number;
  value: Buffer;
  ttlMs: number;
}

export interface World {
  readonly model: Model;
  readonly nodes: Node[];
  readonly provider: ProviderStub;
  readonly redis: TestRedis;
  now(): number;
  advance(ms: number): Promise<void>;
  /** A new set of nodes with nothing in Redis and an empty book. */
  begin(flaw: Flaw | null): Promise<void>;
  restart(node: number): Promise<void>;
  login(node: Node, username: string): Promise<Known>;
  /** The first copy of each session that was put into Redis: what a slow writer may still put. */
  readonly firstPuts: Map<string, Put>;
  /** A new primary key; with the old ones still there to open what they sealed. */
  rotate(): void;
  /** Rewrites every stored token under the primary key, each row only if it is still as it was read. */
  reencrypt(): Promise<void>;
  dispose(): Promise<void>;
}

export async function openWorld(): Promise<World> {
  const [postgres, redis, provider]: [TestPostgres, TestRedis, ProviderStub] = await Promise.all([
    startPostgres(),
    startRedis(),
    startProviderStub({ accessTokenLifespanSeconds: 1_200, refreshExpiresInSeconds: 0 }),
  ]);
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  await postgres.query(
    `${CLOCK}; ALTER DATABASE ${new URL(url).pathname.slice(1)} SET search_path = clock, public, pg_catalog`,
    [],
    url,
  );
  const control = openDatabase({ url, maxConnections: 1 });
  const keys = [{ kid: 'a0', key: randomBytes(32).toString('base64url') }];
  const ring = () =>
    createKeyring({ keyringJson: JSON.stringify({ primary: keys.at(-1)?.kid, keys }) });
  const keyring: ReloadableKeyring = reloadable(ring());
  const encryption = new TokenEncryption({ keyring });
  const authenticator = new EntryAuthenticator(keyring);
  const model: Model = { sessions: [] };
  const firstPuts = new Map<string, Put>();
  const nodes: Node[] = [];
  let flaw: Flaw | null = null;
  const now = (): number => nodes[0]?.feed.now() ?? Date.now();
  const setAhead = (ms: string): Promise<unknown> =>
    control.sql.query(`UPDATE clock.ahead SET ms = ${ms}`);
  const readFeeds = (): Promise<unknown> => Promise.all(nodes.map(({ feed }) => feed.read()));

  function createNode(): Node {
    const db = openDatabase({ url, maxConnections: 6, keepOneApart: true });
    const real = createRedisCache({ url: redis.url });
    const flawed =
      flaw === 'a cache without tombstones, and no feed'
        ? carelessCache(
            real,
            async (key, value) => void (await redis.command('SET', key, value)),
            async (key) => void (await redis.command('DEL', key)),
          )
        : real;
    const cache: Cache = {
      ...flawed,
      async put(key, entry, ttlMs) {
        if (!firstPuts.has(key)) firstPuts.set(key, { key, ...entry, ttlMs });
        await flawed.put(key, entry, ttlMs);
      },
    };
    const Store = flaw === 'a touch that upserts' ? UpsertingStore : SessionStore;
    const feed = new ChangeFeed({ sql: db.apart });
    const hearing =
      flaw === 'a cache without tombstones, and no feed' ? { ...DEAF, now: feed.now } : feed;
    feed.start();
    const store = new Store({
      db,
      cache,
      authenticator,
      feed: hearing,
      idleTimeoutMs: IDLE_MS,
    });
    const vault = new TokenVault({ db, encryption });
    const client = new KeycloakClient({
      issuer: provider.issuer,
      clientId: provider.clientId,
      clientSecret: provider.clientSecret,
    });
    const events = new SessionEvents({ db });
    // What is owed to the provider stays where it is written: another goal is about that.
    const providerLogouts = { kick: () => undefined };
    const manager = new RefreshTokenManager({
      vault,
      store,
      client,
      events,
      providerLogouts,
      refreshAheadMs: 30_000,
      absoluteTimeoutMs: ABSOLUTE_MS,
      idleTimeoutMs: IDLE_MS,
      now: feed.now,
      ownNow: feed.now,
    });
    return { db, cache, feed, store, vault, events, providerLogouts, manager, client };
  }
  async function close(node: Node | undefined): Promise<void> {
    await node?.manager.settled();
    await node?.feed.stop();
    await node?.cache.close();
    await node?.db.close();
  }
  const hearing = () =>
    until(() => nodes.every(({ cache, feed }) => cache.healthy() && feed.heardAt > 0), {
      timeoutMs: 20_000,
      what: 'every node hearing',
    });

  return {
    model,
    nodes,
    provider,
    redis,
    now,
    firstPuts,
    async advance(ms) {
      await setAhead(`ms + ${ms + OFF_THE_MINUTE_MS}`);
      await readFeeds();
    },
    async begin(chosen) {
      await redis.flush();
      await setAhead('0');
      await control.sql.query('TRUNCATE user_sessions, users CASCADE');
      model.sessions.length = 0;
      firstPuts.clear();
      keys.splice(1);
      keyring.replace(ring());
      const same = chosen === flaw && nodes.length > 0;
      flaw = chosen;
      // Opening nodes takes longer than a whole run; what they remember is of sessions that are gone.
      if (!same) {
        await Promise.all(nodes.splice(0).map(close));
        nodes.push(...Array.from({ length: NODES }, createNode));
      }
      await hearing();
      await readFeeds();
    },
    async restart(index) {
      await close(nodes[index]);
      nodes[index] = createNode();
      await hearing();
    },
    async login(node, username) {
      provider.setUser(username, { sub: `sub-${username}` });
      const granted = await provider.grant(username);
      const cookie = newSessionCookie();
      const created = await node.db.transaction(async (sql) => {
        const session = await node.store.create(sql, {
          cookie,
          subject: granted.sub,
          sid: granted.sid,
          preferredUsername: username,
          email: null,
          name: null,
          roles: [],
          expiresAt: new Date(Date.now() + ABSOLUTE_MS),
          ipAddress: null,
          userAgent: null,
          fingerprint: null,
        });
        await node.vault.store(sql, session, {
          accessToken: granted.accessToken,
          refreshToken: granted.refreshToken,
          idToken: granted.idToken,
          refreshExpiresAt: null,
          tokenExpiresAt: new Date(Date.now() + granted.expiresIn * 1000),
          tokenLifetimeSeconds: granted.expiresIn,
          identity: {
            subject: granted.sub,
            sid: granted.sid,
            preferredUsername: username,
            email: null,
            name: null,
            acr: null,
            roles: [],
          },
        });
        // Defaults are by the real clock.
        await sql.query(
          'UPDATE user_sessions SET created_at = now(), last_accessed_at = now() WHERE id = $1',
          [session],
        );
        return session;
      });
      const session = await node.store.reload(created);
      if (!session) throw new Error('a new session is not there');
      const known: Known = {
        id: created,
        cookie,
        sid: granted.sid,
        subject: granted.sub,
        createdAt: session.createdAt.getTime(),
        usedAt: session.lastAccessedAt.getTime(),
        ended: false,
        seenAtLogin: session,
      };
      model.sessions.push(known);
      return known;
    },
    rotate() {
      keys.push({ kid: `a${keys.length}`, key: randomBytes(32).toString('base64url') });
      keyring.replace(ring());
    },
    async reencrypt() {
      const db = nodes[0]?.db;
      for (const column of ['access_token', 'refresh_token', 'id_token']) {
        const rows = await db?.sql.query<{ id: string; xmin: string; sealed: string }>(
          `SELECT id, xmin::text AS xmin, ${column} AS sealed FROM user_sessions WHERE ${column} IS NOT NULL`,
        );
        for (const { id, xmin, sealed } of rows ?? []) {
          const at = { table: 'user_sessions', column, rowId: id };
          await db?.sql.query(
            `UPDATE user_sessions SET ${column} = $2 WHERE id = $1 AND xmin::text = $3`,
            [id, encryption.seal(encryption.open(sealed, at), at), xmin],
          );
        }
      }
    },
    async dispose() {
      await Promise.all(nodes.splice(0).map(close));
      await control.close();
      await Promise.all([postgres.dispose(), redis.dispose(), provider.dispose()]);
    },
  };
}
