import process from 'node:process';
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { isStorageUnavailable } from '@session-gateway/database';
import { ConfigError, isAuthError, loadKeyring } from '@session-gateway/keycloak-auth';
import { readConfig, readDatabaseConfig } from './config.js';
import { control, VERBS } from './control.js';
import { encryptTokens, type JobResult, type Watcher } from './encryptTokens.js';
import { TooManyUnreadableError } from './execution.js';
import { UnknownKidError } from './judge.js';
import { RefusedError } from './keyringDocument.js';
import { keys } from './keys.js';
import { type JobOptions, parseControl, parseOptions, shapeFlags, USAGE, UsageError } from './options.js';
import { createProgress, jsonLine, summary } from './progress.js';
import { isDiskFull } from './patience.js';
import { serveMetrics } from './metrics.js';
import { checkReport, evidenceOf, ReportError, reportFiles, writeReport } from './report.js';
import { KeyError } from './rightKeys.js';
import { FencedError, UnknownRunError } from './runs.js';
import { RunHeldError } from './tableLock.js';
import { HiddenRowsError, TableError } from './tokenTable.js';
import { withDatabase } from './withDatabase.js';

const EXIT = { failed: 1, usage: 2, configuration: 78, interrupted: 130 } as const;
/** Longer than any statement is given by the server, so that it only ends a connection on which nothing comes back at all. */
const QUERY_TIMEOUT_MS = 15_000;

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  'encrypt-tokens': encrypt,
  keys: (args) => keys(args, process.env, (text) => process.stdout.write(`${text}\n`)),
};
const [command = '', ...args] = process.argv.slice(2);

async function main(): Promise<number> {
  const run = COMMANDS[command];
  return run ? run(args) : say(EXIT.usage, command === '' ? 'say what to do: encrypt-tokens or keys' : `unknown command ${command}: there are encrypt-tokens and keys`);
}

async function encrypt(given: readonly string[]): Promise<number> {
  if (VERBS.some((verb) => verb === given[0])) return controlRun(given);
  if (given[0] === 'check-report') return check(given.slice(1));
  const options = parseOptions(given);
  if (options === null) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  requireReportable(options.report);
  const problems: string[] = [];
  const config = readConfig(await loadKeyring(process.env, problems), problems);
  const progress = createProgress(process.stderr);
  const interrupts = { count: 0 };
  const interrupt = (): void => {
    interrupts.count += 1;
    if (interrupts.count > 1) process.exit(EXIT.interrupted);
    progress.note('stopping after the batch under way; once more to stop at once');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const metrics = options.metricsPort === null ? null : await serveMetrics(options.metricsPort);
  const watcher: Watcher = {
    progress(at) {
      progress.progress(at);
      metrics?.progress(at);
    },
    note: (line) => progress.note(line),
  };
  const startedAt = new Date();
  try {
    const { result, evidence } = await withDatabase(config, { name: 'encrypt-tokens', queryTimeoutMs: QUERY_TIMEOUT_MS, connections: 4 + 2 * options.workers }, async (db) => {
      const ended = await encryptTokens(options, { db, keyring: config.keyring, watcher, stopRequested: () => interrupts.count > 0 });
      return { result: ended, evidence: options.report === null ? null : await evidenceOf(ended, { options, db, keyring: config.keyring, startedAt }) };
    });
    progress.end();
    print(result, options);
    if (options.report !== null && evidence !== null) {
      const digest = await writeReport(options.report, evidence);
      progress.note(`report in ${Object.values(reportFiles(options.report)).join(' and ')}, SHA-256 ${digest}`);
    }
    return result.exitCode;
  } finally {
    progress.end();
    await metrics?.close();
  }
}

/** Before anything is done: a report that cannot be written at the end would be too late. */
function requireReportable(file: string | null): void {
  if (file === null) return;
  const files = Object.values(reportFiles(file));
  const taken = files.find((path) => existsSync(path));
  if (taken !== undefined) throw new UsageError(`--report: ${taken} is there already, and a report is never overwritten`);
  const folder = dirname(files[0] ?? '');
  try {
    accessSync(`${folder}/.`, constants.W_OK);
  } catch {
    throw new UsageError(`--report: there is no folder ${folder} that can be written to`);
  }
}

async function check(given: readonly string[]): Promise<number> {
  const [file, ...more] = given;
  if (file === undefined || file.startsWith('-') || more.length > 0) throw new UsageError('check-report takes one file');
  process.stdout.write(`${reportFiles(file).json} is as it was written, SHA-256 ${await checkReport(file)}\n`);
  return 0;
}

async function controlRun(given: readonly string[]): Promise<number> {
  const options = parseControl(given);
  if (options === null) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const problems: string[] = [];
  const config = readDatabaseConfig(process.env, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const { lines, runs, quarantine } = await withDatabase(config, { name: 'encrypt-tokens-control', queryTimeoutMs: QUERY_TIMEOUT_MS }, (db) => control(options, db));
  process.stdout.write(options.json ? `${JSON.stringify({ runs, quarantine })}\n` : `${lines.join('\n')}\n`);
  return 0;
}

function print(result: JobResult, options: JobOptions): void {
  const text = summary(result, { table: options.table, flags: shapeFlags(options), sampled: options.sample !== null });
  // With --json, stdout is for programs.
  if (options.json) process.stderr.write(`${text}\n`);
  process.stdout.write(options.json ? `${jsonLine(result)}\n` : `${text}\n`);
}

function say(code: number, ...lines: string[]): number {
  process.stderr.write(`${lines.map((line) => `${COMMANDS[command] ? command : 'migrations'}: ${line}`).join('\n')}\n`);
  return code;
}

function failure(error: unknown): number {
  if (error instanceof UsageError) return say(EXIT.usage, error.message, 'see --help');
  if (error instanceof ConfigError) return say(EXIT.configuration, ...error.problems);
  if (error instanceof KeyError || isAuthError(error, 'keyring_invalid', 'key_provider_rejected')) return say(EXIT.configuration, error.message);
  if (error instanceof RefusedError || isAuthError(error, 'key_provider_unavailable')) return say(EXIT.failed, ...error.message.split('\n'));
  for (const known of [TableError, HiddenRowsError, RunHeldError, UnknownRunError, FencedError, UnknownKidError, TooManyUnreadableError, ReportError]) if (error instanceof known) return say(EXIT.failed, error.message);
  const again = command === 'keys' ? 'Nothing was changed' : 'Nothing is half-written; start the job again to continue';
  const { code, message } = error as { code?: string; message?: string };
  const reason = `${message ?? String(error)}${code ? ` (${code})` : ''}`;
  if (code === 'EADDRINUSE' || code === 'EACCES') return say(EXIT.failed, `--metrics-port: ${message}. Nothing was changed`);
  if (code === '42P01' || code === '42703') return say(EXIT.failed, 'this database lacks a table or column that is needed: run `nx run database:migrate` first');
  if (code === '55P03') return say(EXIT.failed, `another session holds a lock on the table. ${again}`);
  if (isDiskFull(error)) return say(EXIT.failed, `the disk of the database is full: make room, see docs/runbooks/encrypt-tokens.md. ${again}`);
  if (code === '25006') return say(EXIT.failed, `the database takes no writes: it is a replica, or set to read-only; see DATABASE_URL. ${again}`);
  if (code === '57014') return say(EXIT.failed, `PostgreSQL ended a statement: ${reason}; the statement_timeout of this role or database is too short for this table. ${again}`);
  if (isStorageUnavailable(error)) return say(EXIT.failed, `the database cannot be reached: ${reason}; see DATABASE_URL. ${again}`);
  return say(EXIT.failed, `failed: ${reason}. ${again}`);
}

// A reader that goes away, as `head` does, must not look like a failure of the job.
for (const stream of [process.stdout, process.stderr]) stream.on('error', (error: NodeJS.ErrnoException) => { if (error.code !== 'EPIPE') throw error; });

main().catch(failure).then((code) => { process.exitCode = code; });
