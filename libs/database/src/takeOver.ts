import pg from 'pg';
import { within } from './home.js';
import { type Column, type Finding, UNLIMITED } from './takeoverSurvey.js';

/** What the gateway writes, or the migrations see to. */
const KNOWN = [
  ...Object.values(UNLIMITED).flat(),
  'token_expires_at',
  'refresh_expires_at',
  'expires_at',
  'metadata',
  'is_active',
  'last_accessed_at',
  'created_at',
  'updated_at',
];
/** Indexes that the migrations make, whatever an existing table has under their names: their columns. */
const OWN_INDEXES: readonly [name: string, columns: string][] = [
  'is_active, token_expires_at',
  'is_active, last_accessed_at',
  'is_active, expires_at',
  'ended_at',
].map((columns) => [`user_sessions_${columns.replace(', ', '_')}_idx`, columns]);
const WITHOUT_ZONE = 'timestamp without time zone';
/** Clocks differ, and a row may be a moment older than the look at it. */
const NEAR_MS = 10 * 60_000;

/**
 * Takes away what would fail the migrations, or the gateway's writes afterwards, within the caller's
 * transaction. Nothing that is stored is lost. Times without a zone are taken for UTC by the migrations;
 * `timesIn` names another zone.
 */
export async function makeWay(
  client: pg.Client,
  home: string,
  columns: readonly Column[],
  timesIn: string | null,
): Promise<void> {
  await lift(client, home, columns);
  await dropIndexes(client, home);
  await dropDemands(client, home);
  // Times in UTC become times with a zone without being rewritten, which the migrations see to.
  if (timesIn === null || timesIn.toUpperCase() === 'UTC') return;
  for (const [table, names] of byTable(columns.filter(({ type }) => type === WITHOUT_ZONE)))
    await client.query(
      `ALTER TABLE ${within(home, table)} ${names
        .map(
          (name) =>
            `ALTER COLUMN ${pg.escapeIdentifier(name)} TYPE timestamptz USING ${pg.escapeIdentifier(name)} AT TIME ZONE ${pg.escapeLiteral(timesIn)}`,
        )
        .join(', ')}`,
    );
}

/** Makes texts of limited length texts of any length, which rewrites nothing. */
async function lift(client: pg.Client, home: string, columns: readonly Column[]): Promise<void> {
  const limited = columns.filter(
    ({ table, name, type }) =>
      type.startsWith('character') && (UNLIMITED[table]?.includes(name) ?? false),
  );
  for (const [table, names] of byTable(limited))
    await client.query(
      `ALTER TABLE ${within(home, table)} ${names.map((name) => `ALTER COLUMN ${name} TYPE text`).join(', ')}`,
    );
}

async function dropIndexes(client: pg.Client, home: string): Promise<void> {
  // `sub` alone tells users apart: somebody who comes back as another one may have the address of before.
  const { rows } = await client.query<{ table: string; index: string; constraint: string | null }>(
    `SELECT t.relname::text AS "table", i.relname::text AS index, o.conname::text AS constraint
     FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
     LEFT JOIN pg_constraint o ON o.conindid = x.indexrelid AND o.contype IN ('u', 'p', 'x')
     WHERE n.nspname = $1 AND (t.relname = 'user_sessions' AND i.relname = ANY($2) AND NOT (x.indisvalid
         AND pg_get_indexdef(x.indexrelid) = ANY(SELECT format('CREATE INDEX %I ON %I.user_sessions USING btree (%s)', name, $1::text, columns) FROM unnest($2::text[], $3::text[]) AS own (name, columns))
         AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attnum = ANY(x.indkey) AND a.atttypid = 'timestamp'::regtype))
       OR t.relname = 'users' AND x.indisunique AND NOT x.indisprimary AND x.indnkeyatts = 1 AND pg_get_indexdef(x.indexrelid, 1, false) ~ '\\memail\\M')`,
    [home, OWN_INDEXES.map(([name]) => name), OWN_INDEXES.map(([, columns]) => columns)],
  );
  for (const { table, index, constraint } of rows)
    await client.query(
      constraint === null
        ? `DROP INDEX ${within(home, index)}`
        : `ALTER TABLE ${within(home, table)} DROP CONSTRAINT ${pg.escapeIdentifier(constraint)}`,
    );
}

/** A column that the gateway does not know gets no value from it. */
async function dropDemands(client: pg.Client, home: string): Promise<void> {
  const { rows } = await client.query<{ table: string; column: string }>(
    `SELECT table_name AS "table", column_name AS "column" FROM information_schema.columns
     WHERE table_schema = $1 AND table_name IN ('users', 'user_sessions') AND is_nullable = 'NO' AND column_default IS NULL
       AND is_identity = 'NO' AND is_generated = 'NEVER' AND NOT column_name = ANY($2)`,
    [home, KNOWN],
  );
  for (const { table, column } of rows)
    await client.query(
      `ALTER TABLE ${within(home, table)} ALTER COLUMN ${pg.escapeIdentifier(column)} DROP NOT NULL`,
    );
}

function byTable(columns: readonly Column[]): Map<string, string[]> {
  const tables = new Map<string, string[]>();
  for (const { table, name } of columns) tables.set(table, [...(tables.get(table) ?? []), name]);
  return tables;
}

/**
 * Whether times without a zone can be in UTC, as Prisma writes them: `now()` as a default writes the time of
 * the server's or the application's zone, and every session would then end hours early or late. Only looked at
 * while such a zone is set.
 */
export async function surveyTimes(
  client: pg.Client,
  home: string,
  columns: readonly Column[],
): Promise<Finding[]> {
  const names = columns
    .filter(
      ({ table, name, type }) =>
        table === 'user_sessions' &&
        type === WITHOUT_ZONE &&
        ['created_at', 'updated_at', 'last_accessed_at'].includes(name),
    )
    .map(({ name }) => name);
  if (names.length === 0) return [];
  const {
    rows: [row],
  } = await client.query<{ zone: string; offset: number; ahead: number | null }>(
    `SELECT zone, extract(epoch FROM (now() AT TIME ZONE zone) - (now() AT TIME ZONE 'UTC'))::float8 * 1000 AS offset,
       (SELECT extract(epoch FROM max(greatest(${names.join(', ')})) - (now() AT TIME ZONE 'UTC'))::float8 * 1000 FROM ${within(home, 'user_sessions')}) AS ahead
     FROM coalesce((SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'), 'UTC') AS zone`,
  );
  if (!row || row.ahead === null) return [];
  const inFuture = row.ahead > NEAR_MS;
  const local = row.offset !== 0 && Math.abs(row.ahead - row.offset) < NEAR_MS;
  return inFuture || local
    ? [
        {
          text: `times without a zone in user_sessions (${names.join(', ')}) do not look like UTC: the newest is ${describe(row.ahead)} UTC's now, and this database's TimeZone is ${row.zone}; look at a row that is new, then migrate with --times-in ${row.zone} or --times-in UTC`,
          bars: 'not_adoptable',
        },
      ]
    : [];
}

const describe = (ms: number): string =>
  `${Math.round(Math.abs(ms) / 60_000)} minutes ${ms < 0 ? 'before' : 'after'}`;
