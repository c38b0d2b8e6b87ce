import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  seedOriginalSessions,
  sessionsLost,
  startOriginalApplication,
  startPostgres,
  type TestPostgres,
  until,
} from '@session-gateway/testkit';
import pg from 'pg';
import { checkSchema } from './checkSchema.js';
import { findPrismaDir, migrate } from './migrate.js';

const prismaDir = findPrismaDir(import.meta.url);
const ROWS = 100_000;
const SOME_ROWS = 10_000;
/** Longer than any lock that the steps take, shorter than one transaction over all rows. */
const LOCK_MS = 1_000;
let postgres: TestPostgres;
let initSql: string;
let seeded: string;
let small: string;

beforeAll(async () => {
  postgres = await startPostgres();
  initSql = await readFile(join(prismaDir, 'migrations/0_init/migration.sql'), 'utf8');
  seeded = await seed('seeded', ROWS);
  small = await seed('some', SOME_ROWS);
}, 120_000);
afterAll(() => postgres.dispose());

async function seed(name: string, rows: number): Promise<string> {
  const url = await postgres.createDatabase(name);
  const client = await connect(url);
  await client.query(initSql);
  await seedOriginalSessions(client, rows);
  await client.end();
  return name;
}

async function connect(url: string, name = 'test'): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: name });
  await client.connect();
  return client;
}

const copyOf = (template: string): Promise<string> => postgres.createDatabase(undefined, template);
const on =
  (url: string) =>
  <Row extends object>(text: string, values?: unknown[]) =>
    postgres.query<Row>(text, values, url);
const problems = async (url: string) => (await checkSchema({ url, prismaDir })).problems;
const endMigrations = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'session-gateway-migrate%' AND datname = current_database()`;

describe('a large database of the original application', () => {
  test('is taken over while the application reads and writes, through five ends of the program', async () => {
    const url = await copyOf(seeded);
    const application = await startOriginalApplication(url, { rows: ROWS, lockMs: LOCK_MS });
    const sql = on(url);
    const ended: string[] = [];
    const endAt = async (what: string, query: string): Promise<void> => {
      const failed = migrate({ url, prismaDir, patienceMs: 60_000 }).then(
        () => 'went through',
        () => 'ended',
      );
      await until(async () => (await sql(query)).length > 0, { what, timeoutMs: 60_000 });
      await sql(endMigrations);
      ended.push(await failed);
    };
    const filled = (rows: number) =>
      `SELECT 1 FROM (SELECT FROM user_sessions WHERE cookie_hash IS NOT NULL LIMIT ${rows}) AS f HAVING count(*) >= ${rows}`;
    await endAt(
      'the columns',
      `SELECT 1 FROM pg_attribute WHERE attrelid = 'user_sessions'::regclass AND attname = 'cookie_hash'`,
    );
    await endAt('some rows filled', filled(20_000));
    for (const index of ['cookie_hash_key', 'keycloak_session_id_idx', 'ended_at_idx'])
      await endAt(
        `the index ${index} being built`,
        `SELECT 1 FROM pg_class WHERE relname = 'user_sessions_${index}'`,
      );
    expect(ended).toEqual(['ended', 'ended', 'ended', 'ended', 'ended']);
    expect(await sql(`SELECT to_regclass('_prisma_migrations') AS history`)).toEqual([
      { history: null },
    ]);
    expect((await migrate({ url, prismaDir, patienceMs: 60_000 })).adopted).toBe(true);
    await application.stop();
    expect(application.failures).toEqual([]);
    expect(application.statements()).toBeGreaterThan(1_000);
    const client = await connect(url);
    expect(await sessionsLost(client, application)).toEqual([]);
    await client.end();
    expect(await problems(url)).toEqual([]);
    expect(await sql(`SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid`)).toEqual([]);
  }, 240_000);

  test('would stop the application if it were one transaction', async () => {
    const url = await copyOf(seeded);
    const application = await startOriginalApplication(url, { rows: ROWS, lockMs: LOCK_MS });
    await on(url)(
      await readFile(
        join(prismaDir, 'migrations/20250901000100_sealed-sessions/migration.sql'),
        'utf8',
      ),
    );
    await application.stop();
    expect(application.failures).toEqual(
      expect.arrayContaining([expect.stringContaining('lock timeout')]),
    );
  }, 120_000);
});

describe('the steps on a large table', () => {
  test('wait beside a backup without holding anybody up, and say which session they wait for', async () => {
    const url = await copyOf(small);
    const backup = await connect(url, 'a backup');
    await backup.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    const reasons: string[] = [];
    const done = migrate({
      url,
      prismaDir,
      patienceMs: 60_000,
      onWait: (reason) => reasons.push(reason),
    });
    await until(async () => Promise.resolve(reasons.some((one) => one.includes('a backup'))), {
      what: 'word of the backup',
    });
    // Whoever waits for an exclusive lock holds up all that come after it: nobody does by now.
    const application = await startOriginalApplication(url, { rows: SOME_ROWS, lockMs: LOCK_MS });
    await until(async () => Promise.resolve(application.statements() > 200), {
      what: 'the application at work',
    });
    await application.stop();
    expect(application.failures).toEqual([]);
    await backup.end();
    expect((await done).adopted).toBe(true);
    expect(reasons.join('\n')).toMatch(
      /process \d+, (role postgres, )?application a backup, since 20/,
    );
  }, 60_000);

  test('leave rows that are locked for later, and index names of others alone', async () => {
    const url = await copyOf(small);
    const sql = on(url);
    await sql(
      'CREATE UNIQUE INDEX user_sessions_ended_at_idx ON user_sessions (fingerprint); CREATE INDEX user_sessions_is_active_expires_at_idx ON user_sessions (is_active, expires_at)',
    );
    const holder = await connect(url, 'a long transaction');
    const reasons: string[] = [];
    const done = migrate({
      url,
      prismaDir,
      patienceMs: 60_000,
      onWait: (reason) => {
        reasons.push(reason);
        if (reason.includes('locked')) void holder.end();
      },
    });
    const columns = `SELECT 1 FROM pg_attribute WHERE attrelid = 'user_sessions'::regclass AND attname = 'cookie_hash'`;
    await until(async () => (await sql(columns)).length > 0, { what: 'the columns' });
    await holder.query('BEGIN; SELECT 1 FROM user_sessions ORDER BY id DESC LIMIT 3 FOR UPDATE');
    expect((await done).adopted).toBe(true);
    expect(reasons).toContainEqual(
      'rows of user_sessions that have to be changed are locked by other sessions',
    );
    expect(
      await sql('SELECT count(*)::int AS n FROM user_sessions WHERE cookie_hash IS NULL'),
    ).toEqual([{ n: 0 }]);
    expect(await problems(url)).toEqual([]);
  }, 60_000);

  test('are refused before the first change where changing a type would build an index or look at every row', async () => {
    const url = await copyOf(small);
    await on(url)(
      'CREATE INDEX by_end ON user_sessions (expires_at); ALTER TABLE user_sessions ADD CONSTRAINT later CHECK (expires_at > created_at)',
    );
    const shape = () =>
      on(url)(
        `SELECT attname, atttypid FROM pg_attribute WHERE attrelid = 'user_sessions'::regclass AND attnum > 0`,
      );
    const before = await shape();
    await expect(migrate({ url, prismaDir })).rejects.toMatchObject({
      code: 'not_adoptable',
      message: expect.stringMatching(
        /the constraint later is on column "created_at".*the index by_end is on column "expires_at" of user_sessions.*DROP INDEX CONCURRENTLY/,
      ),
    });
    expect(await shape()).toEqual(before);
  });
});
