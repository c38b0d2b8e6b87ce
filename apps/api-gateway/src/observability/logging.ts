import { type DestinationStream, pino } from 'pino';
import { currentRequest } from './requestContext.js';

/**
 * All that may ever be logged beside a message: what is not on this list does not compile, and is dropped if it comes
 * all the same. None of it holds a token, a cookie, a key, a code or an address with its query.
 */
const LOG_FIELDS = [
  'event',
  'code',
  'reason',
  /** The identity provider's own words. */
  'provider',
  'error',
  'outcome',
  'session',
  'sub',
  'ended',
  'request',
  'trace',
  'method',
  'route',
  'status',
  'ms',
  'address',
  'management',
  'signal',
  'applied',
  'problems',
  'actor',
  'sid',
  'state',
  'primary',
  'kids',
  'kid',
  'alg',
  'plan',
  'plain',
  'policy',
  'seconds',
  'count',
] as const;
const ALLOWED: ReadonlySet<string> = new Set(LOG_FIELDS);
const MAX_TEXT_LENGTH = 1_000;

export type LogFields = { readonly [Field in (typeof LOG_FIELDS)[number]]?: unknown };

/** One JSON object a line, with the request it belongs to. */
export type Log = Readonly<
  Record<'debug' | 'info' | 'warn' | 'error', (fields: LogFields, message: string) => void>
>;

export function createLog(level: string, destination?: DestinationStream): Log {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // A copy: pino writes each line's fields into what it gets here.
    mixin: () => ({ ...currentRequest() }),
    formatters: { log: allowed },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** Why something failed, in a few words. Where none of several addresses answered Node gives its error no message. */
export function reasonOf(error: unknown): string {
  const { message, code } = (error ?? {}) as { message?: unknown; code?: unknown };
  const said = [message, code].find((text) => typeof text === 'string' && text !== '');
  return typeof said === 'string' ? said : String(error);
}

/** Where an error that nobody expected comes from: its stack, whose first line holds class and message. */
export function traceOf(error: unknown): string {
  return error instanceof Error
    ? (error.stack ?? `${error.name}: ${error.message}`)
    : String(error);
}

function allowed(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) =>
      ALLOWED.has(name) ? [[name, plain(value)]] : [],
    ),
  );
}

/** Texts, numbers and lists of them; an object that a library made is never written out. */
function plain(value: unknown): unknown {
  if (typeof value === 'string') return value.slice(0, MAX_TEXT_LENGTH);
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === 'number' || typeof value === 'boolean' || value === null
    ? value
    : undefined;
}
