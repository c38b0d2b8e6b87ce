import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { PrismaClient } from './generated/prisma/client.js';

/** One statement at a time, with parameters; rows typed by the caller, who wrote the columns. */
export interface Sql {
  query<Row extends object = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<Row[]>;
}

/** Tokens are left out of every typed read; only statements that name their columns see them. */
const omit = { userSession: { accessToken: true, refreshToken: true, idToken: true } } as const;
const client = (pool: pg.Pool) => new PrismaClient({ adapter: new PrismaPg(pool), omit });

export interface Database {
  readonly prisma: ReturnType<typeof client>;
  /** The pool under everything, for those who need a connection of their own. */
  readonly pool: pg.Pool;
  readonly sql: Sql;
  /** Runs statements on one connection; commits when `work` resolves, else rolls back. */
  transaction<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result>;
  ping(): Promise<void>;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  url: string;
  maxConnections?: number;
  applicationName?: string;
  /** Waiting for a connection, and for a statement's answer. Short: a caller is waiting. */
  connectTimeoutMs?: number;
  queryTimeoutMs?: number;
  onError?: (error: Error) => void;
}

/** Opens nothing yet: connections are made as they are needed and made anew after an outage. */
export function openDatabase(options: DatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.maxConnections ?? 20,
    application_name: options.applicationName ?? 'session-gateway',
    connectionTimeoutMillis: options.connectTimeoutMs ?? 1_000,
    query_timeout: options.queryTimeoutMs ?? 2_500,
    keepAlive: true,
  });
  // Without a listener an idle connection that breaks would end the process.
  pool.on('error', (error) => options.onError?.(error));
  const on = (queryable: Pick<pg.Pool, 'query'>): Sql => ({
    async query<Row extends object>(text: string, values: readonly unknown[] = []) {
      return (await queryable.query<Row & pg.QueryResultRow>(text, [...values])).rows;
    },
  });
  const sql = on(pool);
  const prisma = client(pool);
  return {
    prisma,
    pool,
    sql,
    async transaction(work) {
      const connection = await pool.connect();
      let broken: Error | undefined;
      // The pool listens to idle connections only, and one that breaks between two statements would end the process.
      const onBroken = (error: Error): void => { broken = error; };
      connection.on('error', onBroken);
      try {
        await connection.query('BEGIN');
        const result = await work(on(connection));
        await connection.query('COMMIT');
        return result;
      } catch (error) {
        // A connection that cannot even roll back is thrown away, and its transaction with it.
        await connection.query('ROLLBACK').catch((fault: Error) => { broken = fault; });
        throw error;
      } finally {
        connection.off('error', onBroken);
        connection.release(broken);
      }
    },
    async ping() {
      await sql.query('SELECT 1');
    },
    async close() {
      await prisma.$disconnect();
      if (!pool.ended) await pool.end();
    },
  };
}
