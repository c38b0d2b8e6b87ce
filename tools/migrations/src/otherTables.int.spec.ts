import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Database, findPrismaDir, migrate } from '@session-gateway/database';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { openTokenTable } from './tokenTable.js';

interface Foreign {
  readonly ddl: string;
  readonly fill: string;
  readonly table: string;
  readonly flags: readonly string[];
  readonly columns: readonly string[];
  /** A row's id as sealed values are bound to it. */ readonly id: string;
}

/** Tables as other programs make them, with a few hundred rows each. */
const TABLES: readonly [string, Foreign][] = [
  [
    'Auth.js, its PostgreSQL adapter',
    {
      ddl: `CREATE TABLE accounts (id SERIAL, "userId" INTEGER NOT NULL, type VARCHAR(255) NOT NULL, provider VARCHAR(255) NOT NULL, "providerAccountId" VARCHAR(255) NOT NULL,
      refresh_token TEXT, access_token TEXT, expires_at BIGINT, id_token TEXT, scope TEXT, session_state TEXT, token_type TEXT, PRIMARY KEY (id))`,
      fill: `INSERT INTO accounts ("userId", type, provider, "providerAccountId", access_token, refresh_token, id_token) SELECT i, 'oidc', 'keycloak', i, 'access ' || i, 'refresh ' || i, NULL FROM generate_series(1, 250) i`,
      table: 'accounts',
      flags: ['--table', 'accounts'],
      columns: ['access_token', 'refresh_token', 'id_token'],
      id: 'id::text',
    },
  ],
  [
    'Auth.js, its Hasura adapter',
    {
      ddl: `CREATE TABLE accounts (id uuid DEFAULT gen_random_uuid() NOT NULL PRIMARY KEY, type text NOT NULL, provider text NOT NULL, "providerAccountId" text NOT NULL, refresh_token text, access_token text,
      expires_at integer, token_type text, scope text, id_token text, session_state text, "userId" uuid NOT NULL)`,
      fill: `INSERT INTO accounts (type, provider, "providerAccountId", "userId", access_token, id_token) SELECT 'oidc', 'keycloak', i, gen_random_uuid(), 'access ' || i, 'id ' || i FROM generate_series(1, 250) i`,
      table: 'accounts',
      flags: ['--table', 'accounts'],
      columns: ['access_token', 'refresh_token', 'id_token'],
      id: 'id::text',
    },
  ],
  [
    'Auth.js, its Prisma and Drizzle adapters, whose rows have two columns for an id',
    {
      ddl: `CREATE TABLE "Account" ("userId" TEXT NOT NULL, "type" TEXT NOT NULL, "provider" TEXT NOT NULL, "providerAccountId" TEXT NOT NULL, "refresh_token" TEXT, "access_token" TEXT, "expires_at" INTEGER, "token_type" TEXT,
      "scope" TEXT, "id_token" TEXT, "session_state" TEXT, "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, CONSTRAINT "Account_pkey" PRIMARY KEY ("provider", "providerAccountId"))`,
      // The same account id at several providers, and ids that would be mistaken if texts were simply put side by side.
      fill: `INSERT INTO "Account" ("userId", type, provider, "providerAccountId", access_token, refresh_token) SELECT i, 'oidc', (ARRAY['git,hub', 'git"hub', 'git'])[1 + i % 3], (i / 3)::text || CASE WHEN i % 7 = 0 THEN '","' ELSE '' END, 'access ' || i, 'refresh ' || i FROM generate_series(1, 250) i`,
      table: 'Account',
      flags: ['--table', 'Account', '--id-column', 'provider,providerAccountId'],
      columns: ['access_token', 'refresh_token', 'id_token'],
      id: `to_json(ARRAY["provider", "providerAccountId"])::text`,
    },
  ],
  [
    'better-auth',
    {
      ddl: `CREATE TABLE "user" ("id" text NOT NULL PRIMARY KEY); CREATE TABLE "account" ("id" text NOT NULL PRIMARY KEY, "accountId" text NOT NULL, "providerId" text NOT NULL, "userId" text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
      "accessToken" text, "refreshToken" text, "idToken" text, "accessTokenExpiresAt" timestamptz, "refreshTokenExpiresAt" timestamptz, "scope" text, "password" text, "createdAt" timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL, "updatedAt" timestamptz NOT NULL);
      CREATE INDEX "account_userId_idx" ON "account" ("userId"); INSERT INTO "user" VALUES ('u')`,
      fill: `INSERT INTO "account" ("id", "accountId", "providerId", "userId", "accessToken", "refreshToken", "idToken", "password", "updatedAt") SELECT md5(i::text), i, 'keycloak', 'u', 'access ' || i, NULL, 'id ' || i, 'scrypt ' || i, now() FROM generate_series(1, 250) i`,
      table: 'account',
      flags: ['--table', 'account', '--columns', 'accessToken,refreshToken,idToken'],
      columns: ['accessToken', 'refreshToken', 'idToken'],
      id: 'id',
    },
  ],
  [
    'a gateway whose columns were in camelCase',
    {
      ddl: `CREATE TABLE "UserSession" ("id" TEXT PRIMARY KEY, "userId" TEXT NOT NULL, "accessToken" TEXT, "refreshToken" TEXT, "idToken" TEXT, "expiresAt" TIMESTAMP(3) NOT NULL, "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP)`,
      fill: `INSERT INTO "UserSession" SELECT 'session-' || i, 'u', 'access ' || i, 'refresh ' || i, '', now() FROM generate_series(1, 250) i`,
      table: 'UserSession',
      flags: ['--table', 'UserSession', '--columns', 'accessToken,refreshToken,idToken'],
      columns: ['accessToken', 'refreshToken', 'idToken'],
      id: 'id',
    },
  ],
];

describe('the tables of other programs', () => {
  let postgres: TestPostgres;
  let url: string;
  let db: Database;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(async () => {
    h.killJobs();
    await postgres?.dispose();
  });
  beforeEach(async () => {
    url = await postgres.createDatabase();
    db = h.open(url);
  });
  afterEach(() => db.close());

  test.each(TABLES)(
    '%s: are sealed and opened again in place, row by row, and nothing else of a row changes',
    async (_, { ddl, fill, table, flags, columns, id }) => {
      await db.sql.query(ddl);
      await db.sql.query(fill);
      const env = { ...h.ENV, DATABASE_URL: url };
      const contents = (without: readonly string[]): Promise<{ row: string }[]> =>
        db.sql.query<{ row: string }>(
          `SELECT (to_jsonb(t) - $1::text[])::text AS row FROM "${table}" t ORDER BY 1`,
          [without],
        );
      const [before, beforeOthers] = [await contents([]), await contents(columns)];
      const tokens = new Map(
        (
          await db.sql.query<{ id: string; token: string }>(
            `SELECT ${id} AS id, "${columns[0]}" AS token FROM "${table}"`,
          )
        ).map((row) => [row.id, row.token]),
      );

      expect(
        await h.runJob(
          [...flags, '--execute', '--json', '--chunk-size', '30', '--workers', '2'],
          env,
        ),
      ).toMatchObject({ code: 0, json: { scanned: 250, changed: 250, quarantined: 0 } });
      expect(await h.runJob([...flags, '--finalize', '--json'], env)).toMatchObject({
        code: 0,
        json: { scanned: 250, remaining: { plain: 0 } },
      });
      expect(await contents(columns)).toEqual(beforeOthers);
      const sealed = await db.sql.query<{ id: string; value: string }>(
        `SELECT ${id} AS id, "${columns[0]}" AS value FROM "${table}"`,
      );
      expect(
        sealed.map((row) => h.opened(row.value, row.id, columns[0] ?? '', 'v2', h.keyring, table)),
      ).toEqual(sealed.map((row) => tokens.get(row.id)));

      const plain = [
        ...flags,
        '--execute',
        '--json',
        '--to',
        'plain',
        '--i-understand-tokens-will-be-plaintext',
      ];
      expect(await h.runJob(plain, env)).toMatchObject({
        code: 0,
        json: { changed: 250, remaining: { plain: 0, plan: 0, otherKid: 0 } },
      });
      expect(await contents([])).toEqual(before);
    },
  );

  test('columns that do not name one row together are refused as its id', async () => {
    await db.sql.query(
      `CREATE TABLE accounts (provider text NOT NULL, account text NOT NULL, other text NOT NULL, access_token text, PRIMARY KEY (provider, account))`,
    );
    for (const columns of ['provider', 'provider,other', 'provider,account,other']) {
      const exit = await h.runJob(
        ['--table', 'accounts', '--id-column', columns, '--columns', 'access_token'],
        { ...h.ENV, DATABASE_URL: url },
      );
      expect(exit).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be the id') });
    }
    expect(
      await h.runJob(
        ['--table', 'accounts', '--id-column', 'account, provider', '--columns', 'access_token'],
        { ...h.ENV, DATABASE_URL: url },
      ),
    ).toMatchObject({ code: 0 });
  });

  test("a table beside sessions that migrations have not adopted yet waits for them: the job's own tables come from there", async () => {
    const prismaDir = findPrismaDir(import.meta.url);
    await db.sql.query(await readFile(join(prismaDir, 'migrations/0_init/migration.sql'), 'utf8'));
    await db.sql.query(
      `INSERT INTO users (id, keycloak_id) VALUES ('u', 'u'); CREATE TABLE archive (id text PRIMARY KEY, token text); INSERT INTO archive VALUES ('1', 'kept')`,
    );
    const run = (): Promise<h.JobExit> =>
      h.runJob(['--table', 'archive', '--columns', 'token', '--execute', '--json'], {
        ...h.ENV,
        DATABASE_URL: url,
      });
    expect(await run()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('run the migrations first (`migrate`)'),
    });
    expect((await migrate({ url, prismaDir })).adopted).toBe(true);
    expect(await run()).toMatchObject({ code: 0, json: { changed: 1 } });
  });

  test("sessions of another program are no gateway's, whatever their table is called", async () => {
    await db.sql.query(
      `CREATE TABLE user_sessions (id text PRIMARY KEY, "accessToken" text); INSERT INTO user_sessions VALUES ('1', 'a token')`,
    );
    expect(
      await h.runJob(['--columns', 'accessToken', '--execute', '--json'], {
        ...h.ENV,
        DATABASE_URL: url,
      }),
    ).toMatchObject({ code: 0, json: { changed: 1 } });
  });

  test('a table that others inherit from is refused: one of their rows may have the id of one of its own', async () => {
    await db.sql
      .query(`CREATE TABLE accounts (id int PRIMARY KEY, access_token text); CREATE TABLE old_accounts () INHERITS (accounts);
      INSERT INTO accounts VALUES (1, 'of the one'); INSERT INTO old_accounts VALUES (1, 'of the other')`);
    const exit = await h.runJob(['--table', 'accounts', '--columns', 'access_token', '--execute'], {
      ...h.ENV,
      DATABASE_URL: url,
    });
    expect(exit).toMatchObject({
      code: 1,
      stderr:
        'encrypt-tokens: other tables inherit from accounts: their rows appear in it, and may have the same ids\n',
    });
    expect(await db.sql.query('SELECT access_token AS token FROM accounts ORDER BY 1')).toEqual([
      { token: 'of the one' },
      { token: 'of the other' },
    ]);
  });

  test('partitions of a table are no such tables', async () => {
    await db.sql
      .query(`CREATE TABLE accounts (id int PRIMARY KEY, access_token text) PARTITION BY RANGE (id);
      CREATE TABLE accounts_1 PARTITION OF accounts FOR VALUES FROM (0) TO (100); CREATE TABLE accounts_2 PARTITION OF accounts DEFAULT; INSERT INTO accounts SELECT i, 'access ' || i FROM generate_series(1, 200) i`);
    const flags = ['--table', 'accounts', '--columns', 'access_token', '--json'];
    expect(
      await h.runJob([...flags, '--execute', '--workers', '2'], { ...h.ENV, DATABASE_URL: url }),
    ).toMatchObject({ code: 0, json: { changed: 200 } });
    expect(await h.runJob([...flags, '--finalize'], { ...h.ENV, DATABASE_URL: url })).toMatchObject(
      { code: 0, json: { scanned: 200 } },
    );
  });

  test('ids of times and bytes are the same ones whatever the database prints them like, and as before for whoever says so', async () => {
    await db.sql.query(
      `CREATE TABLE accounts (at timestamptz, key bytea, access_token text, PRIMARY KEY (at, key));
       INSERT INTO accounts SELECT now() + i * interval '1 ms', decode(md5(i::text), 'hex'), 'access ' || i FROM generate_series(1, 30) i`,
    );
    const flags = '--table accounts --id-column at,key --columns access_token --json'.split(' ');
    const job = (mode: string, more = '') =>
      h.runJob([...flags, mode], { ...h.ENV, DATABASE_URL: `${url}${more}` });
    expect(await job('--execute')).toMatchObject({ code: 0, json: { changed: 30 } });
    const name = new URL(url).pathname.slice(1);
    await db.sql.query(
      `ALTER DATABASE ${name} SET timezone = 'Asia/Tokyo'; ALTER DATABASE ${name} SET datestyle = 'German'; ALTER DATABASE ${name} SET bytea_output = 'escape'`,
    );
    expect(await job('--verify')).toMatchObject({ code: 0, json: { quarantined: 0 } });
    // Sealed by a version that took the settings as they were.
    await db.sql.query(`UPDATE accounts SET access_token = 'access'`);
    const former = `?options=${encodeURIComponent('-c TimeZone=Asia/Tokyo')}`;
    expect(await job('--execute', former)).toMatchObject({ code: 0, json: { changed: 30 } });
    expect(await job('--verify', former)).toMatchObject({ code: 0, json: { quarantined: 0 } });
    expect(await job('--verify')).toMatchObject({ code: 3, json: { quarantined: 30 } });
  });

  test('a large table of which PostgreSQL has no statistics, as of a partitioned one, is not counted to its end, and about right', async () => {
    await db.sql
      .query(`CREATE TABLE accounts (id int PRIMARY KEY, access_token text) PARTITION BY RANGE (id); CREATE TABLE accounts_1 PARTITION OF accounts DEFAULT WITH (autovacuum_enabled = false);
      INSERT INTO accounts SELECT i FROM generate_series(1, 600000) i`);
    const table = await openTokenTable(db.sql, {
      table: 'accounts',
      idColumn: 'id',
      columns: ['access_token'],
    });
    await db.transaction(async (sql) => {
      const count = await table.count(sql);
      expect([count > 540_000, count < 660_000]).toEqual([true, true]);
      const [read] = await sql.query<{ rows: number }>(
        `SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int AS rows FROM pg_stat_xact_user_tables WHERE relname = 'accounts_1'`,
      );
      expect(read?.rows).toBeLessThan(500_000);
    });
  });

  test('a column that PostgreSQL generates is refused before anything is made', async () => {
    await db.sql.query(
      `CREATE TABLE accounts (id int PRIMARY KEY, source text, access_token text GENERATED ALWAYS AS (source) STORED)`,
    );
    const exit = await h.runJob(['--table', 'accounts', '--columns', 'access_token', '--execute'], {
      ...h.ENV,
      DATABASE_URL: url,
    });
    expect(exit).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('column access_token of accounts is generated'),
    });
    expect(await db.sql.query(`SELECT to_regclass('token_encryption_runs') AS runs`)).toEqual([
      { runs: null },
    ]);
  });

  test.each([['--dry-run'], ['--execute'], ['--verify']])(
    'rows that a policy may hide from the role are not passed over in silence: %s',
    async (mode) => {
      await db.sql
        .query(`CREATE TABLE accounts (id int PRIMARY KEY, access_token text, tenant text); INSERT INTO accounts SELECT i, 'access ' || i, CASE i % 2 WHEN 0 THEN 'x' END FROM generate_series(1, 10) i;
      ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; CREATE POLICY tenants ON accounts USING (tenant = 'x');
      DO $$ BEGIN CREATE ROLE tenant_x LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT ALL ON accounts TO tenant_x; GRANT ALL ON SCHEMA public TO tenant_x`);
      const flags = ['--table', 'accounts', '--columns', 'access_token', '--json', mode];
      expect(
        await h.runJob(flags, { ...h.ENV, DATABASE_URL: url.replace('postgres@', 'tenant_x@') }),
      ).toMatchObject({
        code: 1,
        stdout: '',
        stderr:
          "encrypt-tokens: row-level security may hide rows of accounts from this role: take a role with BYPASSRLS, or the table's owner\n",
      });
      expect(await h.runJob(flags, { ...h.ENV, DATABASE_URL: url })).toMatchObject({
        code: mode === '--verify' ? 3 : 0,
        json: { scanned: 10 },
      });
    },
  );

  test('a value for whose sealed form a column is too short stays, is reported, and is sealed once there is room', async () => {
    await db.sql
      .query(`CREATE TABLE accounts (id int PRIMARY KEY, access_token varchar(100), refresh_token text);
      INSERT INTO accounts VALUES (1, repeat('x', 40), 'refresh'), (2, 'short', 'refresh')`);
    const flags = ['--table', 'accounts', '--columns', 'access_token,refresh_token'];
    const env = { ...h.ENV, DATABASE_URL: url };
    expect(await h.runJob(flags, env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('1 (too_long 1)'),
    });
    expect(await h.runJob([...flags, '--execute', '--json'], env)).toMatchObject({
      code: 3,
      json: { changed: 2, quarantined: 1, remaining: { plain: 1 } },
    });
    expect(
      await db.sql.query(
        `SELECT access_token AS token, refresh_token LIKE 'v2.%' AS sealed FROM accounts WHERE id = 1`,
      ),
    ).toEqual([{ token: 'x'.repeat(40), sealed: true }]);
    await db.sql.query('ALTER TABLE accounts ALTER COLUMN access_token TYPE text');
    expect(await h.runJob([...flags, '--execute', '--json'], env)).toMatchObject({
      code: 0,
      json: { changed: 1, quarantined: 0 },
    });
  });
});
