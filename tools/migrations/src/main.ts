import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { isStorageUnavailable, openDatabase } from '@session-gateway/database';
import { ConfigError } from '@session-gateway/keycloak-auth';
import { type JobConfig, readConfig } from './config.js';
import { encryptTokens, type JobResult, KeyError, UnknownKidError } from './encryptTokens.js';
import { type JobOptions, parseOptions, shapeFlags, USAGE, UsageError } from './options.js';
import { createProgress, jsonLine, summary } from './progress.js';
import { FencedError, RunHeldError, UnknownRunError } from './runs.js';
import { TableError } from './tokenTable.js';

const EXIT = { failed: 1, usage: 2, configuration: 78, interrupted: 130 } as const;
const COMMANDS = ['encrypt-tokens'];
/** Longer than any statement is given by the server, so that it only ends a connection on which nothing comes back at all. */
const QUERY_TIMEOUT_MS = 15_000;

async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  if (command === undefined || !COMMANDS.includes(command)) {
    return say(EXIT.usage, command === undefined ? 'say what to do: encrypt-tokens' : `unknown command ${command}: there is encrypt-tokens`);
  }
  const options = parseOptions(args);
  if (options === null) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const config = readConfig(process.env);
  const progress = createProgress(process.stderr);
  const interrupts = { count: 0 };
  const interrupt = (): void => {
    interrupts.count += 1;
    if (interrupts.count > 1) process.exit(EXIT.interrupted);
    progress.note('stopping after the batch under way; once more to stop at once');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const { url, stop } = await databaseOf(config);
  const database = openDatabase({ url, applicationName: 'session-gateway-encrypt-tokens', maxConnections: 4, connectTimeoutMs: 5_000, queryTimeoutMs: QUERY_TIMEOUT_MS });
  // A connection that breaks while it is in use tells its statement; without a listener it would also end the process.
  database.pool.on('connect', (connection) => connection.on('error', () => undefined));
  try {
    const result = await encryptTokens(options, { db: database, keyring: config.keyring, watcher: progress, stopRequested: () => interrupts.count > 0 });
    progress.end();
    print(result, options);
    return result.exitCode;
  } finally {
    progress.end();
    await database.close();
    await stop();
  }
}

function print(result: JobResult, options: JobOptions): void {
  const text = summary(result, { table: options.table, flags: shapeFlags(options) });
  // With --json, stdout is for programs.
  if (options.json) process.stderr.write(`${text}\n`);
  process.stdout.write(options.json ? `${jsonLine(result)}\n` : `${text}\n`);
}

async function databaseOf({ databaseUrl, dataDir }: JobConfig): Promise<{ url: string; stop: () => Promise<void> }> {
  if (databaseUrl !== undefined) return { url: databaseUrl, stop: async () => undefined };
  const folder = join(resolve(dataDir), 'postgres');
  if (!existsSync(folder)) throw new TableError(`there is no embedded database in ${folder}: set DATABASE_URL, or start the gateway once`);
  const { startEmbeddedPostgres } = await import('@session-gateway/embedded');
  return startEmbeddedPostgres({ dataDir: folder });
}

function say(code: number, ...lines: string[]): number {
  process.stderr.write(`${lines.map((line) => `encrypt-tokens: ${line}`).join('\n')}\n`);
  return code;
}

function failure(error: unknown): number {
  if (error instanceof UsageError) return say(EXIT.usage, error.message, 'see --help');
  if (error instanceof ConfigError) return say(EXIT.configuration, ...error.problems);
  if (error instanceof KeyError) return say(EXIT.configuration, error.message);
  for (const known of [TableError, RunHeldError, UnknownRunError, FencedError, UnknownKidError]) if (error instanceof known) return say(EXIT.failed, error.message);
  const { code, message } = error as { code?: string; message?: string };
  const reason = `${message ?? String(error)}${code ? ` (${code})` : ''}`;
  if (code === '55P03') return say(EXIT.failed, 'another session holds a lock on the table. Nothing is half-written; start the job again to continue');
  if (isStorageUnavailable(error)) return say(EXIT.failed, `the database cannot be reached: ${reason}; see DATABASE_URL. Nothing is half-written; start the job again to continue`);
  return say(EXIT.failed, `failed: ${reason}. Nothing is half-written; start the job again to continue`);
}

// A reader that goes away, as `head` does, must not look like a failure of the job.
for (const stream of [process.stdout, process.stderr]) stream.on('error', (error: NodeJS.ErrnoException) => { if (error.code !== 'EPIPE') throw error; });

main().catch(failure).then((code) => { process.exitCode = code; });
