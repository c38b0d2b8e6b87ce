import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { DatabaseError, isStorageUnavailable } from './errors.js';
import { currentSchema, withSchemaEngine } from './schemaEngine.js';

export const INITIAL_MIGRATION = '0_init';
const DROPPING_MIGRATION = '20250901000000_remove-better-auth-tables';
/** "session gateway migration" as a number of our own; Prisma's own lock is another. */
const LOCK_KEY = 7_366_197_001;
/** What an existing database must have for its sessions to be taken over. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  users: ['id', 'keycloak_id'],
  user_sessions: ['id', 'user_id', 'keycloak_session_id', 'access_token', 'refresh_token', 'id_token', 'expires_at', 'created_at', 'updated_at'],
};
const TOKENS = ['access_token', 'refresh_token', 'id_token'];
const TEXTS = ['text', 'character varying', 'character'];
/** What the gateway writes as text of any length: a limit that did for the older program fails a login (a cookie's id, an IPv6 address, a long user agent). */
const UNLIMITED: Readonly<Record<string, readonly string[]>> = {
  users: ['id', 'keycloak_id', 'email', 'name'],
  user_sessions: ['id', 'user_id', 'keycloak_session_id', ...TOKENS, 'fingerprint', 'ip_address', 'user_agent'],
};
/** What the gateway writes, or the migrations see to. */
const KNOWN = [...Object.values(UNLIMITED).flat(), 'token_expires_at', 'refresh_expires_at', 'expires_at', 'metadata', 'is_active', 'last_accessed_at', 'created_at', 'updated_at'];
/** Indexes that the migrations make, whatever an existing database has under their names. */
const OWN_INDEXES = ['is_active_token_expires_at', 'is_active_last_accessed_at', 'is_active_expires_at', 'ended_at'].map((columns) => `user_sessions_${columns}_idx`);
/** A busy table makes a migration fail cleanly and be tried again, instead of queueing every other statement behind it. */
const LOCK_TIMEOUT_MS = 5_000;
const LEGACY_TABLES = ['accounts', 'verifications'];

export interface Migrated {
  /** Names of the migrations that this call applied, in order. */
  readonly applied: readonly string[];
  /** Whether an existing database without history was taken over. */
  readonly adopted: boolean;
}

/**
 * `prisma migrate deploy` in process: the same engine, history table, checksums. A database that has the tables but no
 * history is adopted. Several processes at once apply once.
 * @throws DatabaseError; connection faults as they are
 */
export async function migrate({ url, prismaDir, dropData = false }: { url: string; prismaDir: string; dropData?: boolean }): Promise<Migrated> {
  const lock = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000, application_name: 'session-gateway-migrate' });
  // A connection that breaks while it only holds the lock must not end the process; the statements will tell.
  lock.on('error', () => undefined);
  await lock.connect();
  try {
    await lock.query('SELECT pg_advisory_lock($1)', [LOCK_KEY]);
    // From here on: waiting for another process's migration may take as long as that takes.
    await lock.query(`SET lock_timeout = ${LOCK_TIMEOUT_MS}`);
    const schema = await schemaOf(lock, url);
    await refuseToDropData(lock, dropData);
    const adopted = await adopt(lock, prismaDir);
    return { applied: await apply(url, schema, prismaDir), adopted };
  } finally {
    await lock.end().catch(() => undefined);
  }
}

/** Where schema and migrations are: beside a built program, or in the library's folder. */
export function findPrismaDir(importMetaUrl: string): string {
  let folder = dirname(fileURLToPath(importMetaUrl));
  for (;;) {
    for (const candidate of [join(folder, 'prisma'), join(folder, 'libs/database/prisma')]) {
      if (existsSync(join(candidate, 'schema.prisma'))) return candidate;
    }
    if (dirname(folder) === folder) throw new DatabaseError('migration_failed', 'the prisma folder with schema and migrations is missing beside the program');
    folder = dirname(folder);
  }
}

/** The connection's schema. Prisma's `?schema=`, which PostgreSQL is never told of, must not name another one. */
async function schemaOf(client: pg.Client, url: string): Promise<string> {
  const name = await currentSchema(client);
  const asked = new URL(url).searchParams.get('schema') ?? name;
  if (asked !== name) {
    throw new DatabaseError('not_adoptable', `nothing was changed: DATABASE_URL asks for the schema ${asked}, and the search path of its role leads to ${name}: ALTER ROLE … SET search_path = ${asked}, or leave ?schema= out`);
  }
  return name;
}

async function refuseToDropData(client: pg.Client, dropData: boolean): Promise<void> {
  // Tables of these names that came after they had been dropped are somebody else's.
  if (dropData || (await hasDropped(client))) return;
  const counts: string[] = [];
  for (const table of LEGACY_TABLES) {
    if (!(await tableExists(client, table))) continue;
    const { rows: [row] } = await client.query<{ count: string }>(`SELECT count(*) FROM ${pg.escapeIdentifier(table)}`);
    if (row && row.count !== '0') counts.push(`${table} has ${row.count} row${row.count === '1' ? '' : 's'}`);
  }
  if (counts.length > 0) {
    throw new DatabaseError('legacy_tables_not_empty', `nothing was changed: ${counts.join(' and ')}; save them, then migrate with --drop-data to drop these tables with their rows`);
  }
}

async function hasDropped(client: pg.Client): Promise<boolean> {
  if (!(await tableExists(client, '_prisma_migrations'))) return false;
  const { rows } = await client.query('SELECT 1 FROM _prisma_migrations WHERE migration_name = $1 AND finished_at IS NOT NULL AND rolled_back_at IS NULL', [DROPPING_MIGRATION]);
  return rows.length > 0;
}

/** Records 0_init as applied where its tables are there already and nobody has recorded anything. */
async function adopt(client: pg.Client, prismaDir: string): Promise<boolean> {
  if (await tableExists(client, '_prisma_migrations')) {
    const { rows: [row] } = await client.query<{ count: string }>('SELECT count(*) FROM _prisma_migrations');
    if (row?.count !== '0') return false;
  }
  if (!(await tableExists(client, 'users')) && !(await tableExists(client, 'user_sessions'))) return false;
  const types = new Map<string, string>();
  for (const table of Object.keys(REQUIRED)) {
    const { rows } = await client.query<{ column: string; type: string }>(
      'SELECT column_name AS "column", data_type AS type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1', [table]);
    for (const { column, type } of rows) types.set(`${table}.${column}`, type);
  }
  const missing = Object.entries(REQUIRED).flatMap(([table, columns]) => columns.map((column) => `${table}.${column}`)).filter((column) => !types.has(column));
  if (missing.length > 0) throw new DatabaseError('not_adoptable', `nothing was changed: this database has tables of these names but not these columns: ${missing.join(', ')}`);
  const others = ['id', ...TOKENS].map((column) => `user_sessions.${column}`).filter((column) => !TEXTS.includes(types.get(column) ?? ''));
  if (others.length > 0) throw new DatabaseError('not_adoptable', `nothing was changed: these columns are not of type text: ${others.map((column) => `${column} is ${types.get(column) ?? ''}`).join(', ')}`);
  const sql = await readFile(join(prismaDir, 'migrations', INITIAL_MIGRATION, 'migration.sql'));
  await client.query('BEGIN');
  await makeWay(client, types);
  // The table as Prisma creates it.
  await client.query(`CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL,
    logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)`);
  await client.query('INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name) VALUES ($1, $2, now(), $3)',
    [randomUUID(), createHash('sha256').update(sql).digest('hex'), INITIAL_MIGRATION]);
  await client.query('COMMIT');
  return true;
}

/** Takes away what would fail the migrations, or the gateway's writes afterwards. Nothing is rewritten, nothing that is stored is lost. */
async function makeWay(client: pg.Client, types: ReadonlyMap<string, string>): Promise<void> {
  try {
    for (const [table, columns] of Object.entries(UNLIMITED)) {
      const limited = columns.filter((column) => ['character varying', 'character'].includes(types.get(`${table}.${column}`) ?? ''));
      if (limited.length > 0) await client.query(`ALTER TABLE ${table} ${limited.map((column) => `ALTER COLUMN ${column} TYPE text`).join(', ')}`);
    }
    await client.query(`DROP INDEX IF EXISTS ${OWN_INDEXES.join(', ')}`);
  } catch (error) {
    const { code, detail } = error as { code?: string; detail?: string };
    if (code !== '0A000') throw error;
    throw new DatabaseError('not_adoptable', `nothing was changed: a column's type cannot be changed, ${detail ?? 'something depends on it'}: drop that, migrate, and make it anew`, { cause: error });
  }
  // `sub` alone tells users apart: somebody who comes back as another one may have the address of before.
  const { rows: unique } = await client.query<{ index: string; constraint: string | null }>(
    `SELECT i.indexrelid::regclass::text AS index, c.conname AS constraint FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'u'
     WHERE i.indrelid = 'users'::regclass AND i.indisunique AND NOT i.indisprimary AND i.indnkeyatts = 1 AND pg_get_indexdef(i.indexrelid, 1, false) ~ '\\memail\\M'`);
  for (const { index, constraint } of unique) await client.query(constraint === null ? `DROP INDEX ${index}` : `ALTER TABLE users DROP CONSTRAINT ${pg.escapeIdentifier(constraint)}`);
  // A column that the gateway does not know gets no value from it.
  const { rows: demanded } = await client.query<{ table: string; column: string }>(
    `SELECT table_name AS "table", column_name AS "column" FROM information_schema.columns
     WHERE table_schema = current_schema() AND table_name IN ('users', 'user_sessions') AND is_nullable = 'NO' AND column_default IS NULL
       AND is_identity = 'NO' AND is_generated = 'NEVER' AND NOT column_name = ANY($1)`, [KNOWN]);
  for (const { table, column } of demanded) await client.query(`ALTER TABLE ${table} ALTER COLUMN ${pg.escapeIdentifier(column)} DROP NOT NULL`);
}

async function apply(url: string, schema: string, prismaDir: string): Promise<string[]> {
  const filters = { externalTables: [], externalEnums: [] };
  try {
    return await withSchemaEngine(prismaDir, new PrismaPg({ connectionString: url, connectionTimeoutMillis: 5_000, lock_timeout: LOCK_TIMEOUT_MS }, { schema }), async (engine, migrationsList) => {
      const history = await engine.diagnoseMigrationHistory({ migrationsList, filters, optInToShadowDatabase: false });
      // One that failed was not applied: correcting it is the way on.
      const edited = history.editedMigrationNames.filter((name) => !history.failedMigrationNames.includes(name));
      if (edited.length > 0) throw new DatabaseError('migration_edited', `these migrations were edited after they had been applied: ${edited.join(', ')}`);
      if (history.history?.diagnostic === 'migrationsDirectoryIsBehind' || history.history?.diagnostic === 'historiesDiverge') {
        throw new DatabaseError('database_newer', 'the database has migrations that this version does not know: run the version that made them, or a newer one');
      }
      // Each migration is one transaction, so one that failed has left nothing behind and can be tried again.
      for (const migrationName of history.failedMigrationNames) await engine.markMigrationRolledBack({ migrationName });
      return (await engine.applyMigrations({ migrationsList, filters })).appliedMigrationNames;
    });
  } catch (error) {
    if (error instanceof DatabaseError || isStorageUnavailable(error)) throw error;
    if (error instanceof Error && error.message.startsWith('The database schema is not empty')) {
      throw new DatabaseError('not_adoptable', 'nothing was changed: this database has tables, but none of a session gateway: give the gateway a database of its own', { cause: error });
    }
    throw new DatabaseError('migration_failed', `the schema could not be migrated: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

async function tableExists(client: pg.Client, table: string): Promise<boolean> {
  const { rows: [row] } = await client.query<{ found: boolean }>(
    'SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = $1) AS found', [table]);
  return row?.found === true;
}
