/** Every way in which this library refuses. */
export type DatabaseErrorCode = 'legacy_tables_not_empty' | 'not_adoptable' | 'migration_edited' | 'migration_failed' | 'database_newer';

/** A refusal that an operator can act on; its message says how. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  constructor(readonly code: DatabaseErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
  }
}

// Connection exceptions, resources, operator intervention, read-only (a replica after a failover), conflicts worth another
// try, and tables that are not there yet.
const UNAVAILABLE_SQLSTATE = /^(08|53|57P|58|25006$|57014$|55P03$|40001$|40P01$|42P01$)/;
const UNAVAILABLE_SYSTEM = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EPIPE', 'ENOENT']);
const UNAVAILABLE_PRISMA = new Set(['P1001', 'P1002', 'P1008', 'P1017', 'P2024', 'P2037']);
// pg gives these no code.
const UNAVAILABLE_MESSAGE = /timeout exceeded when trying to connect|query read timeout|connection terminated|client has encountered a connection error|cannot use a pool after calling end|connection timeout|server closed the connection|not queryable/i;

/** Whether a failure says that PostgreSQL cannot be reached or cannot serve just now, as pg and Prisma put it; looks through causes. */
export function isStorageUnavailable(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; typeof at === 'object' && at !== null && depth < 6; depth++) {
    const { code, kind, originalCode, message } = at as { code?: unknown; kind?: unknown; originalCode?: unknown; message?: unknown };
    for (const value of [code, originalCode]) {
      if (typeof value === 'string' && (UNAVAILABLE_SYSTEM.has(value) || UNAVAILABLE_PRISMA.has(value) || UNAVAILABLE_SQLSTATE.test(value))) return true;
    }
    if (kind === 'DatabaseNotReachable' || kind === 'ConnectionClosed' || kind === 'SocketTimeout' || kind === 'TooManyConnections') return true;
    if (typeof message === 'string' && UNAVAILABLE_MESSAGE.test(message)) return true;
    const { cause, meta, errors } = at as { cause?: unknown; meta?: { driverAdapterError?: unknown }; errors?: unknown[] };
    if (Array.isArray(errors) && errors.some(isStorageUnavailable)) return true;
    at = cause ?? meta?.driverAdapterError;
  }
  return false;
}
