/** One thing that is not as the migrations make it; null where it is missing on that side. */
export interface Difference {
  /** As `describe` of checkSchema.ts calls it, for example `column users.name`. */
  readonly what: string;
  readonly actual: string | null;
  readonly expected: string | null;
}

type Parts = Readonly<Map<string, string>>;

/**
 * Whether a difference is what taking over somebody's database leaves, and does not change how the gateway
 * works: columns that it does not know and may leave out, other names of the same index, looser columns,
 * foreign keys of another kind.
 */
export function isLeftByTakeOver(
  { what, actual, expected }: Difference,
  database: Parts,
  migrations: Parts,
): boolean {
  const [kind = '', path = ''] = what.split(' ');
  const table = path.split('.')[0] ?? '';
  if (table !== 'users' && table !== 'user_sessions') return false;
  if (kind === 'column') return isLooser(actual, expected);
  if (kind === 'trigger') return expected === null;
  if (kind === 'constraint')
    return (
      expected === null || expected.startsWith('FOREIGN KEY') || hasTwin(table, expected, database)
    );
  if (kind !== 'index') return false;
  if (expected !== null) return actual === null && hasTwin(table, expected, database);
  return actual !== null && !demands(actual, table, migrations);
}

/** A column that takes whatever the gateway writes, or leaves out. */
function isLooser(actual: string | null, expected: string | null): boolean {
  if (actual === null) return false;
  const is = partsOf(actual);
  if (expected === null) return !is.notNull || is.hasDefault;
  const asked = partsOf(expected);
  return (
    is.type === asked.type && (asked.notNull || !is.notNull) && (is.hasDefault || !asked.hasDefault)
  );
}

function partsOf(column: string): { type: string; notNull: boolean; hasDefault: boolean } {
  const [declared = ''] = column.split(' default ');
  return {
    type: declared.replace(/ not null$/, ''),
    notNull: declared.endsWith(' not null'),
    hasDefault: column.includes(' default '),
  };
}

/** The same index or key under another name. */
function hasTwin(table: string, definition: string, database: Parts): boolean {
  const bare = columnsOf(definition);
  return [...database].some(
    ([what, how]) =>
      new RegExp(`^(index|constraint) ${table}\\.`).test(what) &&
      columnsOf(how) === bare &&
      (/UNIQUE|PRIMARY KEY/.test(how) || !/UNIQUE|PRIMARY KEY/.test(definition)),
  );
}

const columnsOf = (definition: string): string => /\(([^)]*)\)/.exec(definition)?.[1] ?? definition;

/** A unique index on nothing but columns that the gateway writes forbids rows that it has to write. */
function demands(index: string, table: string, migrations: Parts): boolean {
  return (
    index.startsWith('CREATE UNIQUE') &&
    columnsOf(index)
      .split(', ')
      .every((column) => migrations.has(`column ${table}.${column}`)) &&
    columnsOf(index) !== 'id'
  );
}
