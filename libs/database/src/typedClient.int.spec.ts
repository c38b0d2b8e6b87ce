import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import { findPrismaDir, migrate } from './migrate.js';
import { openDatabase } from './prisma.js';

let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.dispose());

describe('the typed client', () => {
  // @prisma/adapter-pg 7.10 writes "public" before every table unless it is told otherwise,
  // whatever the search path says.
  test('reads the tables of the schema that statements find by the search path', async () => {
    const url = await postgres.createDatabase();
    // A name that SQL has to quote, and Prisma quotes by itself.
    await postgres.query('CREATE SCHEMA "Apart"; CREATE TABLE public.users (id text)', [], url);
    const database = new URL(url).pathname.slice(1);
    await postgres.query(`ALTER DATABASE ${database} SET search_path = "Apart"`);
    await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
    const db = openDatabase({ url });
    await db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u1', 's1')`);
    const typed = await db.typed();
    expect(await typed.user.findMany({ select: { keycloakId: true } })).toEqual([
      { keycloakId: 's1' },
    ]);
    await db.close();
  });

  test('is loaded with the first call, not with the database', async () => {
    const program = `
      import { createRequire } from 'node:module';
      import { openDatabase } from ${JSON.stringify(new URL('./prisma.ts', import.meta.url).href)};
      const isLoaded = () =>
        Object.keys(createRequire(import.meta.url).cache).some((file) => file.includes('@prisma/client'));
      const db = openDatabase({ url: ${JSON.stringify(postgres.url)} });
      await db.ping();
      const before = isLoaded();
      await db.typed();
      console.log(JSON.stringify([before, isLoaded()]));
      await db.close();`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--import',
      'tsx',
      '--input-type=module',
      '--eval',
      program,
    ]);
    expect(JSON.parse(stdout)).toEqual([false, true]);
  });
});
