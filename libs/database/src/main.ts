import { readFileSync } from 'node:fs';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { checkSchema } from './checkSchema.js';
import { DatabaseError, isStorageUnavailable, saysCode } from './errors.js';
import { findPrismaDir, migrate } from './migrate.js';
import { parseUrl } from './parseUrl.js';

const USAGE = 'usage: nx run database:migrate [-- --drop-data] | nx run database:check';
const [EXIT_FAILED, EXIT_USAGE, EXIT_CONFIGURATION] = [1, 2, 78];

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const end = (code: number, line: string): never => {
  process.stderr.write(`${line}\n`);
  process.exit(code);
};

function command(args: string[]): { name: 'migrate' | 'check'; dropData: boolean } {
  try {
    const { values, positionals } = parseArgs({ args, options: { 'drop-data': { type: 'boolean' } }, allowPositionals: true });
    const [name, stray] = positionals;
    if (name !== 'migrate' && name !== 'check') return end(EXIT_USAGE, USAGE);
    if (stray !== undefined) return end(EXIT_USAGE, `unexpected word: ${stray}\n${USAGE}`);
    if (name === 'check' && values['drop-data']) return end(EXIT_USAGE, `--drop-data belongs to migrate\n${USAGE}`);
    return { name, dropData: values['drop-data'] ?? false };
  } catch (error) {
    return end(EXIT_USAGE, `${error instanceof Error ? error.message.split('. ')[0] : 'wrong usage'}\n${USAGE}`);
  }
}

function databaseUrl(env: NodeJS.ProcessEnv): string {
  let url = env['DATABASE_URL'];
  if (!url && env['DATABASE_URL_FILE']) {
    try {
      url = readFileSync(env['DATABASE_URL_FILE'], 'utf8').trim();
    } catch {
      end(EXIT_CONFIGURATION, 'DATABASE_URL_FILE names a file that cannot be read');
    }
  }
  if (!url) return end(EXIT_CONFIGURATION, 'DATABASE_URL is not set: the database to work on (the gateway migrates its embedded database itself)');
  if (!/^postgres(ql)?:\/\//.test(url) || !parseUrl(url)) return end(EXIT_CONFIGURATION, 'DATABASE_URL is not a URL of the form postgresql://…, without white space or control characters');
  return url;
}

const { name, dropData } = command(process.argv.slice(2));
const url = databaseUrl(process.env);
const prismaDir = findPrismaDir(import.meta.url);
try {
  if (name === 'migrate') {
    const { applied, adopted } = await migrate({ url, prismaDir, dropData });
    if (adopted) say('adopted: the tables were there already, so 0_init is recorded as applied');
    for (const migration of applied) say(`applied: ${migration}`);
    say(applied.length === 0 ? 'the database is up to date' : `the database is up to date (${applied.length} applied)`);
  } else {
    const problems = await checkSchema({ url, prismaDir });
    for (const problem of problems) process.stderr.write(`${problem}\n`);
    if (problems.length > 0) end(EXIT_FAILED, `schema, migrations and database differ in ${problems.length} place${problems.length === 1 ? '' : 's'}`);
    say('schema, migrations and database agree');
  }
} catch (error) {
  if (error instanceof DatabaseError) end(EXIT_FAILED, error.message);
  if (saysCode(error, '55P03')) end(EXIT_FAILED, 'a table is busy, another session holds a lock on it: nothing was left half-done, run this again');
  if (saysCode(error, '25006')) end(EXIT_FAILED, 'the database takes no writes, which migrating and checking need: it is a replica, or set to read-only; see DATABASE_URL');
  const { code, message } = error as { code?: string; message?: string };
  if (saysCode(error, '57014')) end(EXIT_FAILED, `PostgreSQL ended a statement: ${message ?? ''}; the statement_timeout of this role or database is too short. Nothing was left half-done, run this again`);
  end(EXIT_FAILED, isStorageUnavailable(error) ? `the database cannot be reached${code ? ` (${code})` : ''}${message ? `, ${message}` : ''}: see DATABASE_URL` : `failed: ${message ?? String(error)}`);
}
