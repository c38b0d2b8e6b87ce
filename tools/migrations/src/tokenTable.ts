import type { Sql } from '@session-gateway/database';

/** Which table and columns hold tokens. */
export interface TableShape {
  /** Without a schema the connection's search path decides. */
  readonly table: string;
  readonly idColumn: string;
  readonly columns: readonly string[];
}

/** A row as it was read: `xmin` names the very version of it. */
export interface TokenRow {
  readonly id: string;
  readonly xmin: string;
  readonly values: readonly (string | null)[];
}

/** New values of a row in the order of the columns; null leaves a column as it is. */
export interface TokenWrite {
  readonly id: string;
  readonly xmin: string;
  readonly values: readonly (string | null)[];
}

/** A table that cannot be worked on; the message says what is missing. */
export class TableError extends Error {
  override readonly name = 'TableError';
}

/** The statements of the job on one table. */
export interface TokenTable {
  /** Its name without a schema, as the gateway knows it: what sealed values are bound to. */
  readonly name: string;
  /** One spelling for one table, however it was asked for: what runs, locks and quarantine go by. */
  readonly key: string;
  /** The next rows in the order of ids: up to `limit`, fewer where their values are large, none at the end. */
  read(sql: Sql, after: string | null, limit: number): Promise<TokenRow[]>;
  /** Writes what is still exactly as it was read and that nobody is writing; the ids that were written. */
  write(sql: Sql, rows: readonly TokenWrite[]): Promise<string[]>;
  /** Where among the next `limit` rows values look sealed, by their first characters; `last` is null after the last row. */
  survey(sql: Sql, after: string | null, limit: number): Promise<{ last: string | null; found: Candidates[] }>;
  values(sql: Sql, column: string, ids: readonly string[]): Promise<{ id: string; value: string }[]>;
  /** About: an estimate for a large table. */
  count(sql: Sql): Promise<number>;
}

/** Rows of a column whose values begin like sealed ones of one kind. */
export interface Candidates {
  readonly column: string;
  /** Null: the plan's format. */
  readonly kid: string | null;
  /** Some of them. */
  readonly ids: readonly string[];
}

/** How writes find out that a row has changed. Anything but the xmin compare loses updates: tests show it. */
export type WriteGuard = 'xmin' | 'skip-locked-only' | 'none';

/** What one batch holds at most (one row may be larger), so that neither memory nor time depends on the size of tokens. */
const BATCH_BYTES = 8 * 1024 * 1024;
const SAMPLES = 100;

/** @throws TableError when the table or a column is not there or is not of use */
export async function openTokenTable(sql: Sql, shape: TableShape, guard: WriteGuard = 'xmin'): Promise<TokenTable> {
  const { types, name, key } = await describe(sql, shape);
  const table = spelled(shape.table);
  const id = quote(shape.idColumn);
  const idType = types.get(shape.idColumn) ?? 'text';
  const columns = shape.columns.map(quote);
  const page = (wanted: string, after: string | null): string =>
    // Qualified: a bare name in ORDER BY would mean the output column, which is text and sorts 10 before 9.
    `SELECT t.${id} AS key, ${wanted} FROM ${table} t${after === null ? '' : ` WHERE t.${id} > $2::${idType}`} ORDER BY t.${id} LIMIT $1`;

  // The size of a value is known without fetching it; values beyond the bound are never fetched.
  const rowAndSize = `${id}::text AS id, xmin::text AS xm, ${columns.map((column, index) => `${column}::text AS c${index}`).join(', ')}, ${columns.map((column) => `coalesce(octet_length(${column}), 0)`).join(' + ')} AS bytes`;
  const read = (after: string | null): string => `
    SELECT id, xm, ${columns.map((_, index) => `c${index}`).join(', ')}
    FROM (SELECT *, sum(bytes) OVER (ORDER BY key ROWS UNBOUNDED PRECEDING) - bytes AS preceding FROM (${page(rowAndSize, after)}) AS page) AS measured
    WHERE preceding < ${BATCH_BYTES} ORDER BY key`;

  const beginnings = columns.map((column, index) => `substr(${column}, 1, 66) AS b${index}`).join(', ');
  const survey = (after: string | null): string => `
    WITH page AS MATERIALIZED (${page(`${id}::text AS id, ${beginnings}`, after)}), found AS (
      SELECT at, CASE WHEN beginning LIKE 'v2.%' THEN split_part(beginning, '.', 2) END AS kid, (array_agg(id))[1:${SAMPLES}] AS ids
      FROM page CROSS JOIN LATERAL (VALUES ${columns.map((_, index) => `(${index}, b${index})`).join(', ')}) AS v(at, beginning)
      WHERE beginning ~ '^(v2\\.[a-z0-9]{1,16}\\.|[0-9a-f]{32}:[0-9a-f]{32}:)' GROUP BY 1, 2
    ) SELECT last.id AS last, found.at, found.kid, found.ids
    FROM (SELECT (SELECT id FROM page ORDER BY key DESC LIMIT 1) AS id) AS last LEFT JOIN found ON true`;

  const news = columns.map((_, index) => `new${index}`);
  const locking = guard === 'none' ? '' : `${guard === 'xmin' ? ' AND t.xmin = wanted.xm::xid' : ''} FOR NO KEY UPDATE OF t SKIP LOCKED`;
  // A row that somebody changed meanwhile has another xmin, also when the change commits between our snapshot and our
  // lock: PostgreSQL evaluates the condition anew on the version that it locks.
  const update = `
    WITH wanted AS (
      SELECT w.id::${idType} AS id, w.xm, ${news.map((column) => `w.${column}`).join(', ')}
      FROM unnest($1::text[], $2::text[], ${news.map((_, index) => `$${index + 3}::text[]`).join(', ')}) AS w(id, xm, ${news.join(', ')})
    ), locked AS MATERIALIZED (
      SELECT t.${id} AS id, ${news.map((column) => `wanted.${column}`).join(', ')} FROM ${table} t JOIN wanted ON t.${id} = wanted.id${locking}
    )
    UPDATE ${table} t SET ${columns.map((column, index) => `${column} = coalesce(locked.new${index}, t.${column})`).join(', ')}
    FROM locked WHERE t.${id} = locked.id RETURNING t.${id}::text AS id`;

  return {
    name,
    key,
    async read(on, after, limit) {
      // A column each: the client takes longer to parse an array of tokens than to decrypt them.
      const rows = await on.query<{ id: string; xm: string } & Record<`c${number}`, string | null>>(read(after), after === null ? [limit] : [limit, after]);
      return rows.map((row) => ({ id: row.id, xmin: row.xm, values: columns.map((_, index) => row[`c${index}`] ?? null) }));
    },
    async write(on, rows) {
      const perColumn = columns.map((_, index) => rows.map((row) => row.values[index] ?? null));
      const written = await on.query<{ id: string }>(update, [rows.map((row) => row.id), rows.map((row) => row.xmin), ...perColumn]);
      return written.map((row) => row.id);
    },
    async survey(on, after, limit) {
      const rows = await on.query<{ last: string | null; at: number | null; kid: string | null; ids: string[] | null }>(survey(after), after === null ? [limit] : [limit, after]);
      const found = rows.flatMap(({ at, kid, ids }) => (at === null || ids === null ? [] : [{ column: shape.columns[at] ?? '', kid, ids }]));
      return { last: rows[0]?.last ?? null, found };
    },
    values: (on, column, ids) => on.query<{ id: string; value: string }>(
      `SELECT ${id}::text AS id, ${quote(column)}::text AS value FROM ${table} WHERE ${id} = ANY($1::text[]::${idType}[]) AND ${quote(column)} <> ''`, [ids]),
    async count(on) {
      const [row] = await on.query<{ count: string }>(
        `SELECT CASE WHEN reltuples > 200000 THEN reltuples::bigint ELSE (SELECT count(*) FROM ${table}) END AS count FROM pg_class WHERE oid = to_regclass($1)`, [table]);
      return Number(row?.count ?? 0);
    },
  };
}

async function describe(sql: Sql, { table, idColumn, columns }: TableShape): Promise<{ types: Map<string, string>; name: string; key: string }> {
  // Type modifier -1, because a bare `character` means one character.
  const rows = await sql.query<{ column: string; type: string; usable: boolean; name: string; key: string }>(
    `SELECT a.attname AS "column", format_type(a.atttypid, -1) AS type, c.relname AS name,
       CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END AS key,
       a.attnotnull AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
         AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS usable
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.oid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, [spelled(table)]);
  const [first] = rows;
  if (!first) throw new TableError(`there is no table ${table} in this database${table === 'user_sessions' ? ': run `nx run database:migrate` first' : ''}`);
  const types = new Map(rows.map(({ column, type }) => [column, type]));
  const missing = [idColumn, ...columns].filter((column) => !types.has(column));
  if (missing.length > 0) throw new TableError(`table ${table} has no column ${missing.join(', ')}`);
  const odd = columns.filter((column) => !['text', 'character varying'].includes(types.get(column) ?? ''));
  if (odd.length > 0) throw new TableError(`column ${odd.join(', ')} of ${table} is not of type text`);
  if (columns.includes(idColumn)) throw new TableError(`${idColumn} cannot be both the id and a token`);
  // With two rows of one id, one row's tokens would be written to the other.
  if (!rows.find(({ column }) => column === idColumn)?.usable) throw new TableError(`column ${idColumn} of ${table} cannot be the id: it must be a primary key, or NOT NULL and unique`);
  return { types, name: first.name, key: first.key };
}

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const spelled = (table: string): string => table.split('.').map(quote).join('.');
