import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import pg from 'pg';

const program = fileURLToPath(new URL('main.ts', import.meta.url));
const root = fileURLToPath(new URL('../../..', import.meta.url));
let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.dispose());

function run(
  args: string[],
  DATABASE_URL?: string,
  more: NodeJS.ProcessEnv = {},
): { status: number | null; text: string } {
  const { PATH, HOME } = process.env;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', program, ...args],
    {
      cwd: root,
      encoding: 'utf8',
      env: { PATH, HOME, ...(DATABASE_URL ? { DATABASE_URL } : {}), ...more },
    },
  );
  return { status, text: stdout + stderr };
}

/** As it was before there was a history of migrations. */
async function oldDatabase(): Promise<string> {
  const url = await postgres.createDatabase();
  await postgres.query(
    readFileSync(join(root, 'libs/database/prisma/migrations/0_init/migration.sql'), 'utf8'),
    [],
    url,
  );
  return url;
}

describe('the command', () => {
  test('migrates, checks, and says so when they differ', async () => {
    const url = await postgres.createDatabase();
    expect(run(['check'], url)).toMatchObject({
      status: 1,
      text: expect.stringContaining('0_init has not been applied'),
    });
    expect(run(['migrate'], url)).toMatchObject({
      status: 0,
      text: expect.stringContaining('applied: 0_init'),
    });
    expect(run(['migrate'], url)).toEqual({ status: 0, text: 'the database is up to date\n' });
    expect(run(['check'], url)).toEqual({
      status: 0,
      text: 'schema, migrations and database agree\n',
    });
  });

  test.each([
    [['migrate', '--drop-date'], '--drop-date'],
    [['migrate', 'now'], 'now'],
    [['check', '--drop-data'], '--drop-data'],
    [['mirgate'], 'usage'],
    [[], 'usage'],
  ])('refuses %j before it connects', (args, named) => {
    expect(run(args, 'postgresql://u:sesame@127.0.0.1:1/x')).toMatchObject({
      status: 2,
      text: expect.stringContaining(named),
    });
  });

  test('takes the address from a file, and says when it cannot', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'session-gateway-address-'));
    const DATABASE_URL_FILE = join(folder, 'url');
    expect(run(['check'], undefined, { DATABASE_URL_FILE })).toEqual({
      status: 78,
      text: 'DATABASE_URL_FILE names a file that cannot be read\n',
    });
    writeFileSync(DATABASE_URL_FILE, `${await postgres.createDatabase()}\n`);
    expect(run(['migrate'], undefined, { DATABASE_URL_FILE }).status).toBe(0);
    rmSync(folder, { recursive: true });
  });

  test('says of a busy table that it is busy', async () => {
    const url = await oldDatabase();
    const holder = new pg.Client({ connectionString: url });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE accounts');
    expect(run(['migrate'], url)).toEqual({
      status: 1,
      text: expect.stringMatching(
        /^waiting: accounts is held by process \d+[^\n]*\na table is busy, another session holds a lock on it \(accounts is held by process [^\n]*\): nothing was left half-done, run this again\n$/,
      ),
    });
    await holder.end();
    expect(run(['migrate'], url).status).toBe(0);
  });

  test('says of a statement that was ended that it was, whatever ended it', async () => {
    const url = await oldDatabase();
    await postgres.query(
      `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET statement_timeout = '100ms'`,
    );
    const holder = new pg.Client({ connectionString: url, statement_timeout: 60_000 });
    holder.on('error', () => undefined);
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE accounts');
    expect(run(['migrate'], url)).toEqual({
      status: 1,
      text: expect.stringMatching(
        /^PostgreSQL ended a statement: [^\n]*statement timeout; [^\n]*run this again\n$/,
      ),
    });
    await holder.end();
  });

  test('says of a database that takes no writes that it takes none', async () => {
    const url = await oldDatabase();
    const readOnly = `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET default_transaction_read_only =`;
    const text =
      'the database takes no writes, which migrating and checking need: it is a replica, or set to read-only; see DATABASE_URL\n';
    await postgres.query(`${readOnly} on`);
    expect(run(['migrate'], url)).toEqual({ status: 1, text });
    await postgres.query(`${readOnly} off`);
    expect(run(['migrate'], url).status).toBe(0);
    await postgres.query(`${readOnly} on`);
    expect(run(['check'], url)).toEqual({ status: 1, text });
  });

  test('drops rows only when it is told to', async () => {
    const url = await oldDatabase();
    await postgres.query(
      "INSERT INTO verifications (id, identifier, value, expires_at) VALUES ('1', 'a', 'b', now())",
      [],
      url,
    );
    expect(run(['migrate'], url)).toMatchObject({
      status: 1,
      text: expect.stringMatching(
        /^nothing was changed: verifications has 1 row;[^\n]*--drop-data[^\n]*\n$/,
      ),
    });
    expect(run(['migrate', '--drop-data'], url).status).toBe(0);
  });

  test('leaves a database alone that belongs to something else', async () => {
    const url = await postgres.createDatabase();
    await postgres.query('CREATE TABLE invoices (id int)', [], url);
    expect(run(['migrate'], url)).toEqual({
      status: 1,
      text: 'nothing was changed: this database has tables, but none of a session gateway: give the gateway a database of its own\n',
    });
  });

  const faults: [string, string | null, number, string][] = [
    ['no address', null, 78, 'DATABASE_URL is not set'],
    ['another kind of address', 'mysql://u:sesame@h/x', 78, 'DATABASE_URL is not a URL'],
    ['an unescaped password', 'postgresql://u:ses/ame@h/x', 78, 'DATABASE_URL is not a URL'],
    [
      'a badly escaped password',
      'postgresql://u:sesame%zz@127.0.0.1:1/x',
      1,
      'cannot be reached (ECONNREFUSED)',
    ],
    [
      'a server that is not there',
      'postgresql://u:sesame@127.0.0.1:1/x',
      1,
      'cannot be reached (ECONNREFUSED)',
    ],
    ['a host that is not there', 'postgresql://u:sesame@nowhere.invalid/x', 1, 'cannot be reached'],
    [
      'an unknown user',
      'postgresql://nobody:sesame@127.0.0.1:PORT/postgres',
      1,
      'role "nobody" does not exist',
    ],
    [
      'a database that is not there',
      'postgresql://postgres:sesame@127.0.0.1:PORT/nothing',
      1,
      'database "nothing" does not exist',
    ],
  ];
  test.each(
    faults.flatMap(
      ([fault, ...rest]) =>
        [
          ['migrate', fault, ...rest],
          ['check', fault, ...rest],
        ] as const,
    ),
  )('%s ends in one clear line for %s, without the password', (name, _, url, status, text) => {
    const result = run([name], url?.replace('PORT', String(postgres.port)));
    expect(result).toMatchObject({ status, text: expect.stringContaining(text) });
    expect(result.text.trim().split('\n')).toHaveLength(1);
    expect(result.text).not.toMatch(/sesame|ses\/ame/);
  });
});
