import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import pg from 'pg';
import { findPrismaDir, migrate, surveyDatabase } from './migrate.js';

const prismaDir = findPrismaDir(import.meta.url);
let postgres: TestPostgres;
let initSql: string;
beforeAll(async () => {
  postgres = await startPostgres();
  initSql = await readFile(join(prismaDir, 'migrations/0_init/migration.sql'), 'utf8');
  await postgres.query(`CREATE ROLE gateway LOGIN; CREATE ROLE "the application" LOGIN`);
});
afterAll(() => postgres.dispose());

const on =
  (url: string) =>
  <Row extends object>(text: string, values?: unknown[]) =>
    postgres.query<Row>(text, values, url);
const as = (role: string, url: string): string =>
  url.replace('postgres@', `${encodeURIComponent(role)}@`);
const USER = `INSERT INTO users (id, keycloak_id) VALUES ('u1', 's1')`;
const ACCOUNT = `INSERT INTO accounts (id, account_id, provider_id, user_id) VALUES ('a', 'a', 'p', 'u1')`;

async function oldDatabase(more = ''): Promise<string> {
  const url = await postgres.createDatabase();
  await on(url)(initSql);
  await on(url)(`${USER}; ${more}`);
  return url;
}

describe('rows of the older tables', () => {
  test('count when they are committed while the migration waits for its lock', async () => {
    // Without the foreign key, whose check would lock `users` too, and be waited for first.
    const url = await oldDatabase('ALTER TABLE accounts DROP CONSTRAINT accounts_user_id_fkey');
    const writer = new pg.Client({ connectionString: url });
    await writer.connect();
    await writer.query(`BEGIN; ${ACCOUNT}`);
    const refused = migrate({ url, prismaDir, patienceMs: 60_000 }).catch(
      (error: unknown) => error,
    );
    await until(
      async () =>
        (
          await on(url)(
            `SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'accounts'::regclass`,
          )
        ).length > 0,
      { what: 'the migration waiting for its lock' },
    );
    await writer.query('COMMIT');
    await writer.end();
    expect(await refused).toMatchObject({
      code: 'legacy_tables_not_empty',
      message: expect.stringMatching(
        /nothing was changed: accounts has 1 row; save them.*--drop-data/,
      ),
    });
    expect(await on(url)('SELECT id FROM accounts')).toEqual([{ id: 'a' }]);
    // Whatever applies its SQL: the statement itself refuses, unless it is told.
    const sql = await readFile(
      join(prismaDir, 'migrations/20250901000000_remove-better-auth-tables/migration.sql'),
      'utf8',
    );
    await expect(on(url)(sql)).rejects.toMatchObject({
      message: 'accounts has 1 row',
      code: 'SG001',
    });
    expect((await migrate({ url, prismaDir, dropData: true })).adopted).toBe(true);
    expect(await on(url)(`SELECT to_regclass('accounts') AS accounts`)).toEqual([
      { accounts: null },
    ]);
  });

  test('count when row-level security hides them', async () => {
    const url = await oldDatabase(ACCOUNT);
    await on(
      url,
    )(`GRANT ALL ON SCHEMA public TO gateway; ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
      ALTER TABLE users OWNER TO gateway; ALTER TABLE user_sessions OWNER TO gateway; ALTER TABLE accounts OWNER TO gateway; ALTER TABLE verifications OWNER TO gateway`);
    await expect(migrate({ url: as('gateway', url), prismaDir })).rejects.toMatchObject({
      code: 'legacy_tables_not_empty',
      message: expect.stringContaining('row-level security hides rows of accounts'),
    });
    expect(await on(url)('SELECT id FROM accounts')).toEqual([{ id: 'a' }]);
  });
});

describe('tables of another application', () => {
  test('are left alone in the schema behind the own one in the search path', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await sql(`CREATE SCHEMA gateway AUTHORIZATION gateway; CREATE TABLE public.accounts (id text, account_id text, provider_id text, user_id text); INSERT INTO public.accounts VALUES ('theirs');
      CREATE TABLE public.user_sessions (id int, ended_at timestamptz); CREATE INDEX user_sessions_ended_at_idx ON public.user_sessions (ended_at);
      GRANT ALL ON ALL TABLES IN SCHEMA public TO gateway; ALTER TABLE public.accounts OWNER TO gateway; ALTER TABLE public.user_sessions OWNER TO gateway`);
    const own = on(as('gateway', url));
    await own(initSql);
    await own('DROP TABLE gateway.accounts');
    expect(await migrate({ url: as('gateway', url), prismaDir })).toMatchObject({ adopted: true });
    expect(
      await sql(`SELECT (SELECT count(*)::int FROM public.accounts) AS accounts, to_regclass('public.user_sessions_ended_at_idx') IS NOT NULL AS index,
        (SELECT count(*)::int FROM pg_tables WHERE schemaname = 'public') AS tables, to_regclass('gateway.verifications') AS dropped`),
    ).toEqual([{ accounts: 1, index: true, tables: 2, dropped: null }]);
  });

  test('are left alone beside ours when their shape is another', async () => {
    const url = await oldDatabase();
    await on(url)(
      'DROP TABLE accounts; CREATE TABLE accounts (id int, balance numeric); INSERT INTO accounts VALUES (1, 2); CREATE TABLE ledger (id int); CREATE INDEX user_sessions_ended_at_idx ON ledger (id)',
    );
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: expect.stringContaining('user_sessions_ended_at_idx is one of (id) of ledger'),
    });
    await on(url)('ALTER INDEX user_sessions_ended_at_idx RENAME TO ledger_idx');
    expect((await migrate({ url, prismaDir })).adopted).toBe(true);
    expect(await on(url)('SELECT id FROM accounts')).toEqual([{ id: 1 }]);
  });

  test("the plan's tables are found where the search path leads to them", async () => {
    const url = await oldDatabase();
    await on(
      url,
    )(`CREATE SCHEMA gateway AUTHORIZATION gateway; GRANT ALL ON SCHEMA public TO gateway;
      ALTER TABLE users OWNER TO gateway; ALTER TABLE user_sessions OWNER TO gateway; ALTER TABLE accounts OWNER TO gateway; ALTER TABLE verifications OWNER TO gateway`);
    expect((await migrate({ url: as('gateway', url), prismaDir })).adopted).toBe(true);
    expect(
      await on(url)(
        `SELECT DISTINCT schemaname AS schema FROM pg_tables WHERE tablename IN ('logout_tokens', '_prisma_migrations')`,
      ),
    ).toEqual([{ schema: 'public' }]);
  });

  test("the original application's own history of Prisma, with a 0_init of its own, does not matter", async () => {
    const url = await oldDatabase();
    const sql = on(url);
    await sql(`CREATE TABLE _prisma_migrations (id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL,
      logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0);
      INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('1', 'x', '0_init', now()), ('2', 'y', '20240101000000_add_sessions', now()), ('3', 'z', '20240102000000_failed', NULL)`);
    expect((await migrate({ url, prismaDir })).adopted).toBe(true);
    expect(await migrate({ url, prismaDir })).toEqual({ applied: [], adopted: false });
    expect(
      await sql(
        `SELECT count(*)::int AS n FROM _prisma_migrations WHERE checksum IN ('x', 'y', 'z') AND rolled_back_at IS NULL`,
      ),
    ).toEqual([{ n: 3 }]);
  });
});

describe('before the first change', () => {
  const bars: [string, string, RegExp][] = [
    [
      'a view on a column of time',
      'CREATE VIEW recent AS SELECT created_at FROM user_sessions',
      /view recent depends on column "created_at" of user_sessions.*drop that, migrate, and make it anew/,
    ],
    [
      'a trigger on a column of limited length',
      `ALTER TABLE users ALTER COLUMN email TYPE varchar(80); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER audit BEFORE UPDATE OF email ON users FOR EACH ROW EXECUTE FUNCTION f()`,
      /trigger audit on table users depends on column "email"/,
    ],
    [
      'subjects that are not unique',
      `DROP INDEX users_keycloak_id_key; INSERT INTO users (id, keycloak_id) VALUES ('u2', 's1')`,
      /users\.keycloak_id is not unique: 1 value of it is in several rows, s1 for one; give/,
    ],
    [
      'a partitioned table',
      'DROP TABLE user_sessions; CREATE TABLE user_sessions (id text PRIMARY KEY, user_id text, keycloak_session_id text, access_token text, refresh_token text, id_token text, expires_at timestamptz, created_at timestamptz, updated_at timestamptz) PARTITION BY HASH (id)',
      /user_sessions is a partitioned table, and must be a plain table/,
    ],
    [
      'a foreign key on a table that goes',
      'CREATE TABLE payments (account text REFERENCES accounts(id))',
      /foreign key payments_account_fkey of payments depends on accounts, which is dropped; drop that first/,
    ],
    [
      'ids that are not unique',
      'ALTER TABLE user_sessions DROP CONSTRAINT user_sessions_pkey',
      /user_sessions\.id is not unique; ALTER TABLE user_sessions ADD PRIMARY KEY/,
    ],
    [
      'a column of our name and another type',
      'ALTER TABLE user_sessions ADD COLUMN version text',
      /user_sessions\.version is text, and must be integer/,
    ],
    [
      'an index of our name on something else',
      'DROP INDEX user_sessions_user_id_idx; CREATE INDEX user_sessions_user_id_idx ON users (email)',
      /the index user_sessions_user_id_idx is one of \(email\).*RENAME/,
    ],
    [
      'times of another zone',
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, expires_at, created_at, updated_at, last_accessed_at) SELECT 'x', 'u1', 's', t, t, t, t FROM (SELECT now() AT TIME ZONE 'Asia/Tokyo' AS t)`,
      /do not look like UTC: the newest is 540 minutes after UTC's now/,
    ],
  ];
  test.each(bars)('names %s, and has changed nothing', async (_, change, text) => {
    const url = await oldDatabase();
    const shape = () =>
      on(url)(
        `SELECT attrelid::regclass::text, attname, atttypid, atttypmod, attnotnull FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND attnum > 0 ORDER BY 1, 2`,
      );
    await on(url)(change);
    const before = await shape();
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: expect.stringMatching(text),
    });
    expect(await shape()).toEqual(before);
    const { adopts, findings } = await surveyDatabase({ url, prismaDir });
    expect([adopts, findings.filter((one) => one.bars !== null)]).toEqual([
      true,
      [expect.objectContaining({ text: expect.stringMatching(text) })],
    ]);
  });

  test('times are moved from the zone that an operator names', async () => {
    const url = await oldDatabase();
    await on(url)(
      `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET timezone = 'America/New_York'`,
    );
    // As its defaults fill it.
    await on(url)(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, expires_at) VALUES ('x', 'u1', 's', '2030-06-01 09:00')`,
    );
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      message: expect.stringContaining('--times-in America/New_York'),
    });
    await migrate({ url, prismaDir, timesIn: 'America/New_York' });
    expect(
      await on(url)(
        `SELECT (expires_at AT TIME ZONE 'UTC')::text AS expires, abs(extract(epoch FROM now() - last_accessed_at)) < 600 AS near FROM user_sessions`,
      ),
    ).toEqual([{ expires: '2030-06-01 13:00:00', near: true }]);
  });

  test('what copies every change is worth a note', async () => {
    const url = await oldDatabase(
      `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER audit AFTER UPDATE ON user_sessions FOR EACH ROW EXECUTE FUNCTION f(); CREATE PUBLICATION everything FOR ALL TABLES`,
    );
    const { findings } = await surveyDatabase({ url, prismaDir });
    expect(findings.map(({ text, bars: why }) => [why, text.split(' sees')[0]])).toEqual([
      [null, 'the publication everything'],
      [null, 'the publication everything'],
      [null, 'the trigger audit'],
    ]);
    expect((await migrate({ url, prismaDir })).adopted).toBe(true);
  });
});

describe('a role that cannot migrate', () => {
  test('says what waits and for whom, and leaves nothing behind', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await migrate({ url, prismaDir });
    await sql(
      `DELETE FROM _prisma_migrations WHERE migration_name LIKE '%lost-races'; DROP TABLE token_encryption_lost_races; GRANT SELECT ON ALL TABLES IN SCHEMA public TO gateway`,
    );
    const history = () =>
      sql('SELECT migration_name, finished_at FROM _prisma_migrations ORDER BY 1');
    const before = await history();
    await expect(migrate({ url: as('gateway', url), prismaDir })).rejects.toMatchObject({
      code: 'migrations_waiting',
      message: expect.stringMatching(
        /migrations are waiting \(20250901000510_lost-races\): run migrate as the owner; the role gateway may not create tables in the schema public, and does not own /,
      ),
    });
    expect(await history()).toEqual(before);
    await migrate({ url, prismaDir });
    expect(await migrate({ url: as('gateway', url), prismaDir })).toEqual({
      applied: [],
      adopted: false,
    });
    await sql('REVOKE SELECT ON _prisma_migrations FROM gateway');
    await expect(migrate({ url: as('gateway', url), prismaDir })).rejects.toMatchObject({
      code: 'rights_missing',
      message: expect.stringContaining('GRANT SELECT ON "public"."_prisma_migrations" TO gateway'),
    });
  });

  test('says where a fresh schema is not its own to fill', async () => {
    const url = await postgres.createDatabase();
    await expect(migrate({ url: as('the application', url), prismaDir })).rejects.toMatchObject({
      code: 'migrations_waiting',
      message: expect.stringContaining('may not create tables in the schema public'),
    });
  });
});
