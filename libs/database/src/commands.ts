import { readFileSync } from 'node:fs';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { checkSchema } from './checkSchema.js';
import { parseDatabaseUrl } from './databaseAddress.js';
import { DatabaseError, isStorageUnavailable, saysCode } from './errors.js';
import { grants } from './grants.js';
import { findPrismaDir, migrate, surveyDatabase } from './migrate.js';

const USAGE = `usage: migrate [--drop-data] [--times-in ZONE]
       migrate adopt --check [--drop-data] [--times-in ZONE]
       migrate check
       migrate grants [--gateway ROLE --job ROLE --operator ROLE]

  migrate                   apply the migrations that the database lacks, all of them or none
  adopt --check             tell what is in the way of taking over a database that is there already
  check                     compare schema, migrations and database
  grants                    print the rights that each role needs, as SQL

  --drop-data               drop the tables of Better-Auth with the rows that they hold
  --times-in <zone>         the zone of the times that were written without one (UTC)
  --gateway, --job, --operator <role>   names of the roles in the SQL

The database is that of DIRECT_DATABASE_URL, or else of DATABASE_URL.
exit codes: 0 done, 1 failed or in the way, 2 wrong usage, 78 configuration`;
const [EXIT_FAILED, EXIT_USAGE, EXIT_CONFIGURATION] = [1, 2, 78];
/** A person waits, and may give up earlier. */
const PATIENCE_MS = 15_000;

/** What a command line is given: arguments, environment, and where its words go. */
export interface CommandIo {
  readonly env: NodeJS.ProcessEnv;
  readonly say: (line: string) => void;
  readonly complain: (line: string) => void;
}

/** Ends the command with an exit code and a line that says why. */
class Ended extends Error {
  constructor(
    readonly code: number,
    line: string,
  ) {
    super(line);
  }
}
const end = (code: number, line: string): never => {
  throw new Ended(code, line);
};

type Flags = NonNullable<ParseArgsConfig['options']>;
type Values = Readonly<Record<string, string | boolean | undefined>>;
interface Command {
  readonly flags: Flags;
  readonly run: (values: Values, where: Where, io: CommandIo) => Promise<void>;
}
interface Where {
  readonly url: string;
  readonly prismaDir: string;
}

const TAKE_OVER: Flags = { 'drop-data': { type: 'boolean' }, 'times-in': { type: 'string' } };
const takeOver = (values: Values): { dropData: boolean; timesIn: string | null } => ({
  dropData: values['drop-data'] === true,
  timesIn: typeof values['times-in'] === 'string' ? values['times-in'] : null,
});

const COMMANDS: Readonly<Record<string, Command>> = {
  migrate: { flags: TAKE_OVER, run: runMigrate },
  adopt: { flags: { ...TAKE_OVER, check: { type: 'boolean' } }, run: runAdopt },
  check: { flags: {}, run: runCheck },
  grants: {
    flags: {
      gateway: { type: 'string', default: 'session_gateway' },
      job: { type: 'string', default: 'session_gateway_job' },
      operator: { type: 'string', default: 'session_gateway_operator' },
    },
    run: async (values, where, { say }) => {
      const roles = {
        gateway: String(values['gateway']),
        job: String(values['job']),
        operator: String(values['operator']),
      };
      for (const line of await grants(where, roles)) say(line);
    },
  },
};

async function runMigrate(
  values: Values,
  where: Where,
  { say, complain }: CommandIo,
): Promise<void> {
  const { applied, adopted } = await migrate({
    ...where,
    ...takeOver(values),
    patienceMs: PATIENCE_MS,
    onWait: (reason) => complain(`waiting: ${reason}`),
  });
  if (adopted) say('adopted: the tables were there already, so 0_init is recorded as applied');
  for (const migration of applied) say(`applied: ${migration}`);
  say(
    applied.length === 0
      ? 'the database is up to date'
      : `the database is up to date (${applied.length} applied)`,
  );
}

/** Only looks: taking over is part of migrating. */
async function runAdopt(values: Values, where: Where, { say }: CommandIo): Promise<void> {
  if (values['check'] !== true)
    end(EXIT_USAGE, `adopt only looks, with --check; migrate takes over\n${USAGE}`);
  const { home, pending, adopts, findings } = await surveyDatabase({
    ...where,
    ...takeOver(values),
  });
  const barring = findings.filter(({ bars }) => bars !== null);
  say(`schema: ${home}`);
  say(`migrations that are waiting: ${pending.length === 0 ? 'none' : pending.join(', ')}`);
  for (const { text } of barring) say(`in the way: ${text}`);
  for (const { text, bars } of findings) if (bars === null) say(`note: ${text}`);
  if (barring.length > 0)
    end(EXIT_FAILED, `${barring.length} in the way of migrating; nothing was changed`);
  say(
    adopts
      ? 'nothing is in the way: migrate would take these tables over'
      : 'nothing is in the way, and there are no tables to take over',
  );
}

async function runCheck(_: Values, where: Where, { say, complain }: CommandIo): Promise<void> {
  const { problems, notes } = await checkSchema(where);
  for (const note of notes) say(`note: ${note}`);
  for (const problem of problems) complain(problem);
  if (problems.length > 0)
    end(
      EXIT_FAILED,
      `schema, migrations and database differ in ${problems.length} place${problems.length === 1 ? '' : 's'}`,
    );
  say('schema, migrations and database agree');
}

function read(args: string[]): { command: Command; values: Values } {
  const [name = '', ...rest] = args;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) return end(EXIT_USAGE, USAGE);
  try {
    const { values, positionals } = parseArgs({
      args: rest,
      options: command.flags,
      allowPositionals: true,
    });
    if (positionals[0] !== undefined)
      return end(EXIT_USAGE, `unexpected word: ${positionals[0]}\n${USAGE}`);
    return { command, values: values as Values };
  } catch (error) {
    return end(
      EXIT_USAGE,
      `${error instanceof Error ? error.message.split('. ')[0] : 'wrong usage'}\n${USAGE}`,
    );
  }
}

/** A variable, or the content of the file that its `_FILE` variant names. */
function setting(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const file = env[`${name}_FILE`];
  if (env[name] || !file) return env[name] || undefined;
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch {
    return end(EXIT_CONFIGURATION, `${name}_FILE names a file that cannot be read`);
  }
}

/** Where PostgreSQL is without a pooler in between, or at least where it is. */
function databaseUrl(env: NodeJS.ProcessEnv): string {
  const direct = setting(env, 'DIRECT_DATABASE_URL');
  const url = direct ?? setting(env, 'DATABASE_URL');
  if (!url)
    return end(
      EXIT_CONFIGURATION,
      'DATABASE_URL is not set: the database to work on (the gateway migrates its embedded database itself)',
    );
  try {
    parseDatabaseUrl(url);
  } catch (error) {
    const name = `${direct === undefined ? '' : 'DIRECT_'}DATABASE_URL`;
    end(EXIT_CONFIGURATION, `${name} ${(error as Error).message}`);
  }
  return url;
}

function failure(error: unknown): string {
  if (error instanceof DatabaseError) return error.message;
  const { code, message } = error as { code?: string; message?: string };
  if (saysCode(error, '25006'))
    return 'the database takes no writes, which migrating and checking need: it is a replica, or set to read-only; see DATABASE_URL';
  if (saysCode(error, '57014'))
    return `PostgreSQL ended a statement: ${message ?? ''}; the statement_timeout of this role or database is too short. Nothing was left half-done, run this again`;
  return isStorageUnavailable(error)
    ? `the database cannot be reached${code ? ` (${code})` : ''}${message ? `, ${message}` : ''}: see DATABASE_URL`
    : `failed: ${message ?? String(error)}`;
}

/**
 * Runs `migrate`, `adopt`, `check` or `grants` on the database of the environment. Resolves with the exit code: 0 done,
 * 1 failed, 2 wrong usage, 78 configuration.
 */
export async function runCommand(args: readonly string[], io: CommandIo): Promise<number> {
  if (args.includes('--help')) {
    io.say(USAGE);
    return 0;
  }
  try {
    const { command, values } = read([...args]);
    const where = { url: databaseUrl(io.env), prismaDir: findPrismaDir(import.meta.url) };
    await command.run(values, where, io).catch((error: unknown) => {
      throw error instanceof Ended ? error : new Ended(EXIT_FAILED, failure(error));
    });
    return 0;
  } catch (error) {
    if (!(error instanceof Ended)) throw error;
    io.complain(error.message);
    return error.code;
  }
}
