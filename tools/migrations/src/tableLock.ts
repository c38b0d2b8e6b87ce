import { setTimeout as delay } from 'node:timers/promises';
import type { Database, Sql } from '@session-gateway/database';

/** What is asked of a connection of PostgreSQL's client here. */
interface Connection {
  query(text: string, values: unknown[]): Promise<{ rows: { id: string }[] }>;
}

/** Another process is at work on the same table. */
export class RunHeldError extends Error {
  override readonly name = 'RunHeldError';
}

/** Advisory locks of one connection, which are gone once its process is. */
export interface TableLock {
  /** False once the connection that holds it is gone. */
  held(): boolean;
  /** Lets others join in; until then the table is this process's alone. */
  share(): Promise<void>;
  /** Whether nobody else is at work on the table. */
  alone(): Promise<boolean>;
  /** May be called again. */
  release(): void;
}

const LOCK_WAIT_MS = 5_000;
const RETRY_MS = 100;

const tableKey = (parameter: string): string =>
  `hashtextextended('session-gateway encrypt-tokens ' || ${parameter}, 0)`;
const processKey = (parameter: string): string =>
  `hashtextextended('session-gateway encrypt-tokens process ' || ${parameter}, 0)`;
const heldKey = (
  key: string,
): string => `SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND ((l.classid::bigint << 32) | l.objid::bigint) = ${key}`;

/** An SQL condition: no living process has the name that `expression` is. */
export const processIsGone = (expression: string): string =>
  `NOT EXISTS (${heldKey(processKey(expression))})`;

async function runHeld(connection: Connection, table: string): Promise<RunHeldError> {
  const {
    rows: [running],
  } = await connection
    .query(
      `SELECT id FROM token_encryption_runs WHERE table_name = $1 AND finished_at IS NULL
       ORDER BY updated_at DESC LIMIT 1`,
      [table],
    )
    .catch(() => ({ rows: [] as { id: string }[] }));
  return new RunHeldError(
    `${running ? `run ${running.id}` : 'another run'} is at work on ${table}: wait for it to end, or stop it`,
  );
}

/**
 * Holds the table for this process as long as its connection lives, which a killed process's does not; and, beside it,
 * the process's own name, by which others see that it lives.
 * @throws RunHeldError after five seconds, naming the run that is under way
 */
export async function lockTable(
  db: Database,
  table: string,
  { process, join }: { process: string; join: boolean },
): Promise<TableLock> {
  const connection = await db.pool.connect();
  let lost = false;
  connection.on('error', () => {
    lost = true;
  });
  connection.on('end', () => {
    lost = true;
  });
  const ask = async (text: string, value: string): Promise<boolean> =>
    (await connection.query<{ yes: boolean }>(`SELECT ${text} AS yes`, [value])).rows[0]?.yes ===
    true;
  try {
    const end = Date.now() + LOCK_WAIT_MS;
    const lock = `pg_try_advisory_lock${join ? '_shared' : ''}(${tableKey('$1')})`;
    while (!(await ask(lock, table))) {
      if (Date.now() >= end) throw await runHeld(connection, table);
      await delay(RETRY_MS);
    }
    await ask(`pg_try_advisory_lock(${processKey('$1')})`, process);
  } catch (error) {
    connection.release(true);
    throw error;
  }
  let released = false;
  return {
    held: () => !lost && !released,
    async share() {
      await ask(`pg_try_advisory_lock_shared(${tableKey('$1')})`, table);
      await ask(`pg_advisory_unlock(${tableKey('$1')})`, table);
    },
    alone: () =>
      ask(`NOT EXISTS (${heldKey(tableKey('$1'))} AND l.pid <> pg_backend_pid())`, table),
    release() {
      // Closing the connection is what frees the lock, whatever state it is in.
      if (!released) connection.release(true);
      released = true;
    },
  };
}

/**
 * Refuses a pooler in between that shares connections: a lock would then be nobody's. What a pooler gives out as the
 * server's process is its own invention.
 * @throws RunHeldError
 */
export async function requireOwnConnections(db: Database): Promise<void> {
  const connection = await db.pool.connect();
  try {
    const { processID } = connection as unknown as { processID: number | null };
    const { rows } = await connection.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    if (rows[0]?.pid !== processID)
      throw new RunHeldError(
        'DATABASE_URL leads through a pooler, and the job needs the lock of a connection of its own: set DIRECT_DATABASE_URL to PostgreSQL itself (or to a pooler with pool_mode = session)',
      );
  } finally {
    connection.release();
  }
}

/** Whether any process is at work on the table. */
export async function isAtWork(sql: Sql, table: string): Promise<boolean> {
  return (await sql.query(`${heldKey(tableKey('$1'))} LIMIT 1`, [table])).length > 0;
}
