import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Migration } from './history.js';
import { within } from './home.js';
import { buildIndexes, type OnlineWork } from './onlineIndexes.js';
import { LARGE_BYTES } from './takeoverSurvey.js';

/** The migration whose long steps are done before it, and the mark in its SQL where they begin. */
export const EXPANDING_MIGRATION = '20250901000100_sealed-sessions';
const MARK = '-- Until here no row is changed.\n';
/** Migrations that fill columns of rows from before. */
const FILLING = [EXPANDING_MIGRATION, '20250901000400_session-events'];
/** Rows that are locked at once: others wait for a row no longer than such a batch takes. */
const BATCH_ROWS = 250;
/** Of the time that batches take, so much is left to others. */
const REST = 0.5;
const LONGEST_REST_MS = 100;
const TELL_EVERY_ROWS = 100_000;
const LOCKED_ROWS_PAUSE_MS = 500;
const BY_INDEX = ['seqscan', 'bitmapscan', 'sort', 'hashjoin', 'mergejoin'];

/** Whether the tables are too large for steps that look at every row under a lock. */
export async function isLarge(client: pg.Client, home: string): Promise<boolean> {
  const { rows } = await client.query<{ large: boolean }>(
    `SELECT coalesce(max(pg_relation_size(c.oid)), 0) > $2 AS large FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname IN ('users', 'user_sessions') AND c.relkind = 'r'`,
    [home, LARGE_BYTES],
  );
  return rows[0]?.large === true;
}

/** What the expanding migration does to the tables without a look at their rows. */
export function rowlessPart({ name, sql }: Migration): string {
  const end = sql.indexOf(MARK);
  if (end < 0) throw new Error(`the migration ${name} has lost its mark`);
  return sql.slice(0, end);
}

/**
 * The steps of pending migrations that take long, in ways that let others read and write: rows are filled in batches,
 * and indexes built concurrently. Can be ended anywhere and begun again; what was done counts.
 */
export async function runOnlineSteps(work: OnlineWork): Promise<void> {
  const fills = work.pending.some(({ name }) => FILLING.includes(name));
  if (fills) await fill(work);
  const built = await buildIndexes(work);
  // The look at which rows are left has an index by now.
  if (fills) await fillTheRest(work);
  if (!fills && built === 0) return;
  // A column whose type has changed has no statistics, and without them PostgreSQL guesses.
  for (const table of ['users', 'user_sessions'])
    await work.client.query(`ANALYZE ${within(work.home, table)}`);
}

async function fillTheRest(work: OnlineWork): Promise<void> {
  while (await lacksValues(work)) {
    await fill(work);
    if (!(await lacksValues(work))) return;
    work.tell('rows of user_sessions that have to be changed are locked by other sessions');
    await delay(LOCKED_ROWS_PAUSE_MS);
  }
}

/**
 * Rows without what the migrations fill in. A session from before has its row id as cookie, and
 * may not say when it ended.
 */
const LACKS = '(cookie_hash IS NULL OR (NOT is_active AND ended_at IS NULL))';

/** Of the hashes only: sessions that the original application has ended meanwhile are as those that it ends later. */
async function lacksValues({ client, home }: OnlineWork): Promise<boolean> {
  const { rows } = await client.query<{ lacks: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM ${within(home, 'user_sessions')} WHERE cookie_hash IS NULL) AS lacks`,
  );
  return rows[0]?.lacks === true;
}

/** One pass over the table; rows that somebody has locked are left out. Returns how many were filled. */
async function fill({ client, home, turn, tell }: OnlineWork): Promise<number> {
  let after: string | null = null;
  let filled = 0;
  let told = 0;
  for (;;) {
    turn.check();
    const began = performance.now();
    const batch: Batch = await fillBatch(client, home, after);
    filled += batch.rows;
    if (filled - told >= TELL_EVERY_ROWS) {
      told = filled;
      tell(`user_sessions is being made ready for the migrations: ${filled} rows so far`);
    }
    if (batch.rows < BATCH_ROWS || batch.last === null) return filled;
    after = batch.last;
    await delay(Math.min((performance.now() - began) * REST, LONGEST_REST_MS));
  }
}

interface Batch {
  readonly rows: number;
  readonly last: string | null;
}

async function fillBatch(client: pg.Client, home: string, after: string | null): Promise<Batch> {
  const table = within(home, 'user_sessions');
  // A resumed pass first looks past all that is done. By the ids' index, whatever PostgreSQL guesses of new columns.
  await client.query(
    `BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; ${BY_INDEX.map((way) => `SET LOCAL enable_${way} = off`).join('; ')}`,
  );
  try {
    const { rows } = await client.query<Batch>(
      `WITH batch AS MATERIALIZED (
         SELECT id FROM ${table} WHERE ${LACKS} ${after === null ? '' : 'AND id > $1'}
         ORDER BY id LIMIT ${BATCH_ROWS} FOR NO KEY UPDATE SKIP LOCKED
       ), filled AS (
         UPDATE ${table} AS one SET cookie_hash = coalesce(one.cookie_hash, sha256(convert_to(one.id, 'UTF8'))),
           ended_at = CASE WHEN one.is_active THEN one.ended_at ELSE coalesce(one.ended_at, one.updated_at, now()) END
         FROM batch WHERE one.id = batch.id RETURNING one.id
       ) SELECT count(*)::int AS rows, max(id) AS last FROM filled`,
      after === null ? [] : [after],
    );
    await client.query('COMMIT');
    return rows[0] ?? { rows: 0, last: null };
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
