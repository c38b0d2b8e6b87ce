import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  seedOriginalSessions,
  startPostgres,
  type TestPostgres,
  until,
} from '@session-gateway/testkit';
import pg from 'pg';
import { findPrismaDir, migrate } from './migrate.js';

const prismaDir = findPrismaDir(import.meta.url);
let postgres: TestPostgres;

beforeAll(async () => {
  // As slow as on a table of many millions of rows.
  const settings = {
    autovacuum_naptime: '1s',
    autovacuum_vacuum_cost_delay: '100ms',
    autovacuum_vacuum_cost_limit: '1',
  };
  postgres = await startPostgres({ settings });
});
afterAll(() => postgres.dispose());

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

/** A database of the original application. */
async function original(rows: number): Promise<string> {
  const url = await postgres.createDatabase();
  const client = await connect(url);
  await client.query(await readFile(join(prismaDir, 'migrations/0_init/migration.sql'), 'utf8'));
  await seedOriginalSessions(client, rows);
  await client.end();
  return url;
}

describe('the locks of a migration', () => {
  test('are taken in the order in which logins take theirs: sessions first, then people', async () => {
    const url = await original(100);
    let stopped = false;
    // What an INSERT into user_sessions locks, and then its foreign key's check; at any time one
    // of them is between the two.
    const login = async (): Promise<void> => {
      const client = await connect(url);
      while (!stopped) {
        await client.query('BEGIN; LOCK TABLE user_sessions IN ROW EXCLUSIVE MODE');
        await delay(50);
        await client.query('LOCK TABLE users IN ROW SHARE MODE; COMMIT');
      }
      await client.end();
    };
    const logins = [login(), delay(15).then(login), delay(30).then(login)];
    const done = await migrate({ url, prismaDir, patienceMs: 10_000 }).finally(() => {
      stopped = true;
    });
    await Promise.all(logins);
    expect(done.adopted).toBe(true);
  }, 60_000);

  test('make autovacuum give way, however long it would take', async () => {
    const url = await original(2_000);
    await postgres.query('UPDATE user_sessions SET updated_at = now()', [], url);
    const vacuums = `SELECT pid FROM pg_stat_progress_vacuum WHERE datname = current_database() AND relid = 'user_sessions'::regclass`;
    await until(async () => (await postgres.query(vacuums, [], url)).length > 0, {
      what: 'autovacuum at work',
      timeoutMs: 60_000,
    });
    expect((await migrate({ url, prismaDir, patienceMs: 10_000 })).adopted).toBe(true);
    expect(postgres.log()).toMatch(/canceling autovacuum task/);
  }, 120_000);
});
