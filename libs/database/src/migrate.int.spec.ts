import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import pg from 'pg';
import { checkSchema } from './checkSchema.js';
import { isStorageUnavailable } from './errors.js';
import { findPrismaDir, migrate } from './migrate.js';

const prismaDir = findPrismaDir(import.meta.url);
const LOST_RACES = '20250901000510_lost-races';
const ALL = readdirSync(join(prismaDir, 'migrations'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();
const MODELS = [
  ...readFileSync(join(prismaDir, 'schema.prisma'), 'utf8').matchAll(/@@map\("(\w+)"\)/g),
].map(([, table = '']) => table);
let postgres: TestPostgres;
let initSql: string;
beforeAll(async () => {
  postgres = await startPostgres();
  initSql = await readFile(join(prismaDir, 'migrations/0_init/migration.sql'), 'utf8');
});
afterAll(() => postgres.dispose());

const on =
  (url: string) =>
  <Row extends object>(text: string, values?: unknown[]) =>
    postgres.query<Row>(text, values, url);
const problems = async (url: string, dir = prismaDir): Promise<readonly string[]> =>
  (await checkSchema({ url, prismaDir: dir })).problems;
const OLD_ROWS = `
  INSERT INTO users (id, keycloak_id) VALUES ('u1', 's1');
  INSERT INTO user_sessions (id, user_id, keycloak_session_id, access_token, expires_at, created_at, updated_at, last_accessed_at)
    VALUES ('old-1', 'u1', 'sid-1', 'a:plain:token', '2030-01-02 03:04:05', '2025-06-07 08:09:10.123', '2025-06-07 08:09:10.123', '2025-06-07 08:09:10.123'),
      ('old-2', 'u1', 'sid-2', NULL, '2030-01-02 03:04:05', '2025-06-07 08:09:10.123', '2025-06-07 08:09:10.123', '2025-06-07 08:09:10.123')`;

/** The same tables as somebody else might have made them. */
const FOREIGN_DDL = `
  CREATE TABLE users (id varchar(64) PRIMARY KEY, keycloak_id varchar(255) NOT NULL UNIQUE, email varchar NOT NULL DEFAULT '', created_at timestamptz DEFAULT now());
  CREATE TABLE user_sessions (id varchar(64) PRIMARY KEY, user_id varchar(64) NOT NULL REFERENCES users(id), keycloak_session_id text NOT NULL, access_token varchar(2048) NOT NULL, refresh_token text, id_token text,
    expires_at timestamptz NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), CONSTRAINT one_session_per_sid UNIQUE (keycloak_session_id))`;

describe('migrating', () => {
  test('an empty database applies everything once, also when three processes do it at the same time', async () => {
    const url = await postgres.createDatabase();
    const results = await Promise.all([1, 2, 3].map(() => migrate({ url, prismaDir })));
    expect(results.map(({ applied }) => applied).sort((a, b) => b.length - a.length)).toEqual([
      ALL,
      [],
      [],
    ]);
    expect(await migrate({ url, prismaDir })).toEqual({ applied: [], adopted: false });
    expect(await problems(url)).toEqual([]);
    const tables = await on(url)<{ name: string }>(
      `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1`,
    );
    expect(tables.map(({ name }) => name)).toEqual(['_prisma_migrations', ...MODELS].sort());
  });

  test("a database from before takes it over with its rows, its times and its sessions' cookies, without rewriting the table", async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    // The times were written in UTC, whatever the server's own time zone is.
    await sql(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET timezone = 'Asia/Tokyo'`);
    await sql(initSql);
    await sql(OLD_ROWS);
    const files = () =>
      sql<{ node: string }>(`SELECT pg_relation_filenode('user_sessions')::text AS node`);
    const before = await files();
    expect(await migrate({ url, prismaDir })).toEqual({ applied: ALL.slice(1), adopted: true });
    expect(await files()).toEqual(before);
    const rows = await sql<{
      id: string;
      hash: string;
      created: Date;
      expires: Date;
      version: number;
      access_token: string | null;
    }>(
      `SELECT id, encode(cookie_hash, 'hex') AS hash, created_at AS created, expires_at AS expires, version, access_token FROM user_sessions ORDER BY id`,
    );
    const hash = (id: string) => createHash('sha256').update(id).digest('hex');
    const times = {
      created: new Date('2025-06-07T08:09:10.123Z'),
      expires: new Date('2030-01-02T03:04:05Z'),
      version: 0,
    };
    expect(rows).toEqual([
      { id: 'old-1', hash: hash('old-1'), access_token: 'a:plain:token', ...times },
      { id: 'old-2', hash: hash('old-2'), access_token: null, ...times },
    ]);
    expect(await problems(url)).toEqual([]);

    // An older gateway goes on inserting, and two of its sessions may share a `sid` now.
    await sql(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, access_token, expires_at) VALUES ('old-3', 'u1', 'sid-1', 'x', now())`,
    );
    expect(
      await sql(`SELECT encode(cookie_hash, 'hex') AS hash FROM user_sessions WHERE id = 'old-3'`),
    ).toEqual([{ hash: hash('old-3') }]);
  });

  test('takes over tables that somebody made by hand', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await sql(FOREIGN_DDL);
    await sql(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET timezone = 'Asia/Tokyo'`);
    await sql(`INSERT INTO users (id, keycloak_id) VALUES ('u1', 's1'); INSERT INTO user_sessions (id, user_id, keycloak_session_id, access_token, expires_at, created_at)
      VALUES ('old-ü', 'u1', 'sid-1', 'x', '2030-01-02 03:04:05.678901+02', '2025-06-07 08:09:10Z')`);
    const files = () =>
      sql<{ node: string }>(`SELECT pg_relation_filenode('user_sessions')::text AS node`);
    const before = await files();
    expect(await migrate({ url, prismaDir })).toEqual({ applied: ALL.slice(1), adopted: true });
    expect(await files()).toEqual(before);
    expect(
      await sql(
        `SELECT encode(cookie_hash, 'hex') AS hash, (expires_at AT TIME ZONE 'UTC')::text AS expires, (created_at AT TIME ZONE 'UTC')::text AS created FROM user_sessions`,
      ),
    ).toEqual([
      {
        hash: createHash('sha256').update('old-ü').digest('hex'),
        expires: '2030-01-02 01:04:05.678901',
        created: '2025-06-07 08:09:10',
      },
    ]);
    await sql(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id) VALUES ('new-1', 'u1', 'sid-1'), ('new-2', 'u1', NULL)`,
    );
    // A sealed token is longer than the token that there was room for.
    await sql(`UPDATE user_sessions SET access_token = repeat('x', 4000) WHERE id = 'old-ü'`);
    expect(
      await sql(
        `SELECT count(*)::int AS n FROM user_sessions WHERE access_token IS NULL AND is_active AND version = 0 AND cookie_hash IS NOT NULL`,
      ),
    ).toEqual([{ n: 2 }]);
  });

  test('takes over what bars the way of migrations or of logins: limits, indexes of the same name, columns of others', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await sql(`CREATE TABLE users (id varchar(36) PRIMARY KEY, keycloak_id varchar(36) NOT NULL UNIQUE, email varchar(255) NOT NULL UNIQUE, name text, "emailVerified" boolean NOT NULL, created_at timestamp(3) NOT NULL, updated_at timestamp(3) NOT NULL);
      CREATE TABLE user_sessions (id varchar(36) PRIMARY KEY, user_id varchar(36) NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE, keycloak_session_id varchar(36) NOT NULL UNIQUE,
        access_token text NOT NULL, refresh_token text NOT NULL, id_token text, token_expires_at timestamp(3) NOT NULL, expires_at timestamp(3) NOT NULL, ip_address varchar(15), user_agent varchar(64), token text NOT NULL UNIQUE,
        is_active boolean NOT NULL DEFAULT true, last_accessed_at timestamp(3) NOT NULL, created_at timestamp(3) NOT NULL, updated_at timestamp(3) NOT NULL);
      CREATE UNIQUE INDEX ON users (lower(email));
      CREATE INDEX user_sessions_is_active_expires_at_idx ON user_sessions (is_active, expires_at);
      CREATE INDEX user_sessions_is_active_token_expires_at_idx ON user_sessions (token_expires_at);
      INSERT INTO users VALUES ('u1', 's1', 'one@example.com', 'One', true, now(), now());
      INSERT INTO user_sessions VALUES ('old-1', 'u1', 'sid-1', 'a', 'b', 'c', now(), now(), '127.0.0.1', 'x', 'secret', true, now(), now(), now());`);
    expect(await migrate({ url, prismaDir })).toEqual({ applied: ALL.slice(1), adopted: true });
    expect(await sql(`SELECT id, access_token, token FROM user_sessions`)).toEqual([
      { id: 'old-1', access_token: 'a', token: 'secret' },
    ]);
    // As the gateway writes, for somebody who is another user at the provider now.
    await sql(
      `INSERT INTO users (id, keycloak_id, email) VALUES (repeat('u', 40), repeat('s', 40), 'One@example.com')`,
    );
    await sql(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, ip_address, user_agent) VALUES (repeat('i', 43), repeat('u', 40), repeat('k', 255), '2001:db8::1:2:3:4', repeat('x', 500))`,
    );
    // What the older program had beside hinders nothing; the rest is as the migrations have it.
    expect(await checkSchema({ url, prismaDir })).toEqual({
      problems: [],
      notes: [
        'column users.emailVerified is in the database, but not in the migrations: left by the take-over, and harmless',
        'column user_sessions.token is in the database, but not in the migrations: left by the take-over, and harmless',
        'index user_sessions.user_sessions_token_key is in the database, but not in the migrations: left by the take-over, and harmless',
      ],
    });
    await sql(
      'ALTER TABLE user_sessions DROP COLUMN ip_address; CREATE UNIQUE INDEX one_each ON user_sessions (user_id)',
    );
    expect(await problems(url)).toEqual([
      'column user_sessions.ip_address is missing in the database',
      'index user_sessions.one_each is in the database, but not in the migrations',
    ]);
  });

  test('says what is in the way of changing a column, and has changed nothing', async () => {
    const url = await postgres.createDatabase();
    await on(url)(`${FOREIGN_DDL}; CREATE VIEW report AS SELECT access_token FROM user_sessions`);
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: expect.stringMatching(
        /nothing was changed.*view report depends on column "access_token".*drop that, migrate/,
      ),
    });
    expect(
      await on(url)(
        `SELECT to_regclass('_prisma_migrations') AS history, atttypmod FROM pg_attribute WHERE attrelid = 'user_sessions'::regclass AND attname = 'access_token'`,
      ),
    ).toEqual([{ history: null, atttypmod: 2052 }]);
  });

  test('takes over when three processes find the old database at the same time', async () => {
    const url = await postgres.createDatabase();
    await on(url)(initSql);
    await on(url)(OLD_ROWS);
    const results = await Promise.all([1, 2, 3].map(() => migrate({ url, prismaDir })));
    expect(results.map(({ applied, adopted }) => [adopted, applied.length]).sort()).toEqual([
      [false, 0],
      [false, 0],
      [true, ALL.length - 1],
    ]);
  });

  test('refuses to drop tables that hold rows, says how many, and changes nothing', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await sql(initSql);
    await sql(
      `${OLD_ROWS}; INSERT INTO accounts (id, account_id, provider_id, user_id) VALUES ('a', 'a', 'p', 'u1'), ('b', 'b', 'p', 'u1'); INSERT INTO verifications (id, identifier, value, expires_at) VALUES ('v', 'i', 'x', now())`,
    );
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'legacy_tables_not_empty',
      message: expect.stringMatching(
        /accounts has 2 rows and verifications has 1 row.*--drop-data/,
      ),
    });
    expect(
      await sql(`SELECT to_regclass('_prisma_migrations') AS history, (SELECT count(*)::int FROM accounts) AS accounts,
      (SELECT count(*)::int FROM information_schema.columns WHERE table_name = 'user_sessions' AND column_name = 'cookie_hash') AS added`),
    ).toEqual([{ history: null, accounts: 2, added: 0 }]);
    expect((await migrate({ url, prismaDir, dropData: true })).applied).toEqual(ALL.slice(1));
    expect(
      await sql(
        `SELECT to_regclass('accounts') AS accounts, to_regclass('verifications') AS verifications`,
      ),
    ).toEqual([{ accounts: null, verifications: null }]);

    // A table of that name which comes later is somebody else's, and in nobody's way.
    await sql('CREATE TABLE accounts (id int); INSERT INTO accounts VALUES (1)');
    expect(await migrate({ url, prismaDir })).toEqual({ applied: [], adopted: false });
    expect(await sql('SELECT id FROM accounts')).toEqual([{ id: 1 }]);
  });

  test('refuses tables of the same names that are something else', async () => {
    const url = await postgres.createDatabase();
    await on(url)('CREATE TABLE users (id int)');
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: expect.stringContaining('user_sessions.access_token'),
    });
  });

  test('refuses ids that are no texts before it changes anything', async () => {
    const url = await postgres.createDatabase();
    await on(url)(
      FOREIGN_DDL.replaceAll('user_sessions (id varchar(64)', 'user_sessions (id uuid'),
    );
    await on(url)('CREATE TABLE accounts (id int)');
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: 'nothing was changed: these columns are not of type text: user_sessions.id is uuid',
    });
    expect(
      await on(url)(
        `SELECT to_regclass('accounts') IS NOT NULL AS accounts, to_regclass('_prisma_migrations') AS history`,
      ),
    ).toEqual([{ accounts: true, history: null }]);
  });

  test('works in the schema that the search path leads to, and refuses to be told another one', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await sql(
      `CREATE SCHEMA "the sessions"; ALTER DATABASE ${new URL(url).pathname.slice(1)} SET search_path = "the sessions"`,
    );
    await expect(migrate({ url: `${url}?schema=public`, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: expect.stringContaining('the schema public'),
    });
    await sql(initSql);
    expect(await migrate({ url: `${url}?schema=the+sessions`, prismaDir })).toEqual({
      applied: ALL.slice(1),
      adopted: true,
    });
    expect(await migrate({ url, prismaDir })).toEqual({ applied: [], adopted: false });
    expect(await problems(url)).toEqual([]);
    expect(
      await sql(`SELECT DISTINCT schemaname AS schema FROM pg_tables WHERE tablename = ANY($1)`, [
        MODELS,
      ]),
    ).toEqual([{ schema: 'the sessions' }]);
  });

  test.each([
    ['users', 'ACCESS SHARE'],
    ['accounts', 'ACCESS EXCLUSIVE'],
    ['user_sessions', 'ROW SHARE'],
    ['user_sessions', 'ACCESS EXCLUSIVE'],
  ])(
    'gives up on %s held in mode %s, says by whom, leaves nothing behind, and goes through the next time',
    async (table, mode) => {
      const url = await postgres.createDatabase();
      const sql = on(url);
      await sql(initSql);
      await sql(OLD_ROWS);
      const holder = new pg.Client({ connectionString: url, application_name: 'a backup' });
      await holder.connect();
      await holder.query(`BEGIN; LOCK TABLE ${table} IN ${mode} MODE`);
      const error: unknown = await migrate({ url, prismaDir, patienceMs: 0 }).catch(
        (fault: unknown) => fault,
      );
      // A caller that tries again after outages tries again after this, too.
      expect([isStorageUnavailable(error), error]).toEqual([
        true,
        expect.objectContaining({
          message: expect.stringMatching(
            new RegExp(
              `${table} is held by process \\d+, role postgres, application a backup, since 20`,
            ),
          ),
        }),
      ]);
      expect(
        await sql(
          `SELECT to_regclass('_prisma_migrations') AS history, to_regclass('accounts') IS NOT NULL AS accounts,
            (SELECT count(*)::int FROM information_schema.columns WHERE table_name = 'user_sessions' AND column_name = 'cookie_hash') AS n`,
        ),
      ).toEqual([{ history: null, accounts: true, n: 0 }]);
      // Waiting for it, a migration goes through by itself.
      const waits: string[] = [];
      const patient = migrate({
        url,
        prismaDir,
        patienceMs: 60_000,
        onWait: (reason) => {
          waits.push(reason);
          void holder.end();
        },
      });
      expect((await patient).applied).toEqual(ALL.slice(1));
      expect(waits).toEqual([expect.stringContaining(`${table} is held by process`)]);
      expect(await problems(url)).toEqual([]);
    },
  );

  test('tells a connection that broke in the middle from a migration that is wrong', async () => {
    const url = await postgres.createDatabase();
    const copy = await mkdtemp(join(tmpdir(), 'session-gateway-prisma-'));
    await cp(prismaDir, copy, { recursive: true });
    const name = ALL.at(-1) ?? '';
    const last = join(copy, 'migrations', name, 'migration.sql');
    await writeFile(last, 'SELECT pg_sleep(60)');
    const broken = migrate({ url, prismaDir: copy }).catch((fault: unknown) => fault);
    await until(
      async () =>
        (
          await on(url)(
            `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`,
          )
        ).length > 0,
      { what: 'the migration under way' },
    );
    expect(isStorageUnavailable(await broken)).toBe(true);
    await writeFile(last, 'CREATE TABLE half_done (); SELECT * FROM missing');
    await expect(migrate({ url, prismaDir: copy })).rejects.toMatchObject({
      code: 'migration_failed',
      message: expect.stringMatching(
        new RegExp(`^[^\\n]*${name}: relation "missing" does not exist$`),
      ),
    });
    expect(await on(url)(`SELECT to_regclass('half_done') AS half_done`)).toEqual([
      { half_done: null },
    ]);
    expect(await on(url)(`SELECT to_regclass('_prisma_migrations') AS history`)).toEqual([
      { history: null },
    ]);
    await rm(copy, { recursive: true });
    expect((await migrate({ url, prismaDir })).applied).toEqual(ALL);
    expect(await problems(url)).toEqual([]);
  });

  test('records a corrected migration as every version before the correction knows it, so that those run beside this one', async () => {
    const url = await postgres.createDatabase();
    await migrate({ url, prismaDir });
    expect(
      await on(url)(
        `SELECT left(checksum, 8) AS sum FROM _prisma_migrations WHERE migration_name ~ '(sealed-sessions|session-events|remove-better-auth-tables)$' ORDER BY migration_name`,
      ),
    ).toEqual([{ sum: 'c66a5213' }, { sum: '94c92383' }, { sum: 'b2e18a65' }]);
  });

  test('refuses a migration that was edited, but not one that was corrected since', async () => {
    const url = await postgres.createDatabase();
    await migrate({ url, prismaDir });
    const copy = await mkdtemp(join(tmpdir(), 'session-gateway-prisma-'));
    await cp(prismaDir, copy, { recursive: true });
    await writeFile(join(copy, 'migrations/0_init/migration.sql'), `${initSql}\n-- edited`);
    await expect(migrate({ url, prismaDir: copy })).rejects.toMatchObject({
      code: 'migration_edited',
    });
    await rm(copy, { recursive: true });
    // What it was on the day when databases were migrated with it.
    const former =
      '-- Nothing has used these since sessions moved to Keycloak. `migrate` refuses to come here while they hold rows.\nDROP TABLE IF EXISTS "accounts";\nDROP TABLE IF EXISTS "verifications";\n';
    await on(url)('UPDATE _prisma_migrations SET checksum = $1 WHERE migration_name = $2', [
      createHash('sha256').update(former).digest('hex'),
      ALL[1],
    ]);
    expect(await migrate({ url, prismaDir })).toEqual({ applied: [], adopted: false });
    expect(await problems(url)).toEqual([]);
  });

  test('runs on the schema of a newer version, and looks at what it needs itself', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await migrate({ url, prismaDir });
    // One that was finished, one that failed, and one that is under way.
    await sql(`INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('n1', 'x', '29990101000000_newer', now()), ('n2', 'x', '29990101000001_failed', NULL);
      ALTER TABLE user_sessions ADD COLUMN device text; CREATE INDEX newer_idx ON user_sessions (device); CREATE TABLE newer (id int)`);
    expect(await migrate({ url, prismaDir })).toEqual({ applied: [], adopted: false });
    expect(await checkSchema({ url, prismaDir })).toEqual({
      problems: [],
      notes: [
        'the database has migrations that this version does not know: 29990101000000_newer; what they added is not looked at',
      ],
    });
    // A migration of ours that somebody's attempt left unfinished is tried again.
    await sql(
      `UPDATE _prisma_migrations SET finished_at = NULL WHERE migration_name = '${LOST_RACES}'; DROP TABLE token_encryption_lost_races; ALTER TABLE user_sessions DROP COLUMN ip_address`,
    );
    expect((await migrate({ url, prismaDir })).applied).toEqual([LOST_RACES]);
    expect(await problems(url)).toEqual([
      'column user_sessions.ip_address is missing in the database',
    ]);
  });
});

describe('the triggers', () => {
  test('work on the tables beside their own, whatever the search path of whoever writes leads to first', async () => {
    const url = await postgres.createDatabase();
    const sql = on(url);
    await migrate({ url, prismaDir });
    await sql(`CREATE ROLE elsewhere LOGIN; CREATE SCHEMA elsewhere; CREATE FUNCTION elsewhere.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$;
      ALTER ROLE elsewhere SET search_path = elsewhere, public, pg_catalog;
      ${MODELS.map((table) => `CREATE TABLE elsewhere.${table} (LIKE public.${table} INCLUDING DEFAULTS)`).join(';')};
      INSERT INTO elsewhere.exchanged_tokens (session_id, audience) VALUES ('s', 'theirs');
      GRANT ALL ON SCHEMA elsewhere TO elsewhere; GRANT ALL ON ALL TABLES IN SCHEMA public, elsewhere TO elsewhere`);
    const stranger = new URL(url);
    stranger.username = 'elsewhere';
    await on(stranger.href)(`INSERT INTO public.users (id, keycloak_id) VALUES ('u', 'u');
      INSERT INTO public.user_sessions (id, user_id, expires_at) VALUES ('s', 'u', now() + interval '1 hour');
      INSERT INTO public.exchanged_tokens (session_id, audience) VALUES ('s', 'ours');
      UPDATE public.user_sessions SET is_active = false WHERE id = 's'`);
    expect(
      await sql(`SELECT (SELECT count(*)::int FROM public.exchanged_tokens) AS ours, (SELECT count(*)::int FROM elsewhere.exchanged_tokens) AS theirs,
        (SELECT count(*)::int FROM public.session_changes) AS told, (SELECT octet_length(cookie_hash) FROM public.user_sessions) AS hash`),
    ).toEqual([{ ours: 0, theirs: 1, told: 1, hash: 32 }]);
    // Of a function that is to come, too.
    expect(
      await sql(`SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        AND NOT coalesce(array_to_string(proconfig, ' '), '') LIKE '%search_path=pg_catalog, pg_temp%'`),
    ).toEqual([]);
  });
});

describe('checking', () => {
  test.each([
    [
      'a missing column',
      'ALTER TABLE user_sessions DROP COLUMN ip_address',
      'column user_sessions.ip_address is missing in the database',
    ],
    [
      'a column too many',
      'ALTER TABLE users ADD COLUMN phone text',
      'column users.phone is in the database, but not in the migrations',
    ],
    [
      'another type',
      'ALTER TABLE user_sessions ALTER COLUMN ip_address TYPE varchar(45)',
      'column user_sessions.ip_address is',
    ],
    [
      'a lost default',
      'ALTER TABLE user_sessions ALTER COLUMN is_active DROP DEFAULT',
      'column user_sessions.is_active is',
    ],
    [
      'a missing index',
      'DROP INDEX user_sessions_cookie_hash_key',
      'index user_sessions.user_sessions_cookie_hash_key is missing',
    ],
    [
      'a foreign key that keeps what it should delete',
      'ALTER TABLE user_sessions DROP CONSTRAINT user_sessions_user_id_fkey, ADD CONSTRAINT user_sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id)',
      'constraint user_sessions.user_sessions_user_id_fkey is',
    ],
    [
      'a check too many',
      `ALTER TABLE users ADD CONSTRAINT short CHECK (name <> '')`,
      'constraint users.short is in the database, but not in the migrations',
    ],
    [
      'a trigger that is switched off',
      'ALTER TABLE user_sessions DISABLE TRIGGER user_sessions_cookie_hash',
      'trigger user_sessions.user_sessions_cookie_hash is',
    ],
    [
      'a trigger that does something else',
      'CREATE OR REPLACE FUNCTION user_sessions_cookie_hash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$',
      'trigger user_sessions.user_sessions_cookie_hash is',
    ],
    [
      'a missing trigger',
      'DROP TRIGGER user_sessions_cookie_hash ON user_sessions',
      'trigger user_sessions.user_sessions_cookie_hash is missing',
    ],
  ])('reports %s', async (_, change, expected) => {
    const url = await postgres.createDatabase();
    await migrate({ url, prismaDir });
    await on(url)(change);
    // A table of somebody else is not ours to judge, nor is what operators add once everything is sealed.
    await on(url)(
      `CREATE TABLE other (id int); ALTER TABLE user_sessions ADD CONSTRAINT sealed_tokens_only CHECK (access_token ~ '^v2')`,
    );
    expect(await problems(url)).toEqual([expect.stringContaining(expected)]);
  });

  test('reports a schema that says more than the migrations do, and migrations that wait', async () => {
    const url = await postgres.createDatabase();
    expect((await problems(url)).join('\n')).toContain('0_init has not been applied');
    await migrate({ url, prismaDir });
    const copy = await mkdtemp(join(tmpdir(), 'session-gateway-prisma-'));
    await cp(prismaDir, copy, { recursive: true });
    const schema = await readFile(join(copy, 'schema.prisma'), 'utf8');
    await writeFile(
      join(copy, 'schema.prisma'),
      schema.replace(
        '  fingerprint       String?',
        '  fingerprint       String?\n  device            String?',
      ),
    );
    expect(await problems(url, copy)).toEqual([
      'column user_sessions.device is missing in the migrations',
    ]);
    await rm(copy, { recursive: true });
    expect(schema).not.toMatch(/model (Account|Verification)/);
  });
});
