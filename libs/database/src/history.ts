import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { DatabaseError } from './errors.js';
import { within } from './home.js';

export const INITIAL_MIGRATION = '0_init';
export const HISTORY = '_prisma_migrations';

/**
 * Migrations whose SQL was corrected after databases had been migrated with it: what it was there counts as the same.
 */
const FORMER_CHECKSUMS: Readonly<Record<string, readonly string[]>> = {
  '20250901000000_remove-better-auth-tables': [
    'c66a5213699fd5baea573a393960f3caa6373f4b1a5b313580d4e7ed104660fb',
  ],
  '20250901000100_sealed-sessions': [
    '94c9238388f2d37c4073faf17048fa16655c78440748b8e476b5bef31a377829',
    '717a2cd76e2df6a494cbec6eef043c92951e7792f2573d8b6a3162cd48957426',
  ],
  '20250901000400_session-events': [
    'b2e18a65f9f43a6d6bc5a73103d56b096f903d3eda432506bea8a467956aba2f',
    'e2ce1528ab8e1b532d84dded68cf5510a6c786b66519f1f1c6482f24f09b5f2e',
  ],
};

export interface Migration {
  readonly name: string;
  readonly sql: string;
  /** As Prisma computes it. */
  readonly checksum: string;
}

/** What the history table says of this version's migrations. */
export interface History {
  /** Not applied yet, in order. */
  readonly pending: readonly Migration[];
  /** Applied with another text than this version has. */
  readonly edited: readonly string[];
  /** Applied, and not of this version: of a newer one, or of another application with the same history table. */
  readonly unknown: readonly string[];
  /** Whether the first tables were somebody's own, and taken over. */
  readonly adopted: boolean;
}

/** The migrations of a folder, in the order in which they are applied. */
export async function readMigrations(prismaDir: string): Promise<Migration[]> {
  const folder = join(prismaDir, 'migrations');
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  return Promise.all(
    names.sort().map(async (name) => {
      const sql = await readFile(join(folder, name, 'migration.sql'), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

/**
 * Reads the history table of the schema `home`. Rows of other names are nobody's business here, nor are rows that were
 * never finished.
 * @throws DatabaseError where this role may not read it
 */
export async function readHistory(
  client: pg.Client,
  home: string,
  migrations: readonly Migration[],
): Promise<History> {
  const {
    rows: [table],
  } = await client.query<{ readable: boolean; role: string }>(
    `SELECT has_table_privilege(c.oid, 'SELECT') AS readable, current_user::text AS role FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = $2`,
    [home, HISTORY],
  );
  if (!table) return compare(migrations, []);
  if (!table.readable)
    throw new DatabaseError(
      'rights_missing',
      `the role ${table.role} may not read which migrations were applied: GRANT SELECT ON ${within(home, HISTORY)} TO ${table.role} (nx run database:grants prints all that it needs)`,
    );
  const { rows } = await client.query<Applied>(
    `SELECT migration_name AS name, checksum, applied_steps_count AS steps FROM ${within(home, HISTORY)} WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL`,
  );
  return compare(migrations, rows);
}

interface Applied {
  readonly name: string;
  readonly checksum: string;
  readonly steps: number;
}

function compare(migrations: readonly Migration[], applied: readonly Applied[]): History {
  const recorded = ({ name }: Migration): Applied[] => applied.filter((row) => row.name === name);
  const accepted = (migration: Migration): boolean =>
    recorded(migration).some(({ checksum }) => isTextOf(checksum, migration));
  const known = migrations.filter(accepted);
  // Prisma's own guide has every application call its first migration 0_init: alone, it is that of the original one.
  const foreign = (migration: Migration): boolean =>
    migration.name === INITIAL_MIGRATION &&
    !migrations.some((other) => other !== migration && recorded(other).length > 0);
  const edited = migrations.filter(
    (one) => recorded(one).length > 0 && !accepted(one) && !foreign(one),
  );
  const names = new Set(migrations.map(({ name }) => name));
  return {
    pending: migrations.filter((one) => !known.includes(one) && !edited.includes(one)),
    edited: edited.map(({ name }) => name),
    unknown: applied.filter(({ name }) => !names.has(name)).map(({ name }) => name),
    adopted: known.some(
      (one) =>
        one.name === INITIAL_MIGRATION &&
        recorded(one).some((row) => isTextOf(row.checksum, one) && row.steps === 0),
    ),
  };
}

const isTextOf = (checksum: string, { name, checksum: own }: Migration): boolean =>
  checksum === own || (FORMER_CHECKSUMS[name]?.includes(checksum) ?? false);

/** The table as Prisma creates it. */
export async function createHistory(client: pg.Client, home: string): Promise<void> {
  await client.query(`CREATE TABLE IF NOT EXISTS ${within(home, HISTORY)} (
    id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL,
    logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)`);
}

/**
 * Records a migration as applied, as Prisma would; `steps` is 0 where its tables were there already. Of a corrected one
 * the first checksum is recorded: versions from before the correction know no other, and may run beside this one.
 */
export async function record(
  client: pg.Client,
  home: string,
  { name, checksum }: Migration,
  steps: 0 | 1,
): Promise<void> {
  // An attempt that failed was one transaction, and has left nothing behind.
  await client.query(
    `UPDATE ${within(home, HISTORY)} SET rolled_back_at = now() WHERE migration_name = $1 AND finished_at IS NULL AND rolled_back_at IS NULL`,
    [name],
  );
  await client.query(
    `INSERT INTO ${within(home, HISTORY)} (id, checksum, started_at, finished_at, migration_name, applied_steps_count)
     VALUES ($1, $2, clock_timestamp(), clock_timestamp(), $3, $4)`,
    [randomUUID(), FORMER_CHECKSUMS[name]?.[0] ?? checksum, name, steps],
  );
}
