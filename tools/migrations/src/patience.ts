import {
  type Database,
  isStorageUnavailable,
  type Sql,
  type TransactionBounds,
} from '@session-gateway/database';
import { rest } from './pace.js';
import { RunHeldError } from './tableLock.js';

/** How long the database may refuse before the job gives up. */
const OUTAGE_MS = 60_000;
const RETRY_MS = 250;
/** PostgreSQL's word for a full disk. Waiting does not make room. */
const DISK_FULL = '53100';

/** Of statements that only read, or write the job's own books. */
const BOUNDS: TransactionBounds = { lockMs: 500, statementMs: 3_000 };
/** A batch's rows are locked by one statement and until two more have been answered: three seconds at most. */
const BATCH_BOUNDS: TransactionBounds = { lockMs: 500, statementMs: 1_000 };

/** PostgreSQL has no connection to spare (of all, of this role's), or is not up yet. */
const NO_ROOM = ['53300', '57P03'];

/**
 * Waits for the first connection where PostgreSQL answers but has none to spare: a minute, or until the job is to stop.
 * An address at which nobody answers is told at once, for it may be wrong.
 */
export async function awaitRoom(
  db: Database,
  note: (line: string) => void,
  stopRequested: () => boolean,
): Promise<void> {
  const giveUpAt = Date.now() + OUTAGE_MS;
  for (let told = false; ;) {
    try {
      await db.sql.query('SELECT 1');
      return;
    } catch (error) {
      const { code } = error as { code?: string };
      if (!NO_ROOM.includes(code ?? '') || stopRequested() || Date.now() >= giveUpAt) throw error;
      if (!told)
        note(
          `PostgreSQL has no connection to spare (${(error as Error).message}); trying again for up to ${OUTAGE_MS / 1000} s`,
        );
      told = true;
      await rest(RETRY_MS, stopRequested);
    }
  }
}

/** Short transactions, and what becomes of a job whose database refuses one for a while. */
export class Patience {
  #troubleSince: number | null = null;

  constructor(
    private readonly on: {
      readonly db: Database;
      /** As the operator spelled it. */
      readonly table: string;
      readonly note: (line: string) => void;
      readonly stopRequested: () => boolean;
      /** Told that a statement was refused. */
      readonly troubled: () => void;
    },
  ) {}

  /** A transaction that waits neither for locks nor for an answer longer than an operator who stops the job would. */
  bounded<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
    return this.on.db.transaction(work, BOUNDS);
  }

  /** One that writes the rows of a batch, which others wait for meanwhile. */
  batch<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
    return this.on.db.transaction(work, BATCH_BOUNDS);
  }

  /** Tries again while the database refuses; null when the job is to stop. */
  async patiently<Result>(work: () => Promise<Result>): Promise<Result | null> {
    try {
      const result = await work();
      this.recovered();
      return this.on.stopRequested() ? null : result;
    } catch (error) {
      return this.outlast(error, work);
    }
  }

  /**
   * Waits until `back` works again: a minute from the first of a row of failures. Null when the job is to stop.
   * @throws `cause` at once when it is none that passes by itself
   */
  async outlast<Result>(cause: unknown, back: () => Promise<Result>): Promise<Result | null> {
    if (!passes(cause)) throw cause;
    const { note, stopRequested, table, troubled } = this.on;
    if (this.#troubleSince === null)
      note(`${troubleOf(cause, table)}; trying again for up to ${OUTAGE_MS / 1000} s`);
    // Kept here: another worker's success ends the row of failures while this one still waits.
    const giveUpAt = (this.#troubleSince ??= Date.now()) + OUTAGE_MS;
    troubled();
    for (let failure = cause; ;) {
      await rest(RETRY_MS, stopRequested);
      if (stopRequested()) return null;
      if (Date.now() >= giveUpAt) throw failure;
      try {
        return await back();
      } catch (error) {
        // After a broken connection the server may hold our own lock for a moment longer.
        if (!passes(error) && !(error instanceof RunHeldError)) throw error;
        failure = error;
      }
    }
  }

  /** Something has worked. */
  recovered(): void {
    if (this.#troubleSince === null) return;
    this.#troubleSince = null;
    this.on.note('the database answers again; going on');
  }
}

export const isDiskFull = (error: unknown): boolean =>
  (error as { code?: unknown } | null)?.code === DISK_FULL;

const passes = (error: unknown): boolean => isStorageUnavailable(error) && !isDiskFull(error);

function troubleOf(error: unknown, table: string): string {
  const { code } = error as { code?: unknown };
  if (code === '55P03') return `another session holds a lock on ${table}`;
  if (code === '57014') return 'a statement took too long';
  return 'PostgreSQL does not answer';
}
