import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import {
  createMemoryCache,
  type Database,
  openDatabase,
  type Sql,
} from '@session-gateway/database';
import { createWorld, HOUR_MS, type Node, QUIET, type World } from '../../testing/world.js';
import { purge } from '../audit/purge.js';
import { endSessions } from '../logout/endSessions.js';
import { ChangeFeed, type Hearing } from './ChangeFeed.js';
import { cookieHash, sessionCacheKey } from './cookieHash.js';
import { SessionStore } from './SessionStore.js';

let world: World;
let node: Node;
let db: Database;
let feed: ChangeFeed;
const heard: string[] = [];

/** What a reading tells of: hex of the hash and the version, or `gap`. */
async function reading(): Promise<string[]> {
  heard.length = 0;
  await feed.read();
  return [...heard];
}
const ended = (cookie: string): string => `${cookieHash(cookie).toString('hex')} null`;
const raised = (cookie: string, version: number): string =>
  `${cookieHash(cookie).toString('hex')} ${version}`;

beforeAll(async () => {
  world = await createWorld();
  node = world.node();
  db = openDatabase({ url: world.url });
});
afterAll(async () => {
  await db.close();
  await world.dispose();
});
beforeEach(async () => {
  feed = new ChangeFeed({ sql: db.sql });
  feed.follow({
    changed: (hash, version) => heard.push(`${hash.toString('hex')} ${version}`),
    gap: () => heard.push('gap'),
  });
  await feed.read();
});

describe('the feed of changes', () => {
  test('begins with a gap, and tells of a renewal but not of a use', async () => {
    expect(heard.splice(0)).toContain('gap');
    const { session, cookie } = await world.login(node);
    await feed.read();
    await node.store.touchNow(session);
    await node.manager.refresh(session);
    expect(await reading()).toEqual([raised(cookie, session.version + 1)]);
    expect(await reading()).toEqual([]);
  });

  test('tells once of an end, whoever ends the session and however', async () => {
    const logins = await Promise.all(Array.from({ length: 8 }, () => world.login(node)));
    await reading();
    const [own, plain, byHand, deleted, moved, cut, idle, together] = logins as [
      (typeof logins)[0],
      ...(typeof logins)[0][],
    ];
    await endSessions(node, { id: own.session.id }, 'logout');
    // As an older version beside this one does, an administrator, and a program that deletes.
    const by = (login: (typeof logins)[0] | undefined, set: string) =>
      db.sql.query(`UPDATE user_sessions SET ${set} WHERE id = $1`, [login?.session.id]);
    await by(plain, "is_active = false, ended_at = now(), end_reason = 'logout'");
    await by(byHand, 'is_active = false');
    await db.sql.query('DELETE FROM user_sessions WHERE id = $1', [deleted?.session.id]);
    await by(moved, "cookie_hash = sha256('another')");
    await by(cut, 'expires_at = now()');
    await by(idle, `last_accessed_at = now() - interval '1 day'`);
    // Raised and ended in one transaction: the end counts.
    await db.transaction(async (sql) => {
      const set = async (what: string) =>
        sql.query(`UPDATE user_sessions SET ${what} WHERE id = $1`, [together?.session.id]);
      await set(`metadata = '{"roles": []}', version = version + 1`);
      await set('is_active = false');
    });
    expect((await reading()).sort()).toEqual(logins.map(({ cookie }) => ended(cookie)).sort());
    expect(await reading()).toEqual([]);
  });

  test('misses none of the ends that are committed in another order than they were made', async () => {
    const [early, late] = [await world.login(node), await world.login(node)];
    await reading();
    const slow = await db.pool.connect();
    try {
      await slow.query('BEGIN');
      await slow.query(
        'UPDATE user_sessions SET is_active = false, ended_at = now() WHERE id = $1',
        [early.session.id],
      );
      await endSessions(node, { id: late.session.id }, 'logout');
      expect(await reading()).toEqual([ended(late.cookie)]);
      expect(await reading()).toEqual([]);
      await slow.query('COMMIT');
    } finally {
      slow.release();
    }
    expect(await reading()).toEqual([ended(early.cookie)]);
    expect(await reading()).toEqual([]);
  });

  test('tells of a gap when all sessions are gone at once, or PostgreSQL is another one', async () => {
    await db.sql.query('TRUNCATE user_sessions, exchanged_tokens');
    expect(await reading()).toEqual(['gap']);
    expect(await reading()).toEqual([]);
    await world.postgres.stop();
    await expect(feed.read()).rejects.toThrow();
    await world.postgres.start();
    expect(await reading()).toEqual(['gap']);
  });

  test("is written with its owner's rights, and by nobody else", async () => {
    const { session, cookie } = await world.login(node);
    await reading();
    await db.sql.query(`CREATE ROLE desk LOGIN`);
    await db.sql.query(`GRANT SELECT, UPDATE ON user_sessions, exchanged_tokens TO desk`);
    await db.sql.query(`GRANT DELETE ON exchanged_tokens TO desk`);
    const as = (statement: string) =>
      db.transaction(async (sql) => {
        await sql.query('SET LOCAL ROLE desk');
        await sql.query(statement);
      });
    await as(`UPDATE user_sessions SET is_active = false WHERE id = '${session.id}'`);
    expect(await reading()).toEqual([ended(cookie)]);
    await expect(as('SELECT FROM session_changes')).rejects.toThrow(/permission denied/);
    await expect(
      as(
        'CREATE TEMPORARY TABLE own (); CREATE TRIGGER t AFTER INSERT ON own EXECUTE FUNCTION tell_session_change()',
      ),
    ).rejects.toThrow(/permission denied for function/);
  });

  test('keeps its rows for minutes', async () => {
    await db.sql.query(
      `INSERT INTO session_changes (cookie_hash, at) VALUES ('old', now() - interval '6 minutes'), ('new', now())`,
    );
    expect(await purge(db.sql, HOUR_MS)).toBe(false);
    const rows = await db.sql.query(
      `SELECT FROM session_changes WHERE cookie_hash IN ('old', 'new')`,
    );
    expect(rows.length).toBe(1);
  });

  test("tells PostgreSQL's time, whatever this machine's clock says", async () => {
    const [row] = await db.sql.query<{ now: Date }>('SELECT clock_timestamp() AS now');
    expect(Math.abs(feed.now() - row!.now.getTime())).toBeLessThan(1_000);
  });
});

describe('a copy', () => {
  const HEARD: Hearing = { ...QUIET, follow: (listener) => feed.follow(listener) };
  const open = (hearing: Hearing, cache = createMemoryCache()): SessionStore =>
    new SessionStore({
      db: node.db,
      cache,
      authenticator: world.authenticator,
      feed: hearing,
      idleTimeoutMs: HOUR_MS,
    });
  const isLive = async (store: SessionStore, cookie: string): Promise<boolean> =>
    (await store.find(cookie))?.state === 'live';

  test('is refused once the feed has told of the end, the shared one too, and without the feed it is not', async () => {
    const { session, cookie } = await world.login(node);
    // A Redis that keeps the entry and takes no tombstone.
    const cache = { ...createMemoryCache(), bury: async () => undefined };
    const [store, deaf] = [open(HEARD, cache), open(QUIET, cache)];
    expect([await isLive(store, cookie), await isLive(deaf, cookie)]).toEqual([true, true]);
    await node.vault.end({ id: session.id }, 'logout');
    await feed.read();
    expect(await cache.get(sessionCacheKey(cookieHash(cookie)))).not.toBeNull();
    expect([await isLive(store, cookie), await isLive(deaf, cookie)]).toEqual([false, true]);
  });

  test('from before a gap is not believed, neither here nor the shared one', async () => {
    const { session, cookie } = await world.login(node);
    const cache = { ...createMemoryCache(), bury: async () => undefined };
    const store = open(HEARD, cache);
    await isLive(store, cookie);
    await node.vault.end({ id: session.id }, 'logout');
    await world.postgres.stop();
    await world.postgres.start();
    await feed.read();
    expect([store.recall(cookie), await isLive(store, cookie)]).toEqual([null, false]);
  });

  test('is believed for a second after PostgreSQL gave it, and where nothing answers serves for five after the feed was heard', async () => {
    const { session, cookie } = await world.login(node);
    const realNow = performance.now.bind(performance);
    let aheadMs = 0;
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => realNow() + aheadMs);
    let isAway = false;
    const away = Object.assign(new Error('nobody there'), { code: 'ECONNREFUSED' });
    const sql: Sql = {
      query: (text, values) => (isAway ? Promise.reject(away) : node.db.sql.query(text, values)),
    };
    const heardAt = realNow() + 3_000;
    const store = new SessionStore({
      db: { ...node.db, sql },
      cache: createMemoryCache(),
      authenticator: world.authenticator,
      feed: { ...QUIET, heardAt },
      idleTimeoutMs: HOUR_MS,
    });
    const answers = async (atMs: number) => {
      aheadMs = heardAt + atMs - realNow();
      return [
        store.recall(cookie) !== null,
        await isLive(store, cookie).catch((error: unknown) => error),
      ];
    };
    try {
      expect(await answers(0)).toEqual([false, true]);
      isAway = true;
      expect(await answers(500)).toEqual([true, true]);
      expect(await answers(1_500)).toEqual([false, true]);
      expect(await answers(4_500)).toEqual([false, true]);
      expect(await answers(5_500)).toEqual([false, away]);
      isAway = false;
      expect(await answers(6_000)).toEqual([false, true]);
      isAway = true;
      // The feed is not heard, but PostgreSQL gave this copy half a second ago.
      expect(await answers(6_500)).toEqual([true, true]);
      expect(await answers(7_500)).toEqual([false, away]);
      isAway = false;
      await node.vault.end({ id: session.id }, 'logout');
      expect(await answers(8_000)).toEqual([false, false]);
    } finally {
      clock.mockRestore();
    }
  });
});
