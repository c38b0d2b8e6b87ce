import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';

const program = fileURLToPath(new URL('main.ts', import.meta.url));
const root = fileURLToPath(new URL('../../..', import.meta.url));
let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.dispose());

function run(args: string[], DATABASE_URL?: string): { status: number | null; text: string } {
  const { PATH, HOME } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', program, ...args], { cwd: root, encoding: 'utf8', env: { PATH, HOME, ...(DATABASE_URL ? { DATABASE_URL } : {}) } });
  return { status, text: stdout + stderr };
}

describe('the command', () => {
  test('migrates, checks, and says so when they differ', async () => {
    const url = await postgres.createDatabase();
    expect(run(['check'], url)).toMatchObject({ status: 1, text: expect.stringContaining('0_init has not been applied') });
    expect(run(['migrate'], url)).toMatchObject({ status: 0, text: expect.stringContaining('applied: 0_init') });
    expect(run(['migrate'], url)).toEqual({ status: 0, text: 'the database is up to date\n' });
    expect(run(['check'], url)).toEqual({ status: 0, text: 'schema, migrations and database agree\n' });
  });

  test.each([[['migrate', '--drop-date'], '--drop-date'], [['migrate', 'now'], 'now'], [['check', '--drop-data'], '--drop-data'], [['mirgate'], 'usage'], [[], 'usage']])('refuses %j before it connects', (args, named) => {
    expect(run(args, 'postgresql://u:sesame@127.0.0.1:1/x')).toMatchObject({ status: 2, text: expect.stringContaining(named) });
  });

  test.each([[undefined, 78, 'DATABASE_URL is not set'], ['mysql://u:sesame@h/x', 78, 'DATABASE_URL is not a URL'], ['postgresql://u:sesame@127.0.0.1:1/x', 1, 'cannot be reached']])('with the address %s ends with %d in one clear line', (url, status, text) => {
    const result = run(['migrate'], url);
    expect(result).toMatchObject({ status, text: expect.stringContaining(text) });
    expect(result.text.trim().split('\n')).toHaveLength(1);
    expect(result.text).not.toContain('sesame');
  });
});
