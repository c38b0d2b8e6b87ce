import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeWith, startPgbouncer, type TestGateway, until } from '@session-gateway/testkit';
import pg from 'pg';
import { type Stack, startStack } from './stack.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** As an operator calls it. */
function database(args: string[], url: string): string {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', 'libs/database/src/main.ts', ...args],
    { cwd: root, encoding: 'utf8', env: { PATH: process.env['PATH'], DATABASE_URL: url } },
  );
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

const readiness = async (gateway: TestGateway): Promise<{ status: number; text: string }> => {
  const answer = await fetch(`${gateway.managementUrl}/health/ready`);
  return { status: answer.status, text: await answer.text() };
};

describe('a gateway that has to migrate', () => {
  let stack: Stack;
  let url: string;
  beforeAll(async () => {
    stack = await startStack({
      gateways: 2,
      redis: false,
      start: false,
      prepare: async (postgres, databaseUrl) => {
        url = databaseUrl;
        const init = 'libs/database/prisma/migrations/0_init/migration.sql';
        await postgres.query(readFileSync(`${root}/${init}`, 'utf8'), [], databaseUrl);
        await postgres.query('CREATE ROLE session_gateway LOGIN', [], databaseUrl);
        await postgres.query(
          'CREATE ROLE session_gateway_job LOGIN; CREATE ROLE session_gateway_operator LOGIN',
          [],
          databaseUrl,
        );
      },
    });
  });
  afterAll(() => stack.dispose());

  test('is live at once behind a transaction that has a table open, says whose, and goes through when it ends', async () => {
    const backup = new pg.Client({ connectionString: url, application_name: 'a backup' });
    backup.on('error', () => undefined);
    await backup.connect();
    await backup.query('BEGIN; SELECT * FROM users');
    const gateway = await stack.startGateway();
    expect((await fetch(`${gateway.url}/health/live`)).status).toBe(200);
    expect(await readiness(gateway)).toEqual({
      status: 503,
      text: expect.stringMatching(
        /users is held by process \d+, role postgres, application a backup/,
      ),
    });
    await gateway.said('users is held by process');
    expect(
      (
        await fetch(`${gateway.url}/auth/session`, {
          headers: { cookie: `session=${'A'.repeat(43)}` },
        })
      ).status,
    ).toBe(503);
    await backup.end();
    await until(async () => (await readiness(gateway)).status === 200, {
      what: 'the gateway being ready',
      timeoutMs: 30_000,
    });
    expect(
      await stack.sql(
        'SELECT count(*)::int AS n FROM _prisma_migrations WHERE finished_at IS NULL',
      ),
    ).toEqual([{ n: 0 }]);
  });

  test('runs with the rights that database:grants prints, and waits for the owner where migrations wait', async () => {
    await stack.sql(database(['grants'], url));
    const restricted = url.replace('postgres@', 'session_gateway@');
    const last = '20250901000510_lost-races';
    await stack.sql(
      `DELETE FROM _prisma_migrations WHERE migration_name = '${last}'; DROP TABLE token_encryption_lost_races`,
    );
    const gateway = await stack.startGateway({ DATABASE_URL: restricted });
    await gateway.said('migrations are waiting');
    expect((await fetch(`${gateway.url}/health/live`)).status).toBe(200);
    expect(await readiness(gateway)).toEqual({
      status: 503,
      text: expect.stringMatching(/run migrate as the owner; the role session_gateway/),
    });
    expect(
      await stack.sql('SELECT 1 FROM _prisma_migrations WHERE migration_name = $1', [last]),
    ).toEqual([]);
    expect(database(['migrate'], url)).toContain(`applied: ${last}`);
    await until(async () => (await readiness(gateway)).status === 200, {
      what: 'the gateway being ready',
      timeoutMs: 30_000,
    });
    // Login, refresh, list, logout: every table that a gateway writes to.
    const { cookie } = await stack.session();
    const ask = (path: string, method = 'GET') => stack.ask(1, path, { cookie, method });
    expect((await ask('/auth/refresh?force=true', 'POST')).status).toBe(200);
    expect((await ask('/auth/sessions')).status).toBe(200);
    expect((await ask('/api/x')).status).toBe(200);
    expect((await ask('/auth/logout', 'POST')).status).toBe(200);
    expect((await ask('/auth/session')).status).toBe(401);
  });
});

describeWith(['pgbouncer'], 'a gateway behind PgBouncer in transaction mode', () => {
  test('migrates, and does all that a person does', async () => {
    const stack = await startStack({ redis: false, start: false });
    const pooler = await startPgbouncer({ to: stack.postgres.port });
    try {
      const gateway = await stack.startGateway({
        DATABASE_URL: `${pooler.through(stack.databaseUrl)}?pgbouncer=true&connection_limit=5`,
      });
      await gateway.said('parameters that have no effect here: pgbouncer');
      const { cookie } = await stack.session();
      const ask = (path: string, method = 'GET') => stack.ask(0, path, { cookie, method });
      expect((await ask('/auth/refresh?force=true', 'POST')).status).toBe(200);
      expect((await ask('/api/x')).status).toBe(200);
      expect((await ask('/auth/logout', 'POST')).status).toBe(200);
      expect((await ask('/auth/session')).status).toBe(401);
    } finally {
      await stack.dispose();
      await pooler.dispose();
    }
  });
});
