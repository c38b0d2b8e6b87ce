import { userInfo } from 'node:os';
import process from 'node:process';
import { createInterface } from 'node:readline/promises';
import { type Database, isStorageUnavailable } from '@session-gateway/database';
import {
  ConfigError,
  loadKeyring,
  type ReadPolicy,
  readSecret,
} from '@session-gateway/keycloak-auth';
import {
  type DatabaseConfig,
  readDatabaseConfig,
  readJobConfig,
  withDatabase,
} from '@session-gateway/migrations';
import { StartError, UsageError } from '../../composition/exits.js';
import { reasonOf } from '../../observability/logging.js';
import { listedBody } from '../../sessions/sessionBody.js';
import { endAll, openEnding } from './ending.js';
import { parseSessionsOptions, SESSIONS_HELP, type SessionsOptions } from './options.js';
import { Output, ReaderGone, tableLine } from './output.js';
import { liveSessions, sessionEvents } from './reading.js';

const QUERY_TIMEOUT_MS = 60_000;
const DEFAULT_IDLE_SECONDS = 1_800;
const SESSION_WIDTHS = [36, 36, 20, 20, 39];
const EVENT_WIDTHS = [20, 20, 22, 36, 36, 20];

type Ends = Extract<SessionsOptions, { command: 'end' }>;

/** `sessions list`, `end` and `events`; resolves with the exit code. @throws UsageError, ConfigError, StartError */
export async function sessions(args: readonly string[]): Promise<number> {
  const options = parseSessionsOptions(args);
  const output = new Output(process.stdout);
  try {
    if (options === null) {
      await output.line(SESSIONS_HELP);
      return 0;
    }
    return options.command === 'end' ? await end(options, output) : await read(options, output);
  } catch (error) {
    // Who reads the beginning only has seen what there was to see.
    if (error instanceof ReaderGone) return 0;
    throw inWords(error);
  }
}

function inWords(error: unknown): unknown {
  const { code } = error as { code?: string };
  if (code === '42P01' || code === '42703')
    return new StartError('this database lacks what is needed: run the migrations first (migrate)');
  if (isStorageUnavailable(error))
    return new StartError(`the database cannot be reached (DATABASE_URL): ${reasonOf(error)}`);
  return error;
}

const onDatabase = <Result>(
  config: DatabaseConfig,
  work: (db: Database) => Promise<Result>,
): Promise<Result> =>
  withDatabase(config, { name: 'sessions', queryTimeoutMs: QUERY_TIMEOUT_MS }, work);

async function read(options: Exclude<SessionsOptions, Ends>, output: Output): Promise<number> {
  const problems: string[] = [];
  const config = readDatabaseConfig(process.env, problems);
  const idleTimeoutMs = readIdleTimeout(problems);
  if (problems.length > 0) throw new ConfigError(problems);
  await onDatabase(config, async (db) => {
    if (options.command === 'list') await list(db, { ...options, idleTimeoutMs }, output);
    else await events(db, options, output);
  });
  return 0;
}

function readIdleTimeout(problems: string[]): number {
  const value = process.env['SESSION_IDLE_TIMEOUT'] || String(DEFAULT_IDLE_SECONDS);
  if (!/^[1-9]\d{0,7}$/.test(value))
    problems.push('SESSION_IDLE_TIMEOUT must be a whole number of seconds');
  return Number(value) * 1_000;
}

async function list(
  db: Database,
  options: { subject: string | null; json: boolean; idleTimeoutMs: number },
  output: Output,
): Promise<void> {
  const found = liveSessions(db, options);
  if (options.json) {
    await output.array(bodies(found));
    return;
  }
  await output.line(
    tableLine(['ID', 'SUB', 'BEGAN', 'LAST USED', 'ADDRESS', 'BROWSER'], SESSION_WIDTHS),
  );
  for await (const { id, subject, createdAt, lastAccessedAt, ipAddress, userAgent } of found)
    await output.line(
      tableLine(
        [
          id,
          subject,
          seconds(createdAt),
          seconds(lastAccessedAt),
          ipAddress ?? '',
          userAgent ?? '',
        ],
        SESSION_WIDTHS,
      ),
    );
}

async function* bodies(found: ReturnType<typeof liveSessions>): AsyncGenerator<object> {
  for await (const session of found) yield listedBody(session, null);
}

async function events(
  db: Database,
  options: Extract<SessionsOptions, { command: 'events' }>,
  output: Output,
): Promise<void> {
  const found = sessionEvents(db, options);
  if (options.json) {
    await output.array(found);
    return;
  }
  await output.line(
    tableLine(['AT', 'EVENT', 'REASON', 'SESSION', 'SUB', 'ACTOR', 'ADDRESS'], EVENT_WIDTHS),
  );
  for await (const { at, event, reason, session_id, subject, actor, ip_address } of found)
    await output.line(
      tableLine(
        [
          seconds(at),
          event,
          reason ?? '',
          session_id ?? '',
          subject ?? '',
          actor,
          ip_address ?? '',
        ],
        EVENT_WIDTHS,
      ),
    );
}

const seconds = (at: Date): string => at.toISOString().replace(/\.\d+/, '');

function readReadPolicy(problems: string[]): ReadPolicy {
  const policies: readonly ReadPolicy[] = ['v2', 'v2+plan', 'all'];
  const given = process.env['TOKEN_READ_POLICY'] || 'v2+plan';
  const policy = policies.find((one) => one === given);
  if (policy === undefined)
    problems.push(`TOKEN_READ_POLICY must be one of: ${policies.join(', ')}`);
  return policy ?? 'v2+plan';
}

async function end({ which, json }: Ends, output: Output): Promise<number> {
  const problems: string[] = [];
  const config = readJobConfig(await loadKeyring(process.env, problems), problems);
  const redisUrl = readSecret(process.env, 'REDIS_URL', problems);
  const readPolicy = readReadPolicy(problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return onDatabase(config, async (db) => {
    if ('all' in which && !which.confirmed) await confirm(db);
    const ending = await openEnding({
      db,
      keyring: config.keyring,
      readPolicy,
      redisUrl,
      origin: { actor: `operator:${userInfo().username}` },
    });
    try {
      const { ended, notFound } = await endThem(db, ending, which);
      for (const id of notFound)
        process.stderr.write(`session-gateway: there is no live session ${id}\n`);
      await output.line(
        json
          ? JSON.stringify({ ended, notFound })
          : `${ended} ${ended === 1 ? 'session' : 'sessions'} ended`,
      );
      return notFound.length > 0 ? 1 : 0;
    } finally {
      await ending.close();
    }
  });
}

async function endThem(
  db: Database,
  ending: Awaited<ReturnType<typeof openEnding>>,
  which: Ends['which'],
): Promise<{ ended: number; notFound: string[] }> {
  if ('subject' in which) return { ended: await ending.end(which), notFound: [] };
  if ('all' in which) {
    const [now] = await db.sql.query<{ at: Date }>('SELECT now() AS at');
    const ended = await endAll(ending, now?.at ?? new Date(), (count) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${count} ended`);
    });
    if (process.stderr.isTTY) process.stderr.write('\r');
    return { ended, notFound: [] };
  }
  const notFound: string[] = [];
  let ended = 0;
  for (const id of which.ids) {
    const count = await ending.end({ id });
    ended += count;
    if (count === 0) notFound.push(id);
  }
  return { ended, notFound };
}

/** @throws UsageError where nobody can be asked, or the answer is not yes */
async function confirm(db: Database): Promise<void> {
  if (!process.stdin.isTTY)
    throw new UsageError('sessions end --all logs everybody out: add --yes if that is meant');
  const [row] = await db.sql.query<{ count: string }>(
    'SELECT count(*)::text AS count FROM user_sessions WHERE is_active',
  );
  const question = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await question.question(
    `This logs everybody out: ${row?.count ?? '?'} sessions. Type yes to go on: `,
  );
  question.close();
  if (answer.trim() !== 'yes') throw new UsageError('nothing was ended');
}
