import { isStorageUnavailable } from '@session-gateway/database';
import { ConfigError, isAuthError } from '@session-gateway/keycloak-auth';
import { TooManyUnreadableError } from './execution.js';
import { EXIT } from './exit.js';
import { UnknownKidError } from './judge.js';
import { RefusedError } from './keyringDocument.js';
import { UsageError } from './options.js';
import { isDiskFull } from './patience.js';
import { ReportError } from './report.js';
import { KeyError } from './rightKeys.js';
import { FencedError, UnknownRunError } from './runs.js';
import { RunHeldError } from './tableLock.js';
import { HiddenRowsError, TableError } from './tokenTable.js';

/** Errors whose message says all that there is to say. */
const TOLD = [
  TableError,
  HiddenRowsError,
  RunHeldError,
  UnknownRunError,
  FencedError,
  UnknownKidError,
  TooManyUnreadableError,
  ReportError,
];
const LACKS_TABLES =
  'this database lacks a table or column that is needed: run the migrations first (`migrate`)';

/** Says on stderr what went wrong and what to do, and returns the exit code for it. */
export function failure(command: string, error: unknown): number {
  const say = (code: number, ...lines: string[]): number => {
    process.stderr.write(`${lines.map((line) => `${command}: ${line}`).join('\n')}\n`);
    return code;
  };
  if (error instanceof UsageError) return say(EXIT.usage, error.message, 'see --help');
  if (error instanceof ConfigError) return say(EXIT.configuration, ...error.problems);
  if (error instanceof KeyError || isAuthError(error, 'keyring_invalid', 'key_provider_rejected'))
    return say(EXIT.configuration, error.message);
  if (error instanceof RefusedError || isAuthError(error, 'key_provider_unavailable'))
    return say(EXIT.failed, ...error.message.split('\n'));
  for (const known of TOLD) if (error instanceof known) return say(EXIT.failed, error.message);
  const again =
    command === 'keys'
      ? 'Nothing was changed'
      : 'Nothing is half-written; start the job again to continue';
  return say(EXIT.failed, inWords(error, again));
}

/** What PostgreSQL and the system refuse, and what to do about it. */
function inWords(error: unknown, again: string): string {
  const { code, message } = error as { code?: string; message?: string };
  const reason = `${message ?? String(error)}${code ? ` (${code})` : ''}`;
  if (isDiskFull(error))
    return `the disk of the database is full: make room, see docs/operate/encrypt-tokens.md. ${again}`;
  switch (code) {
    case 'EADDRINUSE':
    case 'EACCES':
      return `--metrics-port: ${message}. Nothing was changed`;
    case '42P01':
    case '42703':
      return LACKS_TABLES;
    case '55P03':
      return `another session holds a lock on the table. ${again}`;
    case '25006':
      return `the database takes no writes: it is a replica, or set to read-only; see DATABASE_URL. ${again}`;
    case '57014':
      return `PostgreSQL ended a statement: ${reason}; the statement_timeout of this role or database is too short for this table. ${again}`;
    default:
      return isStorageUnavailable(error)
        ? `the database cannot be reached: ${reason}; see DATABASE_URL. ${again}`
        : `failed: ${reason}. ${again}`;
  }
}
