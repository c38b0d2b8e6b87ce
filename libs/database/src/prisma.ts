import pg from 'pg';
import { clientOptions } from './connection.js';
import { parseDatabaseUrl } from './databaseAddress.js';
import { POSTGRES_TIMEOUTS } from './timeouts.js';
import { type Typed, TypedClient } from './typedClient.js';

/** One statement at a time, with parameters; rows typed by the caller, who wrote the columns. */
export interface Sql {
  query<Row extends object = Record<string, unknown>>(
    text: string,
    values?: readonly unknown[],
  ): Promise<Row[]>;
}

/** As PostgreSQL itself says it: worth another try. */
const TOO_MANY_CONNECTIONS = '53300';
const READ_ONLY = '25006';

export interface Database {
  /** Prisma's client, for typed reads and writes that are not hot; loaded with the first call. */
  typed(): Promise<Typed>;
  /** The pool under everything, for those who need a connection of their own. */
  readonly pool: pg.Pool;
  readonly sql: Sql;
  /** The same on a connection that requests cannot take, where one is kept: for what must not wait behind them. */
  readonly apart: Sql;
  /**
   * Runs statements on one connection; commits when `work` resolves, else rolls back. `bounds`
   * are PostgreSQL's to keep.
   */
  transaction<Result>(
    work: (sql: Sql) => Promise<Result>,
    bounds?: TransactionBounds,
  ): Promise<Result>;
  /** Passes where PostgreSQL answers and takes writes. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** How long each statement of a transaction may wait for locks, and take. */
export interface TransactionBounds {
  readonly lockMs: number;
  readonly statementMs?: number;
}

export interface DatabaseOptions {
  url: string;
  /** Default: `connection_limit` of the URL, else 10. */
  maxConnections?: number | undefined;
  /** Whether one of them is kept for `apart`. */
  keepOneApart?: boolean;
  applicationName?: string;
  /** Waiting for a connection, and for a statement's answer. Short: a caller is waiting. */
  connectTimeoutMs?: number;
  queryTimeoutMs?: number;
  onError?: (error: Error) => void;
}

/** Opens nothing yet: connections are made as they are needed and made anew after an outage. */
export function openDatabase(options: DatabaseOptions): Database {
  const maxConnections =
    options.maxConnections ??
    parseDatabaseUrl(options.url).connectionLimit ??
    POSTGRES_TIMEOUTS.maxConnections;
  const settings: pg.PoolConfig = {
    ...clientOptions(options.url, {
      application_name: options.applicationName ?? 'session-gateway',
      connectionTimeoutMillis: options.connectTimeoutMs ?? POSTGRES_TIMEOUTS.connectMs,
      query_timeout: options.queryTimeoutMs ?? POSTGRES_TIMEOUTS.queryMs,
      keepAlive: true,
    }),
    idleTimeoutMillis: POSTGRES_TIMEOUTS.idleMs,
  };
  const keepsOne = (options.keepOneApart ?? false) && maxConnections > 1;
  const pool = new pg.Pool({ ...settings, max: maxConnections - (keepsOne ? 1 : 0) });
  const apart = keepsOne ? new pg.Pool({ ...settings, max: 1 }) : pool;
  const pools = new Set([pool, apart]);
  // Without a listener an idle connection that breaks would end the process.
  for (const each of pools) each.on('error', (error) => options.onError?.(error));
  const refuseCrowd = (): void => {
    if (pool.waitingCount >= POSTGRES_TIMEOUTS.maxWaiting)
      throw Object.assign(new Error('too many callers wait for a connection to PostgreSQL'), {
        code: TOO_MANY_CONNECTIONS,
      });
  };
  const on = (queryable: Pick<pg.Pool, 'query'>): Sql => ({
    async query<Row extends object>(text: string, values: readonly unknown[] = []) {
      if (queryable === pool) refuseCrowd();
      return (await queryable.query<Row & pg.QueryResultRow>(text, [...values])).rows;
    },
  });
  const sql = on(pool);
  const typed = new TypedClient(pool);
  return {
    typed: () => typed.get(),
    pool,
    sql,
    apart: apart === pool ? sql : on(apart),
    async transaction(work, bounds) {
      refuseCrowd();
      const connection = await pool.connect();
      let broken: Error | undefined;
      // The pool listens to idle connections only, and one that breaks between two statements would end the process.
      const onBroken = (error: Error): void => {
        broken = error;
      };
      connection.on('error', onBroken);
      try {
        await connection.query(begin(bounds));
        const result = await work(on(connection));
        await connection.query('COMMIT');
        return result;
      } catch (error) {
        // A connection that cannot even roll back is thrown away, and its transaction with it; one
        // that is mute is not asked.
        if (error instanceof Error && error.message === 'Query read timeout') broken = error;
        else
          await connection.query('ROLLBACK').catch((fault: unknown) => {
            broken = fault as Error;
          });
        throw error;
      } finally {
        connection.off('error', onBroken);
        connection.release(broken);
      }
    },
    async ping() {
      const [row] = await sql.query<{ read_only: string }>(
        `SELECT current_setting('transaction_read_only') AS read_only`,
      );
      if (row?.read_only === 'on')
        throw Object.assign(
          new Error('PostgreSQL takes no writes: it is a replica, or set to read-only'),
          { code: READ_ONLY },
        );
    },
    async close() {
      await typed.close();
      for (const each of pools) if (!each.ended) await each.end();
    },
  };
}

/** In one round trip with its bounds, which hold for this transaction alone. */
function begin(bounds: TransactionBounds | undefined): string {
  if (!bounds) return 'BEGIN';
  const { lockMs, statementMs } = bounds;
  return `BEGIN; SET LOCAL lock_timeout = ${lockMs}${statementMs === undefined ? '' : `; SET LOCAL statement_timeout = ${statementMs}`}`;
}
