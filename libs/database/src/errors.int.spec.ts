import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import { isStorageUnavailable } from './errors.js';
import { findPrismaDir, migrate } from './migrate.js';
import { type Database, openDatabase } from './prisma.js';

let postgres: TestPostgres;
let db: Database;
beforeAll(async () => {
  postgres = await startPostgres();
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  db = openDatabase({ url });
  await db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u1', 's1')`);
});
afterAll(async () => {
  await db.close();
  await postgres.dispose();
});

const failure = (work: Promise<unknown>): Promise<unknown> => work.then(() => { throw new Error('it did not fail'); }, (error: unknown) => error);
const WAYS: Readonly<Record<string, () => Promise<unknown>>> = {
  'a statement': () => db.sql.query('SELECT 1'),
  'a transaction': () => db.transaction((sql) => sql.query('SELECT 1')),
  'a typed read': () => db.prisma.user.findMany(),
  'a typed write': () => db.prisma.user.update({ where: { id: 'u1' }, data: { name: 'x' } }),
  'a typed transaction': () => db.prisma.$transaction([db.prisma.user.findMany()]),
  'a raw statement': () => db.prisma.$queryRaw`SELECT 1`,
  'a ping': () => db.ping(),
};

describe('PostgreSQL', () => {
  test.each(['stopped', 'killed', 'frozen'])('%s is told from every other failure, in every way of asking, and comes back by itself', async (how) => {
    await Promise.all(Object.values(WAYS).map((ask) => ask()));
    const under = db.sql.query('SELECT pg_sleep(30)');
    under.catch(() => undefined);
    if (how === 'stopped') await postgres.stop('fast');
    else if (how === 'killed') await postgres.kill();
    else postgres.freeze();
    expect(isStorageUnavailable(await failure(under))).toBe(true);
    for (const [name, ask] of Object.entries(WAYS)) expect([name, isStorageUnavailable(await failure(ask()))]).toEqual([name, true]);
    if (how === 'frozen') postgres.thaw();
    else await postgres.start();
    await until(async () => (await Promise.allSettled(Object.values(WAYS).map((ask) => ask()))).every(({ status }) => status === 'fulfilled'), { what: 'recovery', timeoutMs: 20_000 });
  });

  test('that takes no more connections is unavailable', async () => {
    const url = await postgres.createDatabase();
    await postgres.query(`ALTER DATABASE ${new URL(url).pathname.slice(1)} CONNECTION LIMIT 0`);
    await postgres.query(`CREATE ROLE ordinary LOGIN`);
    const full = openDatabase({ url: url.replace('postgres@', 'ordinary@') });
    expect(isStorageUnavailable(await failure(full.ping()))).toBe(true);
    await full.close();
  });

  test.each<[string, () => Promise<unknown>]>([
    ['a unique violation', () => db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u2', 's1')`)],
    ['a typed unique violation', () => db.prisma.user.create({ data: { id: 'u2', keycloakId: 's1' } })],
    ['a missing parent', () => db.sql.query(`INSERT INTO user_sessions (id, user_id) VALUES ('x', 'nobody')`)],
    ['a syntax error', () => db.sql.query('SELEC 1')],
    ['a raw syntax error', () => db.prisma.$queryRawUnsafe('SELEC 1')],
    ['a bad value', () => db.sql.query(`SELECT 'x'::int`)],
    ['a row that is not there', () => db.prisma.user.update({ where: { id: 'none' }, data: { name: 'x' } })],
  ])('is not to blame for %s', async (_, ask) => {
    expect(isStorageUnavailable(await failure(ask()))).toBe(false);
  });

  test('never shows a token to a typed read', async () => {
    await db.sql.query(`INSERT INTO user_sessions (id, user_id, access_token, refresh_token, id_token) VALUES ('s1', 'u1', 'secret', 'secret', 'secret')`);
    const [user] = await db.prisma.user.findMany({ where: { id: 'u1' }, include: { sessions: true } });
    expect(user?.sessions).toHaveLength(1);
    expect(JSON.stringify([user, await db.prisma.userSession.findMany()])).not.toContain('secret');
  });
});
