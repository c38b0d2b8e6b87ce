import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type Cache, createMemoryCache } from '@session-gateway/database';
import { createWorld, HOUR_MS, type Node, QUIET, type World } from '../../testing/world.js';
import { createKeyring } from '../encryption/keyring.js';
import { endSessions } from '../logout/endSessions.js';
import { cacheKeyOfCookie } from './cookieHash.js';
import { EntryAuthenticator } from './EntryAuthenticator.js';
import { positionOf } from './listPosition.js';
import type { ListedSession } from './listSessions.js';
import { CACHE_TRUST_MS } from './SessionCopies.js';
import { packSession, type Session } from './sessionMetadata.js';
import { SessionStore } from './SessionStore.js';

let world: World;
let node: Node;
beforeAll(async () => {
  world = await createWorld();
  node = world.node();
});
afterAll(() => world.dispose());

/** A process of its own whose clock, corrected as far as it is, says `now`. */
const open = (
  now: () => number,
  db: Node['db'] = node.db,
  cache: Cache = createMemoryCache(),
): SessionStore =>
  new SessionStore({
    db,
    cache,
    feed: { ...QUIET, now },
    authenticator: world.authenticator,
    idleTimeoutMs: HOUR_MS,
  });
/** What the shared cache holds of a session. */
const asShared = ({ profile: _, ...shared }: Session): Session => shared;
/** As a client goes on behind a page: by the cursor of its last session. */
const behind = (page: readonly ListedSession[]) => positionOf(page.at(-1)!.cursor)!;

/** Moves the times of a session into the past, as if that had been so long ago. */
const age = (id: string, column: 'last_accessed_at' | 'expires_at', ms: number) =>
  node.db.sql.query(
    `UPDATE user_sessions SET ${column} = ${column} - $2 * interval '1 millisecond' WHERE id = $1`,
    [id, ms],
  );

describe('the session store', () => {
  test('finds a session by its cookie and by nothing else', async () => {
    const { session, cookie } = await world.login(node);
    expect((await node.store.find(cookie))?.session).toEqual(session);
    expect(await node.store.find(session.id)).toBeNull();
    expect(await node.store.find(`${cookie}x`)).toBeNull();
  });

  test('keeps neither the cookie nor a token anywhere but sealed', async () => {
    const { session, cookie } = await world.login(node);
    const [stored] = await node.db.sql.query<{ text: string; access_token: string }>(
      'SELECT s::text AS text, access_token FROM user_sessions s WHERE id = $1',
      [session.id],
    );
    for (const form of [
      cookie,
      Buffer.from(cookie, 'base64url').toString('hex'),
      Buffer.from(cookie).toString('hex'),
    ])
      expect(stored!.text).not.toContain(form);
    expect(stored!.access_token).toMatch(/^v2\.k1\./);
    expect(await node.vault.accessToken(session)).toMatch(/^eyJ/);
  });

  test('answers a session that was ended in another process at once where the cache is shared', async () => {
    const cache = createMemoryCache();
    const stores = [1, 2].map(
      () =>
        new SessionStore({
          db: node.db,
          cache,
          idleTimeoutMs: HOUR_MS,
          feed: QUIET,
          authenticator: world.authenticator,
        }),
    );
    const { session, cookie } = await world.login(node);
    for (const store of stores) expect((await store.find(cookie))?.state).toBe('live');
    await endSessions({ ...node, store: stores[0]! }, { id: session.id }, 'logout');
    for (const store of stores) expect(await store.find(cookie)).toBeNull();
  });

  test('answers from its own copy without asking anybody, until any process ends or renews the session', async () => {
    const cache = createMemoryCache();
    const stores = [1, 2].map(
      () =>
        new SessionStore({
          db: node.db,
          cache,
          idleTimeoutMs: HOUR_MS,
          feed: QUIET,
          authenticator: world.authenticator,
        }),
    );
    const { session, cookie } = await world.login(node);
    for (const [store, known] of [
      [stores[0]!, session],
      [stores[1]!, asShared(session)],
    ] as const)
      expect([
        store.recall(cookie),
        (await store.find(cookie))?.session,
        store.recall(cookie),
      ]).toEqual([null, known, known]);
    await node.db.sql.query('UPDATE user_sessions SET version = version + 1 WHERE id = $1', [
      session.id,
    ]);
    await stores[0]!.reload(session.id);
    expect([stores[0]!.recall(cookie)?.version, stores[1]!.recall(cookie)]).toEqual([
      session.version + 1,
      null,
    ]);
    expect((await stores[1]!.find(cookie))?.session.version).toBe(session.version + 1);
    await endSessions({ ...node, store: stores[0]! }, { id: session.id }, 'logout');
    expect(stores.map((store) => store.recall(cookie))).toEqual([null, null]);
  });

  test('notes the use of many sessions in one statement, and leaves those that were noted just now', async () => {
    const statements: string[] = [];
    const db = {
      ...node.db,
      sql: {
        query: async (text: string, values?: readonly unknown[]) => (
          statements.push(text),
          node.db.sql.query(text, values)
        ),
      },
    } as Node['db'];
    const store = new SessionStore({
      db,
      cache: createMemoryCache(),
      feed: QUIET,
      authenticator: world.authenticator,
      idleTimeoutMs: HOUR_MS,
    });
    const logins = await Promise.all(Array.from({ length: 20 }, () => world.login(node)));
    const unusedFor = (seconds: number): Promise<unknown> =>
      node.db.sql.query(
        `UPDATE user_sessions SET last_accessed_at = now() - $2 * interval '1 second' WHERE id = ANY($1)`,
        [logins.map(({ session }) => session.id), seconds],
      );
    await unusedFor(360);
    const sessions = await Promise.all(
      logins.map(async ({ cookie }) => (await store.find(cookie))!.session),
    );
    const noted = async (): Promise<(Date | undefined)[]> => {
      for (const session of sessions) store.touch(session);
      await store.settled();
      return logins.map(({ cookie }) => store.recall(cookie)?.lastAccessedAt);
    };
    const before = Date.now();
    statements.length = 0;
    for (let i = 0; i < 50; i++) for (const session of sessions) store.touch(session);
    await store.settled();
    expect(statements.length).toBe(1);
    for (const { cookie } of logins)
      expect(store.recall(cookie)!.lastAccessedAt.getTime()).toBeGreaterThanOrEqual(before - 1_000);
    await unusedFor(20);
    const times = await noted();
    expect(await noted()).toEqual(times);
    for (const at of times) expect(Date.now() - at!.getTime()).toBeGreaterThanOrEqual(19_000);
  });

  test('tells a use as it is written, once in a second, and keeps it while PostgreSQL does not answer', async () => {
    let fails = false;
    const query: Node['db']['sql']['query'] = async (text, values) => {
      if (fails) throw new Error('away');
      return node.db.sql.query(text, values);
    };
    const store = open(QUIET.now, { ...node.db, sql: { query } });
    const { session, cookie } = await world.login(node);
    expect(store.use(session)).toBe(session);
    await age(session.id, 'last_accessed_at', 10_000);
    const seen = (await store.find(cookie))!.session;
    const used = store.use(seen);
    expect(used.lastAccessedAt.getTime()).toBeGreaterThan(seen.lastAccessedAt.getTime() + 9_000);
    // Who only looks is told of it, too: a page that asks after an extension must not warn of the end before.
    expect(store.seen(seen)).toBe(used);
    expect(store.use(seen).lastAccessedAt.getTime() - used.lastAccessedAt.getTime()).toBeLessThan(
      5,
    );
    fails = true;
    await expect(store.settled()).rejects.toThrow('away');
    fails = false;
    await store.settled();
    const [row] = await node.db.sql.query<{ last_accessed_at: Date }>(
      'SELECT last_accessed_at FROM user_sessions WHERE id = $1',
      [session.id],
    );
    // Clocks of two programs on one machine, in milliseconds.
    expect(row!.last_accessed_at.getTime()).toBeGreaterThan(used.lastAccessedAt.getTime() - 5);
    expect(store.recall(cookie)!.lastAccessedAt).toEqual(row!.last_accessed_at);
  });

  test('notes a use again whose row another writer had in its hands', async () => {
    const store = open(QUIET.now);
    const { session, cookie } = await world.login(node);
    await age(session.id, 'last_accessed_at', HOUR_MS / 2);
    const seen = (await store.find(cookie))!.session;
    store.touch(seen);
    await node.db.transaction(async (sql) => {
      await sql.query('SELECT 1 FROM user_sessions WHERE id = $1 FOR UPDATE', [session.id]);
      await store.settled();
      expect(store.recall(cookie)!.lastAccessedAt).toEqual(seen.lastAccessedAt);
    });
    await store.settled();
    const { lastAccessedAt } = store.recall(cookie)!;
    expect(lastAccessedAt.getTime()).toBeGreaterThan(seen.lastAccessedAt.getTime());
  });

  test('writes a use without a new entry in any index', async () => {
    const { session } = await world.login(node);
    const updates = async (change: string): Promise<unknown> =>
      node.db.transaction(async (sql) => {
        const counts = async (): Promise<[number, number]> => {
          const [row] = await sql.query<{ all: number; hot: number }>(
            `SELECT n_tup_upd::int AS all, n_tup_hot_upd::int AS hot FROM pg_stat_xact_user_tables WHERE relname = 'user_sessions'`,
          );
          return [row!.all, row!.hot];
        };
        const before = await counts();
        await sql.query(`UPDATE user_sessions SET ${change} WHERE id = $1`, [session.id]);
        const after = await counts();
        return { all: after[0] - before[0], heapOnly: after[1] - before[1] };
      });
    expect(await updates('last_accessed_at = now()')).toEqual({ all: 1, heapOnly: 1 });
    expect(await updates('token_expires_at = now()')).toEqual({ all: 1, heapOnly: 0 });
  });

  test('tells whose a session is from its own copy, reading it once where another process shared that', async () => {
    const cache = createMemoryCache();
    const asked: string[] = [];
    const query: Node['db']['sql']['query'] = (text, values) => {
      asked.push(text);
      return node.db.sql.query(text, values);
    };
    const { session, cookie } = await world.login(node);
    const [other, store] = [0, 1].map(() => open(QUIET.now, { ...node.db, sql: { query } }, cache));
    await other!.find(cookie);
    asked.length = 0;
    const shared = (await store!.find(cookie))!.session;
    expect([asked.length, shared.profile]).toEqual([0, undefined]);
    const demo = { preferredUsername: 'demo', email: null, name: null };
    expect(await store!.profile(shared)).toEqual(demo);
    expect(await store!.profile(store!.recall(cookie)!)).toEqual(demo);
    expect(asked.length).toBe(1);
    await endSessions({ ...node, store: store! }, { id: session.id }, 'logout');
  });

  test('believes a copy for 60 seconds at most', async () => {
    let now = Date.now();
    const store = new SessionStore({
      db: node.db,
      authenticator: world.authenticator,
      cache: createMemoryCache(),
      feed: { ...QUIET, now: () => now },
      idleTimeoutMs: HOUR_MS,
    });
    const { session, cookie } = await world.login(node);
    expect((await store.find(cookie))?.state).toBe('live');
    await node.vault.end({ id: session.id }, 'logout');
    now += CACHE_TRUST_MS - 1;
    expect((await store.find(cookie))?.state).toBe('live');
    now += 1;
    expect(await store.find(cookie)).toBeNull();
  });

  test('does not let a late read bring an ended session back', async () => {
    const { session, cookie } = await world.login(node);
    await endSessions(node, { id: session.id }, 'logout');
    // A reader that saw the row before the logout writes its copy only now.
    await node.db.sql.query(`UPDATE user_sessions SET is_active = true WHERE id = $1`, [
      session.id,
    ]);
    await node.store.find(cookie);
    await node.db.sql.query(`UPDATE user_sessions SET is_active = false WHERE id = $1`, [
      session.id,
    ]);
    expect(await node.store.find(cookie)).toBeNull();
  });

  test('tells an expired session from one that never was, and from one that has been ended', async () => {
    const store = open(QUIET.now);
    for (const [column, reason] of [
      ['last_accessed_at', 'idle_timeout'],
      ['expires_at', 'absolute_timeout'],
    ] as const) {
      const { session, cookie } = await world.login(node);
      await age(session.id, column, HOUR_MS);
      expect(await store.find(cookie)).toMatchObject({ state: 'expired' });
      expect(await node.vault.endExpired(HOUR_MS, { id: session.id })).toMatchObject([{ reason }]);
      expect(await store.find(cookie)).toMatchObject({ state: 'expired' });
    }
    const { session, cookie } = await world.login(node);
    await endSessions({ ...node, store }, { id: session.id }, 'logout');
    expect(await store.find(cookie)).toBeNull();
  });

  test('moves the idle timeout with use, and never revives an ended session, or one that is over, by it', async () => {
    const store = open(QUIET.now);
    const { session, cookie } = await world.login(node);
    await age(session.id, 'last_accessed_at', HOUR_MS / 2);
    const seen = (await store.reload(session.id))!;
    store.touch(seen);
    await store.settled();
    const used = (await store.reload(session.id))!;
    expect(used.lastAccessedAt.getTime()).toBeGreaterThan(seen.lastAccessedAt.getTime());
    await age(session.id, 'last_accessed_at', HOUR_MS);
    store.touch(seen);
    await store.settled();
    await store.touchNow(seen);
    expect(await store.reload(session.id)).toBeNull();
    await endSessions({ ...node, store }, { id: session.id }, 'logout');
    await store.touchNow(session);
    expect(await store.find(cookie)).toBeNull();
  });

  test.each([
    ['ahead', HOUR_MS],
    ['behind', -HOUR_MS],
  ])(
    "goes by PostgreSQL's clock where its own is an hour %s: nothing ends, nothing lives longer",
    async (_, offMs) => {
      // Nothing has corrected it yet, as before the first reading of the feed.
      const store = open(() => Date.now() + offMs);
      const { session, cookie } = await world.login(node);
      expect(await store.find(cookie)).toMatchObject({ state: 'live' });
      expect(await node.vault.endExpired(HOUR_MS, { id: session.id })).toEqual([]);
      store.touch(session);
      await store.settled();
      expect((await store.touchNow(session)).lastAccessedAt.getTime()).toBeLessThan(
        Date.now() + 1_000,
      );
      const listed = () => store.list({ subject: session.subject, limit: 100 });
      expect((await listed()).map(({ id }) => id)).toContain(session.id);
      expect([...(await store.endsOf([session.id])).keys()]).toEqual([session.id]);
      await age(session.id, 'last_accessed_at', HOUR_MS);
      const later = open(() => Date.now() + offMs);
      expect(await later.find(cookie)).toMatchObject({ state: 'expired' });
      expect((await listed()).map(({ id }) => id)).not.toContain(session.id);
      expect((await store.endsOf([session.id])).size).toBe(0);
    },
  );

  test('takes what is in the cache for absent when it is garbage', async () => {
    const cache = createMemoryCache();
    const garbage = { ...cache, get: async () => Buffer.from('not a session') };
    const store = new SessionStore({
      db: node.db,
      cache: garbage,
      idleTimeoutMs: HOUR_MS,
      feed: QUIET,
      authenticator: world.authenticator,
    });
    const { session, cookie } = await world.login(node);
    expect((await store.find(cookie))?.session.id).toBe(session.id);
  });

  test('believes no shared entry that is altered, moved, older than the format or under another key', async () => {
    const [mine, other] = [await world.login(node), await world.login(node)];
    const entries = new Map<string, Buffer>();
    const cache: Cache = {
      ...createMemoryCache(),
      get: async (key) => entries.get(key) ?? null,
      put: async (key, { value }) => void entries.set(key, value),
      remove: async (key) => void entries.delete(key),
    };
    const answers: string[] = [];
    let refused = 0;
    // Remembers nothing itself, so that each look-up asks the shared cache first.
    const storeWith = (authenticator: EntryAuthenticator): SessionStore =>
      new SessionStore({
        db: node.db,
        cache,
        feed: QUIET,
        authenticator,
        idleTimeoutMs: HOUR_MS,
        nearSessions: 0,
        onLookup: (answeredBy) => answers.push(answeredBy),
        onRefusedEntry: () => refused++,
      });
    const store = storeWith(world.authenticator);
    const answeredBy = async (login: typeof mine, from = store): Promise<string | undefined> => {
      expect((await from.find(login.cookie))?.session).toMatchObject(asShared(login.session));
      return answers.at(-1);
    };
    const keyOf = ({ cookie }: typeof mine): string => cacheKeyOfCookie(cookie);
    for (const login of [mine, other])
      expect([await answeredBy(login), await answeredBy(login)]).toEqual(['database', 'cache']);
    const genuine = entries.get(keyOf(mine))!;
    const forged = packSession(
      { session: { ...other.session, roles: ['realm:admin'] }, confirmedAt: new Date() },
      keyOf(mine),
    );
    const stranger = new EntryAuthenticator(
      createKeyring({ keyText: 'a key text of somebody else, far away' }),
    );
    const bent = Buffer.from(genuine);
    bent[20]! ^= 1;
    const bad = [
      entries.get(keyOf(other))!,
      forged,
      Buffer.concat([forged, Buffer.alloc(16)]),
      stranger.protect(keyOf(mine), forged),
      world.authenticator.protect(keyOf(other), forged),
      world.authenticator.protect(
        keyOf(mine),
        Buffer.concat([Buffer.from([3]), genuine.subarray(1, -16)]),
      ),
      bent,
      Buffer.alloc(0),
    ];
    for (const entry of bad) {
      entries.set(keyOf(mine), entry);
      expect(await answeredBy(mine)).toBe('database');
      expect(await answeredBy(mine)).toBe('cache');
    }
    expect(refused).toBe(bad.length);
    // The check tells: a store with the forger's key believes it.
    entries.set(keyOf(mine), stranger.protect(keyOf(mine), forged));
    expect((await storeWith(stranger).find(mine.cookie))?.session.roles).toEqual(['realm:admin']);
  });

  test.each([HOUR_MS, -HOUR_MS])(
    "writes times as PostgreSQL's clock has them where the own one is off by %i ms",
    async (offMs) => {
      const real = Date.now;
      const off = jest.spyOn(Date, 'now').mockImplementation(() => real() + offMs);
      const { session } = await world.login(node).finally(() => off.mockRestore());
      const minutes = (at: Date | null): number => Math.round((at!.getTime() - real()) / 60_000);
      const [row] = await node.db.sql.query<{ refresh_expires_at: Date; expires_at: Date }>(
        'SELECT refresh_expires_at, expires_at FROM user_sessions WHERE id = $1',
        [session.id],
      );
      expect([minutes(row!.refresh_expires_at), minutes(row!.expires_at)]).toEqual([60, 60]);
      const lifetime = session.tokenLifetimeSeconds! / 60;
      expect(Math.abs(minutes(session.tokenExpiresAt) - lifetime)).toBeLessThanOrEqual(1);
    },
  );

  test("lists a subject's live sessions, page by page", async () => {
    world.provider.setUser('lister', { sub: 'lister-1' });
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.unshift((await world.login(node, 'lister')).session.id);
    await endSessions(node, { id: ids[4]! }, 'logout');
    const first = await node.store.list({ subject: 'lister-1', limit: 3 });
    const second = await node.store.list({ subject: 'lister-1', limit: 3, after: behind(first) });
    expect([...first, ...second].map(({ id }) => id)).toEqual(ids.slice(0, 4));
  });

  test('goes on behind a session that has ended or been purged since, and neither leaves out nor repeats another', async () => {
    world.provider.setUser('cursor', { sub: 'cursor-1' });
    const ids: string[] = [];
    for (let i = 0; i < 6; i++) ids.unshift((await world.login(node, 'cursor')).session.id);
    const first = await node.store.list({ subject: 'cursor-1', limit: 2 });
    await endSessions(node, { id: ids[1]! }, 'logout');
    const second = await node.store.list({ subject: 'cursor-1', limit: 2, after: behind(first) });
    await node.db.sql.query('DELETE FROM user_sessions WHERE id = $1', [ids[3]]);
    const third = await node.store.list({ subject: 'cursor-1', limit: 2, after: behind(second) });
    expect([...first, ...second, ...third].map(({ id }) => id)).toEqual(ids);
  });

  test('tells sessions apart that began within one millisecond, or at the same moment', async () => {
    world.provider.setUser('crowd', { sub: 'crowd-1' });
    const micros = [123_457, 123_456, 123_456, 123_456, 123_455, 123_001];
    const began = await Promise.all(
      micros.map(async (micro) => {
        const {
          session: { id },
        } = await world.login(node, 'crowd');
        await node.db.sql.query(
          `UPDATE user_sessions SET created_at = '2026-01-01T00:00:00Z'::timestamptz + $2 * interval '1 microsecond' WHERE id = $1`,
          [id, micro],
        );
        return { id, micro };
      }),
    );
    const expected = began
      .sort((a, b) => b.micro - a.micro || (a.id < b.id ? 1 : -1))
      .map(({ id }) => id);
    const pages: string[] = [];
    for (
      let page = await node.store.list({ subject: 'crowd-1', limit: 1 });
      page.length > 0;
      page = await node.store.list({ subject: 'crowd-1', limit: 1, after: behind(page) })
    ) {
      pages.push(...page.map(({ id }) => id));
      if (pages.length > micros.length) break;
    }
    expect(pages).toEqual(expected);
    // A Date cannot tell them apart.
    expect(
      new Set(
        (await node.store.list({ subject: 'crowd-1', limit: 10 })).map(({ createdAt }) =>
          createdAt.getTime(),
        ),
      ).size,
    ).toBe(1);
  });

  test("finds a subject's sessions by an index, however many others there are", async () => {
    world.provider.setUser('one-of-many', { sub: 'one-of-many-1' });
    await world.login(node, 'one-of-many');
    await node.db.sql.query(
      `INSERT INTO users (id, keycloak_id) SELECT 'other-' || i, 'other-' || i FROM generate_series(1, 3000) i`,
    );
    await node.db.sql.query(
      `INSERT INTO user_sessions (id, user_id, expires_at) SELECT 'other-' || i, 'other-' || i, now() + interval '1 hour' FROM generate_series(1, 3000) i`,
    );
    await node.db.sql.query('ANALYZE users, user_sessions');
    const plans: string[] = [];
    const explain = async (text: string, values?: readonly unknown[]): Promise<unknown[]> => {
      plans.push(
        (await node.db.sql.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, values))
          .map((row) => row['QUERY PLAN'])
          .join('\n'),
      );
      return node.db.sql.query(text, values);
    };
    const store = new SessionStore({
      db: { ...node.db, sql: { query: explain } } as Node['db'],
      authenticator: world.authenticator,
      cache: createMemoryCache(),
      feed: QUIET,
      idleTimeoutMs: HOUR_MS,
    });
    const page = await store.list({ subject: 'one-of-many-1', limit: 1 });
    expect(await store.list({ subject: 'one-of-many-1', limit: 1, after: behind(page) })).toEqual(
      [],
    );
    await store.list({ limit: 1 });
    const [first, place, second, all] = plans;
    for (const plan of [first, second]) expect(plan).toContain('user_sessions_user_id_idx');
    expect(place).toContain('user_sessions_cookie_hash_key');
    for (const plan of [first, place, second]) expect(plan).not.toContain('Seq Scan');
    // The check tells a plan that reads them all.
    expect(all).toContain('Seq Scan');
    await node.db.sql.query(`DELETE FROM users WHERE id LIKE 'other-%'`);
  });
});
