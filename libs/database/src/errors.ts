/** Every way in which this library refuses. */
export type DatabaseErrorCode =
  | 'legacy_tables_not_empty'
  | 'not_adoptable'
  | 'migration_edited'
  | 'migration_failed'
  | 'migrations_waiting'
  | 'rights_missing'
  | 'table_busy';

/** A refusal that an operator can act on; its message says how. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  constructor(
    readonly code: DatabaseErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

// Connection exceptions, a login that is refused or a database that is not there (yet, or while a password
// is replaced), resources, operator intervention, a transaction that was ended for its age (as after a
// process stood still), read-only (a replica after a failover), conflicts worth another try, and tables or
// columns that are not there yet.
const UNAVAILABLE_SQLSTATE =
  /^(08|28|3D|53|57P|58|25P0[34]$|25006$|57014$|55P03$|40001$|40P01$|42P01$|42703$)/;
const UNAVAILABLE_SYSTEM = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'ENOENT',
  'EPROTO',
]);
/** A certificate that is not good now, or a server without TLS: replaced while we run, as any outage. */
const UNAVAILABLE_TLS = /^(CERT_|ERR_TLS_|ERR_SSL_|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED)/;
const UNAVAILABLE_PRISMA = new Set(['P1001', 'P1002', 'P1008', 'P1017', 'P2024', 'P2037']);
// Five characters from PostgreSQL; Prisma's own look alike.
const SQLSTATE = /^(?!P[1-9])[0-9A-Z]{5}$/;
const UNAVAILABLE_KIND = new Set([
  'DatabaseNotReachable',
  'ConnectionClosed',
  'SocketTimeout',
  'TooManyConnections',
]);
// pg gives these no code.
const UNAVAILABLE_MESSAGE =
  /timeout exceeded when trying to connect|query read timeout|connection terminated|client has encountered a connection error|cannot use a pool after calling end|connection timeout|server closed the connection|not queryable|server does not support SSL|establishing an SSL connection/i;

type Link = Readonly<
  Partial<
    Record<
      'name' | 'code' | 'kind' | 'originalCode' | 'message' | 'cause' | 'meta' | 'errors',
      unknown
    >
  >
>;

/** An error and what it says caused it, in pg's and in Prisma's way. */
function* links(error: unknown): Generator<Link> {
  for (
    let at: unknown = error, depth = 0;
    typeof at === 'object' && at !== null && depth < 6;
    depth++
  ) {
    const link: Link = at;
    yield link;
    at =
      link.cause ?? (link.meta as { driverAdapterError?: unknown } | undefined)?.driverAdapterError;
  }
}

const codesOf = ({ code, originalCode }: Link): string[] =>
  [code, originalCode].filter((value) => typeof value === 'string');

/**
 * Whether a failure says that PostgreSQL cannot be reached or cannot serve just now, as pg and Prisma put
 * it; looks through causes.
 */
export function isStorageUnavailable(error: unknown): boolean {
  const all = [...links(error)];
  // What the server says about a statement quotes values, and what Prisma says about a call quotes its
  // source: either may say anything.
  const quotes = all.some(
    (link) =>
      link.name === 'PrismaClientValidationError' ||
      codesOf(link).some((code) => SQLSTATE.test(code)),
  );
  return all.some(
    (link) =>
      codesOf(link).some(
        (code) =>
          UNAVAILABLE_SYSTEM.has(code) ||
          UNAVAILABLE_TLS.test(code) ||
          UNAVAILABLE_PRISMA.has(code) ||
          UNAVAILABLE_SQLSTATE.test(code),
      ) ||
      (typeof link.kind === 'string' && UNAVAILABLE_KIND.has(link.kind)) ||
      (!quotes &&
        codesOf(link).length === 0 &&
        typeof link.message === 'string' &&
        UNAVAILABLE_MESSAGE.test(link.message)) ||
      (Array.isArray(link.errors) && link.errors.some(isStorageUnavailable)),
  );
}

/** Whether PostgreSQL refused a statement, for whatever reason; looks through causes. */
export function isStatementFault(error: unknown): boolean {
  return [...links(error)].some((link) => codesOf(link).some((code) => SQLSTATE.test(code)));
}

/** Whether PostgreSQL, or what asked it, gave this code; looks through causes. */
export function saysCode(error: unknown, code: string): boolean {
  return [...links(error)].some((link) => codesOf(link).includes(code));
}
