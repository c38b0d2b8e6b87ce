import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { within } from './home.js';
import type { Migration } from './history.js';
import type { Turn } from './turn.js';

const LOOK_EVERY_MS = 1_000;
const ORPHAN_PAUSE_MS = 500;

export interface OnlineWork {
  readonly client: pg.Client;
  readonly home: string;
  readonly pending: readonly Migration[];
  readonly turn: Turn;
  readonly tell: (reason: string) => void;
}

export interface WantedIndex {
  readonly name: string;
  readonly table: string;
  readonly unique: boolean;
  /** What comes after the table's name. */
  readonly on: string;
}

/** The indexes of large tables that some SQL makes where they are missing, and so does not mind finding. */
export function wantedIndexes(sql: string): WantedIndex[] {
  const statement =
    /^CREATE (UNIQUE )?INDEX IF NOT EXISTS "(\w+)" ON "(users|user_sessions)"\s*(\([^;]*);/gm;
  return [...sql.matchAll(statement)].map(([, unique, name = '', table = '', on = '']) => ({
    name,
    table,
    unique: unique !== undefined,
    on,
  }));
}

/**
 * Builds what pending migrations would build under a lock, one by one and concurrently; what a killed run left invalid
 * is dropped first. Returns how many were built. An index on columns that are still to come is left to its migration.
 */
export async function buildIndexes(work: OnlineWork): Promise<number> {
  let built = 0;
  for (const index of work.pending.flatMap(({ sql }) => wantedIndexes(sql))) {
    work.turn.check();
    if (!(await hasColumns(work, index))) continue;
    const state = await settle(work, index.name);
    if (state === 'valid') continue;
    await unlimited(work, async () => {
      if (state === 'invalid')
        await work.client.query(
          `DROP INDEX CONCURRENTLY IF EXISTS ${within(work.home, index.name)}`,
        );
      await work.client.query(
        `CREATE ${index.unique ? 'UNIQUE ' : ''}INDEX CONCURRENTLY ${pg.escapeIdentifier(index.name)} ON ${within(work.home, index.table)} ${index.on}`,
      );
    });
    built++;
  }
  return built;
}

async function hasColumns(
  { client, home }: OnlineWork,
  { table, on }: WantedIndex,
): Promise<boolean> {
  const names = [...on.matchAll(/"(\w+)"/g)].map(([, name]) => name);
  const { rows } = await client.query<{ there: boolean }>(
    `SELECT $2::text[] <@ (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = to_regclass($1) AND NOT attisdropped) AS there`,
    [within(home, table), names],
  );
  return rows[0]?.there === true;
}

/** What there is of an index, once nobody is building it any more: the server ends a build whose program was killed. */
async function settle(
  { client, home, tell }: OnlineWork,
  name: string,
): Promise<'valid' | 'invalid' | 'missing'> {
  for (;;) {
    const { rows } = await client.query<{ valid: boolean; builder: number | null }>(
      `SELECT x.indisvalid AS valid,
         (SELECT pid FROM pg_stat_progress_create_index WHERE relid = x.indrelid AND datname = current_database() LIMIT 1) AS builder
       FROM pg_index x WHERE x.indexrelid = to_regclass($1)`,
      [within(home, name)],
    );
    const [found] = rows;
    if (!found) return 'missing';
    if (found.valid) return 'valid';
    if (found.builder === null) return 'invalid';
    tell(`process ${found.builder} is building an index, of a run that was ended: ${name}`);
    await delay(ORPHAN_PAUSE_MS);
  }
}

/**
 * Without the bounds of this role or database on statements: building an index blocks nobody, however long it takes.
 */
async function unlimited(work: OnlineWork, build: () => Promise<void>): Promise<void> {
  const { client } = work;
  const {
    rows: [bounds],
  } = await client.query<{ bound: boolean }>(
    `SELECT bool_or(setting <> '0') AS bound FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout')`,
  );
  const watching = watch(work);
  try {
    if (bounds?.bound) await client.query('SET statement_timeout = 0; SET lock_timeout = 0');
    await build();
    // Behind a pooler somebody else gets this connection next.
    if (bounds?.bound) await client.query('RESET statement_timeout; RESET lock_timeout');
  } finally {
    watching.stop();
    await watching.ended;
  }
}

/** Tells which session a build waits for: one that has been reading or writing since before it. */
function watch({ turn, tell, home }: OnlineWork): { stop: () => void; ended: Promise<void> } {
  const stopping = new AbortController();
  const look = async (): Promise<void> => {
    for (;;) {
      await delay(LOOK_EVERY_MS, undefined, { signal: stopping.signal });
      const { rows } = await turn.client.query<{
        index: string;
        pid: number;
        since: Date | null;
        application: string | null;
      }>(
        `SELECT i.relname::text AS index, a.pid, a.xact_start AS since, nullif(a.application_name, '') AS application
         FROM pg_stat_progress_create_index p JOIN pg_class i ON i.oid = p.index_relid JOIN pg_class t ON t.oid = p.relid
         JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_stat_activity a ON a.pid = p.current_locker_pid
         WHERE n.nspname = ${pg.escapeLiteral(home)} AND p.datname = current_database() AND p.current_locker_pid <> 0`,
      );
      for (const { index, pid, since, application } of rows)
        tell(
          `the index ${index} waits for a transaction that is older: process ${pid}${application === null ? '' : `, application ${application}`}${since === null ? '' : `, since ${since.toISOString()}`}`,
        );
    }
  };
  return {
    stop: () => stopping.abort(),
    // A look that fails tells nothing; the build itself says what is wrong.
    ended: look().catch(() => undefined),
  };
}
