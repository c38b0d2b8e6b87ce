import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { connectAlone } from './connection.js';
import { DatabaseError, isStorageUnavailable, saysCode } from './errors.js';
import {
  createHistory,
  type History,
  HISTORY,
  INITIAL_MIGRATION,
  type Migration,
  readHistory,
  readMigrations,
  record,
} from './history.js';
import { findHome } from './home.js';
import {
  insist,
  lockForChange,
  type Patience,
  takeTurn,
  tryLocked,
  type Wait,
} from './lockTries.js';
import { EXPANDING_MIGRATION, isLarge, rowlessPart, runOnlineSteps } from './onlineSteps.js';
import { inTurn } from './turn.js';
import { makeWay, surveyTimes } from './takeOver.js';
import {
  type Column,
  type Finding,
  readColumns,
  SAVE_THEM,
  surveyLegacy,
  surveyTables,
} from './takeoverSurvey.js';

const DROPPING_MIGRATION = '20250901000000_remove-better-auth-tables';
/** What the SQL of a migration raises where it refuses to drop rows. */
const ROWS_REFUSED = 'SG001';

export interface Migrated {
  /** Names of the migrations that this call applied, in order. */
  readonly applied: readonly string[];
  /** Whether an existing database without history was taken over. */
  readonly adopted: boolean;
}

export interface MigrateOptions extends Patience {
  /** PostgreSQL itself or a pooler in any mode: everything is one transaction. */
  readonly url: string;
  readonly prismaDir: string;
  /** Whether tables of Better-Auth are dropped with the rows that they hold. */
  readonly dropData?: boolean;
  /** The zone that times without one were written in, where that was not UTC. */
  readonly timesIn?: string | null;
}

/**
 * Applies what is missing of Prisma's migrations, with Prisma's own history table and checksums, in one transaction: wholly
 * or not at all. Before it, large tables are made ready in steps that hold nobody up and can be ended anywhere. A database that has the tables but no history is adopted. Several processes at once apply once. Where
 * nothing is missing, nothing but the history is read. Migrations of a newer version are left as they are.
 * @throws DatabaseError; connection faults as they are
 */
export async function migrate(options: MigrateOptions): Promise<Migrated> {
  const migrations = await readMigrations(options.prismaDir);
  const client = await connectAlone(options.url, 'session-gateway-migrate');
  try {
    const home = await findHome(client, options.url);
    const { pending } = refuseEdited(await readHistory(client, home, migrations));
    if (pending.length === 0) return { applied: [], adopted: false };
    await refuseWithoutRights(client, home, pending);
    const prepared = await prepareOnline(client, home, migrations, options);
    return await insist(options, () => attempt(client, home, migrations, options, prepared));
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Where schema and migrations are: beside a built program, or in the library's folder. */
export function findPrismaDir(importMetaUrl: string): string {
  let folder = dirname(fileURLToPath(importMetaUrl));
  for (;;) {
    for (const candidate of [join(folder, 'prisma'), join(folder, 'libs/database/prisma')]) {
      if (existsSync(join(candidate, 'schema.prisma'))) return candidate;
    }
    if (dirname(folder) === folder)
      throw new DatabaseError(
        'migration_failed',
        'the prisma folder with schema and migrations is missing beside the program',
      );
    folder = dirname(folder);
  }
}

/** Everything that bars the way of the migrations, or is worth knowing before them; changes nothing. */
export async function surveyDatabase(
  options: Pick<MigrateOptions, 'url' | 'prismaDir' | 'dropData' | 'timesIn'>,
): Promise<{ home: string; pending: string[]; adopts: boolean; findings: Finding[] }> {
  const migrations = await readMigrations(options.prismaDir);
  const client = await connectAlone(options.url, 'session-gateway-adopt');
  try {
    const home = await findHome(client, options.url);
    const history = refuseEdited(await readHistory(client, home, migrations));
    const { columns, findings } = await survey(client, home, history, options);
    const rights = await missingRights(client, home, history.pending);
    return {
      home,
      pending: history.pending.map(({ name }) => name),
      adopts: columns.length > 0,
      findings: rights === null ? findings : [...findings, rights],
    };
  } finally {
    await client.end().catch(() => undefined);
  }
}

function refuseEdited(history: History): History {
  if (history.edited.length > 0)
    throw new DatabaseError(
      'migration_edited',
      `these migrations were edited after they had been applied: ${history.edited.join(', ')}`,
    );
  return history;
}

async function refuseWithoutRights(
  client: pg.Client,
  home: string,
  pending: readonly Migration[],
): Promise<void> {
  const missing = await missingRights(client, home, pending);
  if (missing) throw new DatabaseError('migrations_waiting', missing.text);
}

/** Null for a role that may change every table that is there and add others. */
async function missingRights(
  client: pg.Client,
  home: string,
  pending: readonly Migration[],
): Promise<Finding | null> {
  if (pending.length === 0) return null;
  const {
    rows: [row],
  } = await client.query<{ role: string; creates: boolean; foreign: string[] }>(
    `SELECT current_user::text AS role, has_schema_privilege($1, 'CREATE') AS creates,
       ARRAY(SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = ANY($2) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1) AS foreign`,
    [home, ['users', 'user_sessions', HISTORY]],
  );
  if (!row) return null;
  const lacks = [
    ...(row.creates ? [] : [`may not create tables in the schema ${home}`]),
    ...(row.foreign.length > 0 ? [`does not own ${row.foreign.join(', ')}`] : []),
  ];
  return lacks.length === 0
    ? null
    : waiting(pending, `the role ${row.role} ${lacks.join(', and ')}`);
}

const waiting = (pending: readonly Migration[], why: string): Finding => ({
  text: `migrations are waiting (${pending.map(({ name }) => name).join(', ')}): run migrate as the owner; ${why}`,
  bars: 'migrations_waiting',
});

/**
 * Does beforehand, on large tables, what the migrations would do to every row under a lock: columns first, in one short
 * transaction, then rows and indexes while others read and write. Whether there was anything large.
 */
async function prepareOnline(
  client: pg.Client,
  home: string,
  migrations: readonly Migration[],
  options: MigrateOptions,
): Promise<boolean> {
  // Even a look at a table's size waits for whoever has locked it.
  const { large } = await insist(options, () =>
    tryLocked(client, home, async () => ({ large: await isLarge(client, home) })),
  );
  if (!large) return false;
  return inTurn(options.url, options, async (turn) => {
    // Another process may have been first.
    const history = refuseEdited(await readHistory(client, home, migrations));
    const { columns, findings } = await insist(options, () =>
      tryLocked(client, home, () => survey(client, home, history, options)),
    );
    refuse(findings);
    const { pending } = history;
    const expanding = pending.find(({ name }) => name === EXPANDING_MIGRATION);
    if (expanding)
      await insist(options, () =>
        tryLocked(client, home, async () => {
          await client.query(`SET LOCAL search_path = ${pg.escapeIdentifier(home)}`);
          await guarded('taking over', pending, async () => {
            await lockForChange(client, home);
            if (columns.length > 0) await makeWay(client, home, columns, options.timesIn ?? null);
            await client.query(rowlessPart(expanding));
          });
          return {};
        }),
      );
    const tell = once(options.onWait);
    await guarded('preparing', pending, () =>
      runOnlineSteps({ client, home, pending, turn, tell }),
    );
    return true;
  });
}

function once(onWait: MigrateOptions['onWait']): (reason: string) => void {
  const told = new Set<string>();
  return (reason) => {
    if (!told.has(reason)) onWait?.(reason);
    told.add(reason);
  };
}

async function attempt(
  client: pg.Client,
  home: string,
  migrations: readonly Migration[],
  options: MigrateOptions,
  prepared: boolean,
): Promise<Migrated | Wait> {
  return tryLocked(client, home, async () => {
    const wait = await takeTurn(client);
    if (wait) return wait;
    if (prepared) await client.query(`SET LOCAL session_gateway.backfilled = 'on'`);
    return applyAll(client, home, migrations, options);
  });
}

async function applyAll(
  client: pg.Client,
  home: string,
  migrations: readonly Migration[],
  options: MigrateOptions,
): Promise<Migrated> {
  await client.query(`SET LOCAL search_path = ${pg.escapeIdentifier(home)}`);
  // Another process may have been first.
  const history = refuseEdited(await readHistory(client, home, migrations));
  const { columns, findings } = await survey(client, home, history, options);
  refuse(findings);
  await lockForChange(client, home);
  await createHistory(client, home);
  const adopted = columns.length > 0;
  const { pending } = history;
  if (adopted)
    await guarded('taking over', pending, () =>
      makeWay(client, home, columns, options.timesIn ?? null),
    );
  if (options.dropData) await client.query(`SET LOCAL session_gateway.drop_data = 'on'`);
  const applied: string[] = [];
  for (const migration of pending) {
    const there = adopted && migration.name === INITIAL_MIGRATION;
    if (!there) await guarded(migration.name, pending, () => client.query(migration.sql));
    await record(client, home, migration, there ? 0 : 1);
    if (!there) applied.push(migration.name);
  }
  return { applied, adopted };
}

async function survey(
  client: pg.Client,
  home: string,
  { pending }: History,
  { dropData = false, timesIn = null }: Pick<MigrateOptions, 'dropData' | 'timesIn'>,
): Promise<{ columns: readonly Column[]; findings: Finding[] }> {
  const waits = (name: string): boolean => pending.some((migration) => migration.name === name);
  const columns = waits(INITIAL_MIGRATION) ? await readColumns(client, home) : [];
  const findings: Finding[] = [];
  // Tables of these names that came after they had been dropped are somebody else's.
  if (waits(DROPPING_MIGRATION)) findings.push(...(await surveyLegacy(client, home, dropData)));
  if (columns.length > 0) {
    const bars = await surveyTables(client, home, columns);
    findings.push(...bars);
    if (timesIn === null && !bars.some((one) => one.bars !== null))
      findings.push(...(await surveyTimes(client, home, columns)));
  } else if (waits(INITIAL_MIGRATION)) findings.push(...(await surveyOthers(client, home)));
  return { columns, findings };
}

/** A schema that another application lives in is not mixed with ours, unless an extension made all that is there. */
async function surveyOthers(client: pg.Client, home: string): Promise<Finding[]> {
  const { rows } = await client.query(
    `SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relname <> $2
       AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e') LIMIT 1`,
    [home, HISTORY],
  );
  return rows.length === 0
    ? []
    : [
        {
          text: 'this database has tables, but none of a session gateway: give the gateway a database of its own',
          bars: 'not_adoptable',
        },
      ];
}

function refuse(findings: readonly Finding[]): void {
  const barring = findings.filter(({ bars }) => bars !== null);
  const [first] = barring;
  if (first?.bars)
    throw new DatabaseError(
      first.bars,
      `nothing was changed: ${barring.map(({ text }) => text).join('. And: ')}`,
    );
}

/** Runs what changes the schema; says of a failure what it comes from. */
async function guarded(
  what: string,
  pending: readonly Migration[],
  change: () => Promise<unknown>,
): Promise<void> {
  try {
    await change();
  } catch (error) {
    const { message, detail } = error as { message?: string; detail?: string };
    if (saysCode(error, ROWS_REFUSED))
      throw new DatabaseError(
        'legacy_tables_not_empty',
        `nothing was changed: ${message ?? ''}; ${SAVE_THEM}`,
        { cause: error },
      );
    if (saysCode(error, '42501'))
      throw new DatabaseError('migrations_waiting', waiting(pending, message ?? '').text);
    const isMistake = saysCode(error, '42P01') || saysCode(error, '42703');
    if (isStorageUnavailable(error) && !isMistake) throw error;
    throw new DatabaseError(
      'migration_failed',
      `the schema could not be migrated, and nothing was changed: ${what}: ${message ?? String(error)}${detail ? `, ${detail}` : ''}`,
      // Of a table or column that is missing, a cause would say that migrations are still to come.
      isMistake ? {} : { cause: error },
    );
  }
}
