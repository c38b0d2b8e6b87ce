import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createMemoryCache } from '@session-gateway/database';
import { until } from '@session-gateway/testkit';
import { createWorld, HOUR_MS, type Node, type World } from '../../testing/world.js';
import { endSessions } from '../logout/endSessions.js';
import { positionOf } from './listPosition.js';
import { CACHE_TRUST_MS, type ListedSession, SessionStore } from './SessionStore.js';

let world: World;
let node: Node;
beforeAll(async () => {
  world = await createWorld();
  node = world.node();
});
afterAll(() => world.dispose());

/** As a client goes on behind a page: by the cursor of its last session. */
const behind = (page: readonly ListedSession[]) => positionOf(page.at(-1)!.cursor)!;

describe('the session store', () => {
  test('finds a session by its cookie and by nothing else', async () => {
    const { session, cookie } = await world.login(node);
    expect((await node.store.find(cookie))?.session).toEqual(session);
    expect(await node.store.find(session.id)).toBeNull();
    expect(await node.store.find(`${cookie}x`)).toBeNull();
  });

  test('keeps neither the cookie nor a token anywhere but sealed', async () => {
    const { session, cookie } = await world.login(node);
    const [stored] = await node.db.sql.query<{ text: string; access_token: string }>('SELECT s::text AS text, access_token FROM user_sessions s WHERE id = $1', [session.id]);
    for (const form of [cookie, Buffer.from(cookie, 'base64url').toString('hex'), Buffer.from(cookie).toString('hex')]) expect(stored!.text).not.toContain(form);
    expect(stored!.access_token).toMatch(/^v2\.k1\./);
    expect(await node.vault.accessToken(session)).toMatch(/^eyJ/);
  });

  test('answers a session that was ended in another process at once where the cache is shared', async () => {
    const cache = createMemoryCache();
    const stores = [1, 2].map(() => new SessionStore({ db: node.db, cache, idleTimeoutMs: HOUR_MS }));
    const { session, cookie } = await world.login(node);
    for (const store of stores) expect((await store.find(cookie))?.state).toBe('live');
    await endSessions({ ...node, store: stores[0]! }, { id: session.id }, 'logout');
    for (const store of stores) expect(await store.find(cookie)).toBeNull();
  });

  test('answers from its own copy without asking anybody, until any process ends or renews the session', async () => {
    const cache = createMemoryCache();
    const stores = [1, 2].map(() => new SessionStore({ db: node.db, cache, idleTimeoutMs: HOUR_MS }));
    const { session, cookie } = await world.login(node);
    for (const store of stores) expect([store.recall(cookie), (await store.find(cookie))?.session, store.recall(cookie)]).toEqual([null, session, session]);
    await node.db.sql.query('UPDATE user_sessions SET version = version + 1 WHERE id = $1', [session.id]);
    await stores[0]!.reload(session.id);
    expect([stores[0]!.recall(cookie)?.version, stores[1]!.recall(cookie)]).toEqual([session.version + 1, null]);
    expect((await stores[1]!.find(cookie))?.session.version).toBe(session.version + 1);
    await endSessions({ ...node, store: stores[0]! }, { id: session.id }, 'logout');
    expect(stores.map((store) => store.recall(cookie))).toEqual([null, null]);
  });

  test('believes no copy, its own or the shared one, from before a gap in the news, and none during it', async () => {
    let since: number | null = 0;
    const cache = { ...createMemoryCache(), heardSince: () => since };
    const store = new SessionStore({ db: node.db, cache, idleTimeoutMs: HOUR_MS });
    const { session, cookie } = await world.login(node);
    expect((await store.find(cookie))?.state).toBe('live');
    // Ended by a process whose news got lost.
    await node.vault.end({ id: session.id }, 'logout');
    expect((await store.find(cookie))?.state).toBe('live');
    since = null;
    expect([store.recall(cookie), await store.find(cookie)]).toEqual([null, null]);
    const other = await world.login(node);
    const second = new SessionStore({ db: node.db, cache: { ...cache, bury: async () => undefined }, idleTimeoutMs: HOUR_MS });
    expect((await second.find(other.cookie))?.state).toBe('live');
    await node.vault.end({ id: other.session.id }, 'logout');
    since = Date.now() + 1;
    expect([second.recall(other.cookie), await second.find(other.cookie)]).toEqual([null, null]);
  });

  test('notes the use of many sessions in two statements, and leaves those that were noted just now', async () => {
    let now = Date.now();
    const statements: string[] = [];
    const db = { ...node.db, sql: { query: async (text: string, values?: readonly unknown[]) => (statements.push(text), node.db.sql.query(text, values)) } } as Node['db'];
    const store = new SessionStore({ db, cache: createMemoryCache(), idleTimeoutMs: HOUR_MS, now: () => now });
    const logins = await Promise.all(Array.from({ length: 20 }, () => world.login(node)));
    now += HOUR_MS / 10;
    const sessions = await Promise.all(logins.map(async ({ cookie }) => (await store.find(cookie))!.session));
    statements.length = 0;
    for (let i = 0; i < 50; i++) for (const session of sessions) store.touch(session);
    await store.settled();
    expect(statements.length).toBe(2);
    for (const { cookie } of logins) expect(store.recall(cookie)?.lastAccessedAt.getTime()).toBe(now);
    now += 20_000;
    for (const session of sessions) store.touch(session);
    await store.settled();
    for (const { cookie } of logins) expect(store.recall(cookie)?.lastAccessedAt.getTime()).toBe(now - 20_000);
  });

  test('believes a copy for 60 seconds at most', async () => {
    let now = Date.now();
    const store = new SessionStore({ db: node.db, cache: createMemoryCache(), idleTimeoutMs: HOUR_MS, now: () => now });
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
    await node.db.sql.query(`UPDATE user_sessions SET is_active = true WHERE id = $1`, [session.id]);
    await node.store.find(cookie);
    await node.db.sql.query(`UPDATE user_sessions SET is_active = false WHERE id = $1`, [session.id]);
    expect(await node.store.find(cookie)).toBeNull();
  });

  test('tells an expired session from one that never was', async () => {
    let now = Date.now();
    const store = new SessionStore({ db: node.db, cache: createMemoryCache(), idleTimeoutMs: HOUR_MS / 4, now: () => now });
    const { cookie } = await world.login(node);
    now += HOUR_MS / 2;
    expect(await store.find(cookie)).toMatchObject({ state: 'expired' });
    expect(store.isOver((await store.find(cookie))!.session)).toBe('idle_timeout');
    now += HOUR_MS;
    expect(store.isOver((await store.find(cookie))!.session)).toBe('absolute_timeout');
  });

  test('moves the idle timeout with use, and never revives an ended session by it', async () => {
    let now = Date.now();
    const store = new SessionStore({ db: node.db, cache: createMemoryCache(), idleTimeoutMs: HOUR_MS, now: () => now });
    const { session, cookie } = await world.login(node);
    now += HOUR_MS / 2;
    store.touch(session);
    await until(async () => (await store.reload(session.id))!.lastAccessedAt.getTime() === now, { what: 'the use being noted' });
    await endSessions({ ...node, store }, { id: session.id }, 'logout');
    await store.touchNow(session);
    expect(await store.find(cookie)).toBeNull();
  });

  test('takes what is in the cache for absent when it is garbage', async () => {
    const cache = createMemoryCache();
    const garbage = { ...cache, get: async () => Buffer.from('not a session') };
    const store = new SessionStore({ db: node.db, cache: garbage, idleTimeoutMs: HOUR_MS });
    const { session, cookie } = await world.login(node);
    expect((await store.find(cookie))?.session.id).toBe(session.id);
  });

  test('lists a subject\'s live sessions, page by page', async () => {
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
    const began = await Promise.all(micros.map(async (micro) => {
      const { session: { id } } = await world.login(node, 'crowd');
      await node.db.sql.query(`UPDATE user_sessions SET created_at = '2026-01-01T00:00:00Z'::timestamptz + $2 * interval '1 microsecond' WHERE id = $1`, [id, micro]);
      return { id, micro };
    }));
    const expected = began.sort((a, b) => b.micro - a.micro || (a.id < b.id ? 1 : -1)).map(({ id }) => id);
    const pages: string[] = [];
    for (let page = await node.store.list({ subject: 'crowd-1', limit: 1 }); page.length > 0; page = await node.store.list({ subject: 'crowd-1', limit: 1, after: behind(page) })) {
      pages.push(...page.map(({ id }) => id));
      if (pages.length > micros.length) break;
    }
    expect(pages).toEqual(expected);
    // A Date cannot tell them apart.
    expect(new Set((await node.store.list({ subject: 'crowd-1', limit: 10 })).map(({ createdAt }) => createdAt.getTime())).size).toBe(1);
  });

  test('finds a subject\'s sessions by an index, however many others there are', async () => {
    world.provider.setUser('one-of-many', { sub: 'one-of-many-1' });
    await world.login(node, 'one-of-many');
    await node.db.sql.query(`INSERT INTO users (id, keycloak_id) SELECT 'other-' || i, 'other-' || i FROM generate_series(1, 3000) i`);
    await node.db.sql.query(`INSERT INTO user_sessions (id, user_id, expires_at) SELECT 'other-' || i, 'other-' || i, now() + interval '1 hour' FROM generate_series(1, 3000) i`);
    await node.db.sql.query('ANALYZE users, user_sessions');
    const plans: string[] = [];
    const explain = async (text: string, values?: readonly unknown[]): Promise<unknown[]> => {
      plans.push((await node.db.sql.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, values)).map((row) => row['QUERY PLAN']).join('\n'));
      return node.db.sql.query(text, values);
    };
    const store = new SessionStore({ db: { ...node.db, sql: { query: explain } } as Node['db'], cache: createMemoryCache(), idleTimeoutMs: HOUR_MS });
    const page = await store.list({ subject: 'one-of-many-1', limit: 1 });
    expect(await store.list({ subject: 'one-of-many-1', limit: 1, after: behind(page) })).toEqual([]);
    await store.list({ limit: 1 });
    for (const plan of plans.slice(0, 2)) {
      expect(plan).toContain('user_sessions_user_id_idx');
      expect(plan).not.toContain('Seq Scan');
    }
    // The check tells a plan that reads them all.
    expect(plans[2]).toContain('Seq Scan');
    await node.db.sql.query(`DELETE FROM users WHERE id LIKE 'other-%'`);
  });
});
