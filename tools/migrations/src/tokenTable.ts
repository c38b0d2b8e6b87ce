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
  read(sql: Sql, after: string | null, limit: number): Promise<TokenRow[]>;
  /** Writes what is still exactly as it was read and that nobody is writing; the ids that were written. */
  write(sql: Sql, rows: readonly TokenWrite[]): Promise<string[]>;
  /** The key ids of sealed values, and whether there are values of the plan's format, with up to `samples` values of each. */
  encrypted(sql: Sql, samples: number): Promise<Sample[]>;
  count(sql: Sql): Promise<number>;
}

export interface Sample {
  readonly id: string;
  readonly column: string;
  /** Null: the plan's format. */
  readonly kid: string | null;
  readonly value: string;
}

/** How writes find out that a row has changed. Anything but the xmin compare loses updates: tests show it. */
export type WriteGuard = 'xmin' | 'skip-locked-only' | 'none';

/** @throws TableError when the table or a column is not there or is not text */
export async function openTokenTable(sql: Sql, shape: TableShape, guard: WriteGuard = 'xmin'): Promise<TokenTable> {
  const columnTypes = await describe(sql, shape);
  const table = shape.table.split('.').map(quote).join('.');
  const id = quote(shape.idColumn);
  const idType = columnTypes.get(shape.idColumn) ?? 'text';
  const columns = shape.columns.map(quote);
  const selected = `${id}::text AS id, xmin::text AS xmin, ARRAY[${columns.map((column) => `${column}::text`).join(', ')}] AS "values"`;
  const first = `SELECT ${selected} FROM ${table} ORDER BY ${id} LIMIT $1`;
  const following = `SELECT ${selected} FROM ${table} WHERE ${id} > $2::${idType} ORDER BY ${id} LIMIT $1`;

  const news = columns.map((_, index) => `new${index}`);
  const locking = guard === 'none' ? '' : `${guard === 'xmin' ? ' AND t.xmin = wanted.xm::xid' : ''} FOR NO KEY UPDATE OF t SKIP LOCKED`;
  // A row that somebody changed meanwhile has another xmin, also when the change commits between our snapshot and our
  // lock: PostgreSQL evaluates the condition anew on the version that it locks.
  const update = `
    WITH wanted AS (
      SELECT w.id::${idType} AS id, w.xm, ${news.map((column) => `w.${column}`).join(', ')}
      FROM unnest($1::text[], $2::text[], ${news.map((_, index) => `$${index + 3}::text[]`).join(', ')}) AS w(id, xm, ${news.join(', ')})
    ), locked AS MATERIALIZED (
      SELECT t.${id} AS id FROM ${table} t JOIN wanted ON t.${id} = wanted.id${locking}
    )
    UPDATE ${table} t SET ${columns.map((column, index) => `${column} = coalesce(wanted.new${index}, t.${column})`).join(', ')}
    FROM wanted JOIN locked ON locked.id = wanted.id WHERE t.${id} = wanted.id RETURNING t.${id}::text AS id`;

  return {
    read: (on, after, limit) => on.query<TokenRow>(after === null ? first : following, after === null ? [limit] : [limit, after]),
    async write(on, rows) {
      const perColumn = columns.map((_, index) => rows.map((row) => row.values[index] ?? null));
      const written = await on.query<{ id: string }>(update, [rows.map((row) => row.id), rows.map((row) => row.xmin), ...perColumn]);
      return written.map((row) => row.id);
    },
    async encrypted(on, samples) {
      const found: Sample[] = [];
      for (const [index, column] of columns.entries()) {
        const named = shape.columns[index] ?? '';
        const kids = await on.query<{ kid: string }>(
          `SELECT DISTINCT split_part(${column}::text, '.', 2) AS kid FROM ${table} WHERE ${column}::text ~ '^v2\\.[a-z0-9]{1,16}\\.[A-Za-z0-9_-]{54,}$'`);
        for (const { kid } of kids) {
          const rows = await on.query<{ id: string; value: string }>(
            `SELECT ${id}::text AS id, ${column}::text AS value FROM ${table} WHERE ${column}::text LIKE $1 LIMIT $2`, [`v2.${kid}.%`, samples]);
          found.push(...rows.map((row) => ({ ...row, column: named, kid })));
        }
        const plans = await on.query<{ id: string; value: string }>(
          `SELECT ${id}::text AS id, ${column}::text AS value FROM ${table} WHERE ${column}::text ~ '^[0-9a-f]{32}:[0-9a-f]{32}:([0-9a-f]{2})+$' LIMIT $1`, [samples]);
        found.push(...plans.map((row) => ({ ...row, column: named, kid: null })));
      }
      return found;
    },
    async count(on) {
      const [row] = await on.query<{ count: string }>(`SELECT count(*) FROM ${table}`);
      return Number(row?.count ?? 0);
    },
  };
}

async function describe(sql: Sql, { table, idColumn, columns }: TableShape): Promise<Map<string, string>> {
  const rows = await sql.query<{ name: string; type: string }>(
    `SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type FROM pg_attribute a
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, [table.split('.').map(quote).join('.')]);
  if (rows.length === 0) throw new TableError(`there is no table ${table} in this database${table === 'user_sessions' ? ': run `nx run database:migrate` first' : ''}`);
  const types = new Map(rows.map(({ name, type }) => [name, type]));
  const missing = [idColumn, ...columns].filter((column) => !types.has(column));
  if (missing.length > 0) throw new TableError(`table ${table} has no column ${missing.join(', ')}`);
  const odd = columns.filter((column) => !['text', 'character varying'].includes(types.get(column) ?? ''));
  if (odd.length > 0) throw new TableError(`column ${odd.join(', ')} of ${table} is not of type text`);
  if (columns.includes(idColumn)) throw new TableError(`${idColumn} cannot be both the id and a token`);
  return types;
}

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
