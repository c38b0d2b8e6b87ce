import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import { isStorageUnavailable } from './errors.js';
import { findPrismaDir, migrate } from './migrate.js';
import { type Database, openDatabase } from './prisma.js';
import type { Typed } from './typedClient.js';

let postgres: TestPostgres;
let db: Database;
let typed: Typed;
beforeAll(async () => {
  postgres = await startPostgres();
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  db = openDatabase({ url });
  typed = await db.typed();
  await db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u1', 's1')`);
});
afterAll(async () => {
  await db.close();
  await postgres.dispose();
});

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error,
  );
const WAYS: Readonly<Record<string, () => Promise<unknown>>> = {
  'a statement': () => db.sql.query('SELECT 1'),
  'a transaction': () => db.transaction((sql) => sql.query('SELECT 1')),
  'a typed read': () => typed.user.findMany(),
  'a typed write': () => typed.user.update({ where: { id: 'u1' }, data: { name: 'x' } }),
  'a typed transaction': () => typed.$transaction([typed.user.findMany()]),
  'a raw statement': () => typed.$queryRaw`SELECT 1`,
  'a ping': () => db.ping(),
};

/** Several new connections at once take a busy machine longer than one may take. */
const allAnswer = (what: string): Promise<unknown> =>
  until(
    async () =>
      (await Promise.allSettled(Object.values(WAYS).map((ask) => ask()))).every(
        ({ status }) => status === 'fulfilled',
      ),
    { what, timeoutMs: 20_000 },
  );

describe('PostgreSQL', () => {
  test.each(['stopped', 'killed', 'frozen'])(
    '%s is told from every other failure, in every way of asking, and comes back by itself',
    async (how) => {
      await allAnswer('the start');
      const under = [
        () => db.sql.query('SELECT pg_sleep(30)'),
        () => db.transaction((sql) => sql.query('SELECT pg_sleep(30)')),
        () => typed.$queryRaw`SELECT 1 FROM pg_sleep(30)`,
        () =>
          typed.$transaction(async (tx) => {
            await tx.user.findMany();
            await tx.$queryRaw`SELECT 1 FROM pg_sleep(30)`;
          }),
      ].map((ask) => failure(ask()));
      await until(
        async () => {
          const [row] = await postgres.query<{ n: number }>(
            `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event = 'PgSleep'`,
          );
          return row?.n === under.length;
        },
        { what: 'all statements under way' },
      );
      if (how === 'stopped') await postgres.stop('fast');
      else if (how === 'killed') await postgres.kill();
      else postgres.freeze();
      expect((await Promise.all(under)).map(isStorageUnavailable)).toEqual(under.map(() => true));
      for (const [name, ask] of Object.entries(WAYS))
        expect([name, isStorageUnavailable(await failure(ask()))]).toEqual([name, true]);
      if (how === 'frozen') postgres.thaw();
      else await postgres.start();
      await allAnswer('recovery');
    },
  );

  test('that breaks a connection between two statements of a transaction ends the transaction, not the process', async () => {
    const error = await failure(
      db.transaction(async (sql) => {
        const [own] = await sql.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
        await postgres.query('SELECT pg_terminate_backend($1)', [own?.pid]);
        await until(
          async () =>
            (await postgres.query('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [own?.pid]))
              .length === 0,
          { what: 'the end of the connection' },
        );
        // Another round trip, by whose end this process has read what the server said last.
        await postgres.query('SELECT 1');
        await sql.query('SELECT 1');
      }),
    );
    expect(isStorageUnavailable(error)).toBe(true);
    await db.transaction((sql) => sql.query('SELECT 1'));
  });

  test.each(['25P03', '25P04'])(
    'that has ended a transaction for its age (%s), as after a process stood still, is unavailable',
    async (code) => {
      expect(
        isStorageUnavailable(
          await failure(db.sql.query(`DO $$ BEGIN RAISE SQLSTATE '${code}'; END $$`)),
        ),
      ).toBe(true);
    },
  );

  test('that takes no more connections is unavailable, in every way of asking', async () => {
    const url = await postgres.createDatabase();
    await postgres.query(`ALTER DATABASE ${new URL(url).pathname.slice(1)} CONNECTION LIMIT 0`);
    await postgres.query(`CREATE ROLE ordinary LOGIN`);
    const full = openDatabase({ url: url.replace('postgres@', 'ordinary@') });
    const ways = [
      () => full.ping(),
      () => full.transaction((sql) => sql.query('SELECT 1')),
      async () => (await full.typed()).$queryRaw`SELECT 1`,
      async () => (await full.typed()).user.findMany(),
    ];
    for (const ask of ways) expect(isStorageUnavailable(await failure(ask()))).toBe(true);
    await full.close();
  });

  test('that lets nobody in, or lacks the database, is unavailable, in every way of asking', async () => {
    await postgres.query('CREATE ROLE locked NOLOGIN');
    for (const url of [
      postgres.url.replace('postgres@', 'locked@'),
      Object.assign(new URL(postgres.url), { pathname: '/not_there_yet' }).href,
    ]) {
      const away = openDatabase({ url });
      for (const ask of [
        () => away.ping(),
        () => away.transaction((sql) => sql.query('SELECT 1')),
        async () => (await away.typed()).user.findMany(),
      ])
        expect(isStorageUnavailable(await failure(ask()))).toBe(true);
      await expect(
        migrate({ url, prismaDir: findPrismaDir(import.meta.url) }).catch(isStorageUnavailable),
      ).resolves.toBe(true);
      await away.close();
    }
  });

  test('that takes no writes is unavailable, also for a ping', async () => {
    const url = await postgres.createDatabase();
    await postgres.query(
      `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET default_transaction_read_only = on`,
    );
    const replica = openDatabase({ url });
    for (const ask of [() => replica.ping(), () => replica.sql.query('CREATE TABLE t ()')])
      expect(isStorageUnavailable(await failure(ask()))).toBe(true);
    await replica.close();
  });

  test('that has no connection left in the pool within the time is unavailable', async () => {
    const small = openDatabase({ url: postgres.url, maxConnections: 1, connectTimeoutMs: 100 });
    await small.transaction(async () => {
      for (const ask of [() => small.ping(), async () => (await small.typed()).$queryRaw`SELECT 1`])
        expect(isStorageUnavailable(await failure(ask()))).toBe(true);
    });
    await small.ping();
    await small.close();
  });

  test('that is in recovery is unavailable, in every way of asking, and comes back by itself', async () => {
    const [folder] = await postgres.query<{ data_directory: string }>('SHOW data_directory');
    const signal = join(folder?.data_directory ?? '', 'standby.signal');
    await postgres.query('ALTER SYSTEM SET hot_standby = off');
    await postgres.stop('fast');
    await writeFile(signal, '');
    // It does not become ready as long as it is a standby.
    const starting = failure(postgres.start());
    await until(
      async () => /57P03/.test(String(((await failure(db.ping())) as { code?: string }).code)),
      { what: 'recovery' },
    );
    for (const [name, ask] of Object.entries(WAYS))
      expect([name, isStorageUnavailable(await failure(ask()))]).toEqual([name, true]);
    await postgres.kill();
    await starting;
    await rm(signal);
    await postgres.start();
    await allAnswer('recovery');
  });

  test.each<[string, () => Promise<unknown>]>([
    [
      'a unique violation',
      () => db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u2', 's1')`),
    ],
    ['a typed unique violation', () => typed.user.create({ data: { id: 'u2', keycloakId: 's1' } })],
    [
      'a missing parent',
      () => db.sql.query(`INSERT INTO user_sessions (id, user_id) VALUES ('x', 'nobody')`),
    ],
    ['a syntax error', () => db.sql.query('SELEC 1')],
    ['a raw syntax error', () => typed.$queryRawUnsafe('SELEC 1')],
    ['a bad value', () => db.sql.query(`SELECT 'x'::int`)],
    [
      'a failed check',
      () =>
        db.transaction(async (sql) => {
          await sql.query(`ALTER TABLE users ADD CONSTRAINT no_x CHECK (name <> 'x') NOT VALID`);
          await sql.query(`INSERT INTO users (id, keycloak_id, name) VALUES ('u3', 's3', 'x')`);
        }),
    ],
    [
      'a typed missing parent',
      () => typed.userSession.create({ data: { id: 'x', userId: 'nobody' } }),
    ],
    [
      'a query that is typed wrongly',
      () =>
        typed.user.create({
          data: { id: 'connection timeout', keycloakId: 5 as unknown as string },
        }),
    ],
    [
      'a bad value that speaks of outages',
      () => db.sql.query(`SELECT 'connection terminated'::int`),
    ],
    [
      'a raw bad value that speaks of outages',
      () => typed.$queryRawUnsafe(`SELECT 'connection terminated'::int`),
    ],
    [
      'a row that is not there',
      () => typed.user.update({ where: { id: 'none' }, data: { name: 'x' } }),
    ],
  ])('is not to blame for %s', async (_, ask) => {
    expect(isStorageUnavailable(await failure(ask()))).toBe(false);
  });

  test('never shows a token to a typed read', async () => {
    await db.sql.query(
      `INSERT INTO user_sessions (id, user_id, access_token, refresh_token, id_token) VALUES ('s1', 'u1', 'secret', 'secret', 'secret')`,
    );
    const [user] = await typed.user.findMany({
      where: { id: 'u1' },
      include: { sessions: true },
    });
    expect(user?.sessions).toHaveLength(1);
    const updated = await typed.userSession.update({
      where: { id: 's1' },
      data: { refreshToken: 'secret too' },
    });
    expect(JSON.stringify([user, updated, await typed.userSession.findMany()])).not.toMatch(
      /secret|"(access|refresh|id)Token"/,
    );
  });
});
