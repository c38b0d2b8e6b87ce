import type { Sql } from '@session-gateway/database';
import { textArray } from './textArray.js';

/** Which table and columns hold tokens. */
export interface TableShape {
  /** Without a schema the connection's search path decides. */
  readonly table: string;
  /** Several, separated by commas, where only together they name a row. */
  readonly idColumn: string;
  readonly columns: readonly string[];
}

/** A row as it was read: `version` names the very version of it. */
export interface TokenRow {
  readonly id: string;
  readonly version: string;
  readonly values: readonly (string | null)[];
}

/** New values of a row in the order of the columns; null leaves a column as it is. */
export interface TokenWrite {
  readonly id: string;
  readonly version: string;
  readonly values: readonly (string | null)[];
}

/**
 * A table that cannot be worked on; the message says what is missing. `gone`: the table or a column of
 * it, and the values with it.
 */
export class TableError extends Error {
  override readonly name = 'TableError';
  constructor(
    message: string,
    readonly gone = false,
  ) {
    super(message);
  }
}

/** Rows that this role does not see would be left as they are, and nobody would notice. */
export class HiddenRowsError extends Error {
  override readonly name = 'HiddenRowsError';
}

/** The statements of the job on one table. */
export interface TokenTable {
  /** Its name without a schema, as the gateway knows it: what sealed values are bound to. */
  readonly name: string;
  /** One spelling for one table, however it was asked for: what runs, locks and quarantine go by. */
  readonly key: string;
  /** How many characters each token column takes at most; null: any number. */
  readonly maxLengths: readonly (number | null)[];
  /** The next rows in the order of ids: up to `limit`, fewer where their values are large, none at the end. */
  read(sql: Sql, after: string | null, limit: number, upTo?: string | null): Promise<TokenRow[]>;
  /** Writes what is still exactly as it was read and that nobody is writing; the ids that were written. */
  write(sql: Sql, rows: readonly TokenWrite[]): Promise<string[]>;
  /**
   * Where among the next `limit` rows values look sealed, by their first characters; `last` is null after the last row.
   */
  survey(
    sql: Sql,
    after: string | null,
    limit: number,
  ): Promise<{ last: string | null; found: Candidates[] }>;
  values(
    sql: Sql,
    column: string,
    ids: readonly string[],
  ): Promise<{ id: string; value: string }[]>;
  /** The next ids; or, with `id`, that one if it is there. */
  ids(sql: Sql, after: string | null, limit: number, id?: string): Promise<string[]>;
  /** So many ids at random: of a large table from blocks at random, of about `total` rows. */
  sample(sql: Sql, rows: number, total: number): Promise<string[]>;
  /** Rows by their ids, in any order. */
  rows(sql: Sql, ids: readonly string[]): Promise<TokenRow[]>;
  /** Ids that cut a table of about `total` rows into `parts` of about one size; fewer where there are fewer rows. */
  cuts(sql: Sql, parts: number, total: number): Promise<string[]>;
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

/**
 * How writes find out that a row has changed: by the version of the row, or by a digest of its tokens, for tables whose
 * rows are touched all the time. The other two lose updates: tests show it.
 */
export type WriteGuard = 'xmin' | 'digest' | 'skip-locked-only' | 'none';

/**
 * What one batch holds at most (one row may be larger), so that neither memory nor time depends on the size of tokens.
 */
const BATCH_BYTES = 8 * 1024 * 1024;
const SAMPLES = 100;
/** Up to here rows are counted, beyond it they are estimated. */
const COUNTED_ROWS = 200_000;
/** Blocks that an estimate looks at: it is then within 10 %, nearly always within 5 %. */
const SAMPLE_BLOCKS = 1_000;
/** Up to here a sample is drawn from all rows, beyond it from blocks that hold so many times the rows. */
const SAMPLE_ALL_ROWS = 200_000;
const SAMPLE_FROM = 20;
/** Of a large table a part is enough to tell where to cut it. */
const CUT_SAMPLE_ROWS = 50_000;

/** @throws TableError when the table or a column is not there or is not of use; HiddenRowsError */
export async function openTokenTable(
  sql: Sql,
  shape: TableShape,
  guard: WriteGuard = 'xmin',
): Promise<TokenTable> {
  const { types, name, key, maxLengths } = await describe(sql, shape);
  const table = quoteTable(shape.table);
  const id = identity(
    idColumns(shape).map((column) => ({ column, type: types.get(column) ?? 'text' })),
  );
  const columns = shape.columns.map(quoteName);
  const page = (wanted: string, after: string | null, upTo: string | null = null): string => {
    const bounds = [
      ...(after === null ? [] : [id.above('$2')]),
      ...(upTo === null ? [] : [id.notAbove(after === null ? '$2' : '$3')]),
    ];
    // Qualified: a bare name in ORDER BY would mean the output column, which is text and sorts 10 before 9.
    return `SELECT ${id.key} AS key, ${wanted} FROM ${table} t${bounds.length === 0 ? '' : ` WHERE ${bounds.join(' AND ')}`} ORDER BY ${id.order} LIMIT $1`;
  };
  const version =
    guard === 'digest'
      ? `concat_ws(' ', ${columns.map((column) => `coalesce(encode(sha256(convert_to(t.${column}, 'UTF8')), 'hex'), '-')`).join(', ')})`
      : 't.xmin::text';

  // The size of a value is known without fetching it; values beyond the bound are never fetched.
  const rowAndSize = `${id.text} AS id, ${version} AS version, ${columns.map((column, index) => `t.${column}::text AS c${index}`).join(', ')}, ${columns.map((column) => `coalesce(octet_length(t.${column}), 0)`).join(' + ')} AS bytes`;
  const read = (after: string | null, upTo: string | null): string => `
    SELECT id, version, ${columns.map((_, index) => `c${index}`).join(', ')}
    FROM (SELECT *, sum(bytes) OVER (ORDER BY key ROWS UNBOUNDED PRECEDING) - bytes AS preceding FROM (${page(rowAndSize, after, upTo)}) AS page) AS measured
    WHERE preceding < ${BATCH_BYTES} ORDER BY key`;

  const beginnings = columns
    .map((column, index) => `substr(t.${column}, 1, 66) AS b${index}`)
    .join(', ');
  const survey = (after: string | null): string => `
    WITH page AS MATERIALIZED (${page(`${id.text} AS id, ${beginnings}`, after)}), found AS (
      SELECT at, CASE WHEN beginning LIKE 'v2.%' THEN split_part(beginning, '.', 2) END AS kid, (array_agg(id))[1:${SAMPLES}] AS ids
      FROM page CROSS JOIN LATERAL (VALUES ${columns.map((_, index) => `(${index}, b${index})`).join(', ')}) AS v(at, beginning)
      WHERE beginning ~ '^(v2\\.[a-z0-9]{1,16}\\.|[0-9a-f]{32}:[0-9a-f]{32}:)' GROUP BY 1, 2
    ) SELECT last.id AS last, found.at, found.kid, found.ids
    FROM (SELECT (SELECT id FROM page ORDER BY key DESC LIMIT 1) AS id) AS last LEFT JOIN found ON true`;

  const news = columns.map((_, index) => `new${index}`);
  const compare = {
    xmin: ' AND t.xmin = wanted.version::xid',
    digest: ` AND ${version} = wanted.version`,
    'skip-locked-only': '',
    none: '',
  }[guard];
  const locking = guard === 'none' ? '' : `${compare} FOR NO KEY UPDATE OF t SKIP LOCKED`;
  // A row that somebody changed meanwhile is another version, also when the change commits between our snapshot and our
  // lock: PostgreSQL evaluates the condition anew on the version that it locks.
  const update = `
    WITH wanted AS (
      SELECT * FROM unnest($1::text[], $2::text[], ${news.map((_, index) => `$${index + 3}::text[]`).join(', ')}) AS w(id, version, ${news.join(', ')})
    ), locked AS MATERIALIZED (
      SELECT ${id.parts}, ${news.map((column) => `wanted.${column}`).join(', ')} FROM ${table} t JOIN wanted ON ${id.is('wanted.id')}${locking}
    )
    UPDATE ${table} t SET ${columns.map((column, index) => `${column} = coalesce(locked.new${index}, t.${column})`).join(', ')}
    FROM locked WHERE ${id.isPart('locked')} RETURNING ${id.text} AS id`;

  const asRow = (
    row: { id: string; version: string } & Record<`c${number}`, string | null>,
  ): TokenRow => ({
    id: row.id,
    version: row.version,
    values: columns.map((_, index) => row[`c${index}`] ?? null),
  });
  return {
    name,
    key,
    maxLengths,
    async read(on, after, limit, upTo = null) {
      // A column each: the client takes longer to parse an array of tokens than to decrypt them.
      const bounds = [after, upTo].filter((bound) => bound !== null);
      const rows = await on.query<
        { id: string; version: string } & Record<`c${number}`, string | null>
      >(read(after, upTo), [limit, ...bounds]);
      return rows.map(asRow);
    },
    async rows(on, ids) {
      const rows = await on.query<
        { id: string; version: string } & Record<`c${number}`, string | null>
      >(
        `SELECT ${rowAndSize} FROM unnest($1::text[]) AS wanted(id) JOIN ${table} t ON ${id.is('wanted.id')}`,
        [ids],
      );
      return rows.map(asRow);
    },
    async sample(on, wanted, total) {
      // Blocks are full of rows of one age; several times as many as are needed make up for that.
      const percent =
        total < SAMPLE_ALL_ROWS ? 100 : Math.min(100, ((SAMPLE_FROM * wanted) / total) * 100);
      const rows = await on.query<{ id: string }>(
        `SELECT ${id.text} AS id FROM ${table} t${percent < 100 ? ` TABLESAMPLE SYSTEM (${percent})` : ''} ORDER BY random() LIMIT $1`,
        [wanted],
      );
      return rows.map((row) => row.id);
    },
    async write(on, rows) {
      const perColumn = columns.map((_, index) =>
        textArray(rows.map((row) => row.values[index] ?? null)),
      );
      const written = await on.query<{ id: string }>(update, [
        rows.map((row) => row.id),
        rows.map((row) => row.version),
        ...perColumn,
      ]);
      return written.map((row) => row.id);
    },
    async survey(on, after, limit) {
      const rows = await on.query<{
        last: string | null;
        at: number | null;
        kid: string | null;
        ids: string[] | null;
      }>(survey(after), after === null ? [limit] : [limit, after]);
      const found = rows.flatMap(({ at, kid, ids }) =>
        at === null || ids === null ? [] : [{ column: shape.columns[at] ?? '', kid, ids }],
      );
      return { last: rows[0]?.last ?? null, found };
    },
    values: (on, column, ids) =>
      on.query<{ id: string; value: string }>(
        `SELECT ${id.text} AS id, t.${quoteName(column)}::text AS value FROM unnest($1::text[]) AS wanted(id) JOIN ${table} t ON ${id.is('wanted.id')} WHERE t.${quoteName(column)} <> ''`,
        [ids],
      ),
    async ids(on, after, limit, wanted) {
      const rows =
        wanted === undefined
          ? await on.query<{ id: string }>(
              page(`${id.text} AS id`, after),
              after === null ? [limit] : [limit, after],
            )
          : await on.query<{ id: string }>(
              `SELECT ${id.text} AS id FROM ${table} t WHERE ${id.text} = $1`,
              [wanted],
            );
      return rows.map((row) => row.id);
    },
    async cuts(on, parts, total) {
      const percent = Math.min(100, (CUT_SAMPLE_ROWS / Math.max(1, total)) * 100);
      const rows = await on.query<{ id: string }>(
        `SELECT id FROM (SELECT ${id.text} AS id, row_number() OVER (ORDER BY ${id.order}) AS n, count(*) OVER () AS rows FROM ${table} t${percent < 100 ? ` TABLESAMPLE SYSTEM (${percent})` : ''}) AS sample
         WHERE n < rows AND n * $1 / rows > (n - 1) * $1 / rows ORDER BY n`,
        [parts],
      );
      return rows.map((row) => row.id);
    },
    async count(on) {
      const [row] = await on.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM (SELECT FROM ${table} LIMIT $1) AS part`,
        [COUNTED_ROWS + 1],
      );
      const count = row?.count ?? 0;
      if (count <= COUNTED_ROWS) return count;
      // The planner's own number is a guess of the rows' width where nothing was analyzed: three
      // times too many, and more.
      const [size] = await on.query<{ blocks: number }>(
        `SELECT (coalesce((SELECT nullif(sum(pg_relation_size(relid)), 0) FROM pg_partition_tree($1)), pg_relation_size($1))
           / current_setting('block_size')::int)::float8 AS blocks`,
        [table],
      );
      const percent = Math.min(100, (100 * SAMPLE_BLOCKS) / Math.max(1, size?.blocks ?? 0));
      const [sampled] = await on.query<{ rows: number }>(
        `SELECT count(*)::int AS rows FROM ${table} TABLESAMPLE SYSTEM (${percent})`,
      );
      return Math.max(count, Math.round(((sampled?.rows ?? 0) * 100) / percent));
    },
  };
}

/**
 * How rows are named, compared and put in order: by one column, or by several together, whose texts
 * then make one JSON array.
 */
function identity(of: readonly { column: string; type: string }[]): {
  text: string;
  key: string;
  order: string;
  parts: string;
  is(text: string): string;
  isPart(relation: string): string;
  above(text: string): string;
  notAbove(text: string): string;
} {
  const columns = of.map(({ column }) => `t.${quoteName(column)}`);
  const single = columns.length === 1;
  const row = (parts: readonly string[]): string =>
    single ? parts.join() : `(${parts.join(', ')})`;
  const fromText = (text: string): string[] =>
    of.map(({ type }, index) =>
      single ? `${text}::${type}` : `(${text}::json->>${index})::${type}`,
    );
  return {
    text: single
      ? `${columns[0]}::text`
      : `to_json(ARRAY[${columns.map((column) => `${column}::text`).join(', ')}])::text`,
    key: single ? columns.join() : `ROW(${columns.join(', ')})`,
    order: columns.join(', '),
    parts: columns.map((column, index) => `${column} AS id${index}`).join(', '),
    is: (text) =>
      columns.map((column, index) => `${column} = ${fromText(text)[index]}`).join(' AND '),
    isPart: (relation) =>
      columns.map((column, index) => `${column} = ${relation}.id${index}`).join(' AND '),
    above: (text) => `${row(columns)} > ${row(fromText(text))}`,
    notAbove: (text) => `${row(columns)} <= ${row(fromText(text))}`,
  };
}

const idColumns = ({ idColumn }: TableShape): string[] =>
  idColumn.split(',').map((column) => column.trim());

/** @throws HiddenRowsError */
export async function requireAllRows(sql: Sql, table: string): Promise<void> {
  const [row] = await sql.query<{ hidden: boolean | null }>(
    'SELECT row_security_active(to_regclass($1)) AS hidden',
    [quoteTable(table)],
  );
  if (row?.hidden)
    throw new HiddenRowsError(
      `row-level security may hide rows of ${table} from this role: take a role with BYPASSRLS, or the table's owner`,
    );
}

async function describe(
  sql: Sql,
  shape: TableShape,
): Promise<{
  types: Map<string, string>;
  name: string;
  key: string;
  maxLengths: (number | null)[];
}> {
  const { table, columns } = shape;
  const id = idColumns(shape);
  // Type modifier -1, because a bare `character` means one character.
  const rows = await sql.query<{
    column: string;
    type: string;
    maxLength: number | null;
    generated: boolean;
    name: string;
    key: string;
    inherited: boolean;
    usable: boolean;
  }>(
    `SELECT a.attname AS "column", format_type(a.atttypid, -1) AS type, CASE WHEN a.atttypmod > 0 THEN a.atttypmod - 4 END AS "maxLength", a.attgenerated <> '' AS generated, c.relname AS name,
       c.relkind = 'r' AND EXISTS (SELECT 1 FROM pg_inherits h WHERE h.inhparent = c.oid) AS inherited,
       CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END AS key,
       a.attnotnull AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
         AND i.indexprs IS NULL AND (SELECT array_agg(k.attname::text ORDER BY k.attname::text) FROM pg_attribute k WHERE k.attrelid = c.oid AND k.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]))
           = (SELECT array_agg(u ORDER BY u) FROM unnest($2::text[]) AS u)) AS usable
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.oid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`,
    [quoteTable(table), id],
  );
  const [first] = rows;
  if (!first)
    throw new TableError(
      `there is no table ${table} in this database${table === 'user_sessions' ? ': run the migrations first (`migrate`)' : ''}`,
      true,
    );
  const types = new Map(rows.map(({ column, type }) => [column, type]));
  const missing = [...id, ...columns].filter((column) => !types.has(column));
  if (missing.length > 0)
    throw new TableError(`table ${table} has no column ${missing.join(', ')}`, true);
  const odd = columns.filter(
    (column) => !['text', 'character varying'].includes(types.get(column) ?? ''),
  );
  if (odd.length > 0)
    throw new TableError(`column ${odd.join(', ')} of ${table} is not of type text`);
  const generated = columns.filter(
    (column) => rows.find((row) => row.column === column)?.generated,
  );
  if (generated.length > 0)
    throw new TableError(
      `column ${generated.join(', ')} of ${table} is generated from others: it is those that hold tokens`,
    );
  const both = id.filter((column) => columns.includes(column));
  if (both.length > 0) throw new TableError(`${both.join(', ')} cannot be both the id and a token`);
  // A unique index does not reach into the tables that inherit.
  if (first.inherited)
    throw new TableError(
      `other tables inherit from ${table}: their rows appear in it, and may have the same ids`,
    );
  // With two rows of one id, one row's tokens would be written to the other.
  if (!id.every((column) => rows.find((row) => row.column === column)?.usable)) {
    throw new TableError(
      id.length === 1
        ? `column ${id.join()} of ${table} cannot be the id: it must be a primary key, or NOT NULL and unique`
        : `columns ${id.join(', ')} of ${table} cannot be the id: together they must be a primary key, or NOT NULL and unique`,
    );
  }
  await requireAllRows(sql, table);
  return {
    types,
    name: first.name,
    key: first.key,
    maxLengths: columns.map(
      (column) => rows.find((row) => row.column === column)?.maxLength ?? null,
    ),
  };
}

export const quoteName = (name: string): string => `"${name.replaceAll('"', '""')}"`;
/** With or without a schema in front. */
export const quoteTable = (table: string): string => table.split('.').map(quoteName).join('.');
