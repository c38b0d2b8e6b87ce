import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { DatabaseError, saysCode } from './errors.js';
import { within } from './home.js';
import { lockHolder } from './lockHolder.js';
import { lockTables } from './lockTables.js';
import type { Sql } from './prisma.js';

/** "session gateway migration" as a number of our own, and Prisma's own. */
const LOCK_KEYS = [7_366_197_001, 72_707_369];
/** In the order in which a login locks them. */
const CHANGED = ['user_sessions', 'users'];
const TABLES = ['users', 'user_sessions', 'accounts', 'verifications'];
/** What waits for such a lock makes everybody else wait behind it: a short try, then a pause. */
const LOCK_TRY_MS = 200;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
const DEFAULT_PATIENCE_MS = 5_000;

export interface Patience {
  /** How long a busy table is tried again; what waits for another process's migration waits as long as that takes. */
  readonly patienceMs?: number;
  /** Told once of everything that is waited for. */
  readonly onWait?: (reason: string) => void;
}

/** What a try has to wait for; `busy` is what it comes to once patience has ended. */
export interface Wait {
  readonly reason: string;
  readonly busy: DatabaseError | null;
}

const isWait = (result: object): result is Wait => 'reason' in result && 'busy' in result;

/** Tries again while tables are busy or another process migrates, with growing pauses. */
export async function insist<Result extends object>(
  { patienceMs = DEFAULT_PATIENCE_MS, onWait }: Patience,
  once: () => Promise<Result | Wait>,
): Promise<Result> {
  const end = performance.now() + patienceMs;
  const told = new Set<string>();
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.6, LONGEST_PAUSE_MS)) {
    const result = await once();
    if (!isWait(result)) return result;
    const { reason, busy } = result;
    if (busy && performance.now() + pause > end) throw busy;
    if (!told.has(reason)) onWait?.(reason);
    told.add(reason);
    await delay(pause);
  }
}

/** Keeps others from migrating until the transaction ends; what is waited for where one of them is at it. */
export async function takeTurn(client: pg.Client): Promise<Wait | null> {
  for (const key of LOCK_KEYS) {
    // A statement with parameters would keep its snapshot until the next one.
    const { rows } = await client.query<{ mine: boolean }>(
      `SELECT pg_try_advisory_xact_lock(${key}) AS mine`,
    );
    if (rows[0]?.mine !== true)
      return { reason: 'another process is migrating this database', busy: null };
  }
  return null;
}

/** One try at `change` in a transaction that waits for no lock longer than others bear. */
export async function tryLocked<Result extends object>(
  client: pg.Client,
  home: string,
  change: () => Promise<Result | Wait>,
): Promise<Result | Wait> {
  await client.query(
    `BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = ${LOCK_TRY_MS}`,
  );
  try {
    const result = await change();
    await client.query(isWait(result) ? 'ROLLBACK' : 'COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    if (saysCode(error, '55P03')) return busy(client, home, error);
    throw error;
  }
}

/** Keeps everybody from the tables whose shape is about to change until the transaction ends. */
export async function lockForChange(client: pg.Client, home: string): Promise<void> {
  await lockTables(
    on(client),
    CHANGED.map((table) => within(home, table)),
  );
}

const on = (client: pg.Client): Sql => ({
  query: async <Row extends object>(text: string, values?: readonly unknown[]) =>
    (await client.query<Row>(text, values && [...values])).rows,
});

async function busy(client: pg.Client, home: string, cause: unknown): Promise<Wait> {
  const holder = await lockHolder(
    on(client),
    TABLES.map((table) => within(home, table)),
  ).catch(() => null);
  return {
    reason: holder ?? 'a table is busy',
    busy: new DatabaseError(
      'table_busy',
      `a table is busy, another session holds a lock on it${holder === null ? '' : ` (${holder})`}: nothing was left half-done, run this again`,
      { cause },
    ),
  };
}
