import process from 'node:process';
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { ConfigError, loadKeyring } from '@session-gateway/keycloak-auth';
import { readConfig, readDatabaseConfig } from './config.js';
import { control, VERBS } from './control.js';
import { encryptTokens } from './encryptTokens.js';
import { EXIT } from './exit.js';
import { failure } from './failure.js';
import type { JobResult } from './jobResult.js';
import type { Watcher } from './watcher.js';
import { keys } from './keys.js';
import {
  type JobOptions,
  parseControl,
  parseOptions,
  shapeFlags,
  USAGE,
  UsageError,
} from './options.js';
import { createProgress, jsonLine, summary } from './progress.js';
import { serveMetrics } from './metrics.js';
import { checkReport, evidenceOf, reportFiles, writeReport } from './report.js';
import { awaitRoom } from './patience.js';
import { requireOwnConnections } from './tableLock.js';
import { withDatabase } from './withDatabase.js';

/**
 * Longer than any statement is given by the server, so that it only ends a connection on which
 * nothing comes back at all.
 */
const QUERY_TIMEOUT_MS = 15_000;

const COMMANDS = {
  'encrypt-tokens': encrypt,
  keys: (args: readonly string[]) =>
    keys(args, process.env, (text) => process.stdout.write(`${text}\n`)),
};
/** The commands of the job. */
export type JobCommand = keyof typeof COMMANDS;

/** Runs a command to its end and resolves with the exit code; what went wrong stands on stderr by then. */
export async function runJob(command: JobCommand, args: readonly string[]): Promise<number> {
  // A reader that goes away, as `head` does, must not look like a failure of the job.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  return COMMANDS[command](args).catch((error: unknown) => failure(command, error));
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
    const { result, evidence } = await withDatabase(
      config,
      {
        name: 'encrypt-tokens',
        queryTimeoutMs: QUERY_TIMEOUT_MS,
        connections: 4 + 2 * options.workers,
      },
      async (db) => {
        await awaitRoom(
          db,
          (line) => watcher.note(line),
          () => interrupts.count > 0,
        );
        if (options.mode === 'execute' && !config.isDirect) await requireOwnConnections(db);
        const ended = await encryptTokens(options, {
          db,
          keyring: config.keyring,
          watcher,
          stopRequested: () => interrupts.count > 0,
        });
        return {
          result: ended,
          evidence:
            options.report === null
              ? null
              : await evidenceOf(ended, { options, db, keyring: config.keyring, startedAt }),
        };
      },
    );
    progress.end();
    print(result, options);
    if (options.report !== null && evidence !== null) {
      const digest = await writeReport(options.report, evidence);
      progress.note(
        `report in ${Object.values(reportFiles(options.report)).join(' and ')}, SHA-256 ${digest}`,
      );
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
  if (taken !== undefined)
    throw new UsageError(`--report: ${taken} is there already, and a report is never overwritten`);
  const folder = dirname(files[0] ?? '');
  try {
    accessSync(`${folder}/.`, constants.W_OK);
  } catch {
    throw new UsageError(`--report: there is no folder ${folder} that can be written to`);
  }
}

async function check(given: readonly string[]): Promise<number> {
  const [file, ...more] = given;
  if (file === undefined || file.startsWith('-') || more.length > 0)
    throw new UsageError('check-report takes one file');
  process.stdout.write(
    `${reportFiles(file).json} is as it was written, SHA-256 ${await checkReport(file)}\n`,
  );
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
  const { lines, runs, quarantine } = await withDatabase(
    config,
    { name: 'encrypt-tokens-control', queryTimeoutMs: QUERY_TIMEOUT_MS },
    (db) => control(options, db),
  );
  process.stdout.write(
    options.json ? `${JSON.stringify({ runs, quarantine })}\n` : `${lines.join('\n')}\n`,
  );
  return 0;
}

function print(result: JobResult, options: JobOptions): void {
  const text = summary(result, {
    table: options.table,
    flags: shapeFlags(options),
    sampled: options.sample !== null,
  });
  // With --json, stdout is for programs.
  if (options.json) process.stderr.write(`${text}\n`);
  process.stdout.write(options.json ? `${jsonLine(result)}\n` : `${text}\n`);
}
