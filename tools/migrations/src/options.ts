import { parseArgs } from 'node:util';

/** What the job is asked to do. */
export interface JobOptions {
  readonly mode: 'dry-run' | 'execute' | 'verify';
  /** A key id, `plain`, or null for the primary key. */
  readonly to: string | null;
  readonly table: string;
  readonly idColumn: string;
  readonly columns: readonly string[];
  readonly chunkSize: number;
  readonly maxRowsPerSecond: number | null;
  /** Share of the time that is spent working, above 0 up to 1. */
  readonly duty: number;
  readonly resume: string | null;
  readonly restart: boolean;
  readonly json: boolean;
}

/** A command line that cannot be meant; the message names what is wrong. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const USAGE = `usage: nx run migrations:encrypt-tokens -- [flags]

  --dry-run                 count what would be done, change nothing (the default)
  --execute                 encrypt
  --verify                  open every value; exit 0 only when all are under the target key
  --to <kid>                target key (default: the primary key)
  --to plain                back to plaintext; needs --i-understand-tokens-will-be-plaintext
  --chunk-size <n>          rows in one transaction at most, 1 to 10000 (100)
  --max-rows-per-second <n> upper bound of the pace
  --duty <0-1>              share of the time spent working (1)
  --resume <run>            continue this run; without it an unfinished run is continued anyway
  --restart                 start from the beginning
  --table, --id-column      another table (user_sessions, id)
  --columns a,b,c           its token columns (access_token,refresh_token,id_token)
  --json                    one line of JSON on stdout, progress on stderr

exit codes: 0 done, 1 failed, 2 wrong usage, 3 values remain or are quarantined, 78 configuration, 130 interrupted`;

const USUAL = { table: 'user_sessions', idColumn: 'id', columns: ['access_token', 'refresh_token', 'id_token'] };

const FLAGS = {
  'dry-run': { type: 'boolean' }, execute: { type: 'boolean' }, verify: { type: 'boolean' }, json: { type: 'boolean' }, restart: { type: 'boolean' }, help: { type: 'boolean' },
  'i-understand-tokens-will-be-plaintext': { type: 'boolean' },
  to: { type: 'string' }, table: { type: 'string' }, 'id-column': { type: 'string' }, columns: { type: 'string' }, resume: { type: 'string' },
  'chunk-size': { type: 'string' }, 'max-rows-per-second': { type: 'string' }, duty: { type: 'string' },
} as const;

/** @throws UsageError before anything is connected to; null when help was asked for */
export function parseOptions(args: readonly string[]): JobOptions | null {
  const { values, tokens } = parse(args);
  if (values.help) return null;
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    if (seen.has(token.name)) throw new UsageError(`--${token.name} is given twice`);
    seen.add(token.name);
  }
  const modes = (['dry-run', 'execute', 'verify'] as const).filter((mode) => values[mode]);
  if (modes.length > 1) throw new UsageError(`--${modes.join(' and --')} exclude each other`);
  const mode = modes[0] ?? 'dry-run';
  const to = values.to ?? null;
  if (to !== null && !/^([a-z0-9]{1,16})$/.test(to)) throw new UsageError('--to must be a key id (1 to 16 characters a-z, 0-9) or plain');
  const understood = values['i-understand-tokens-will-be-plaintext'] ?? false;
  if (to === 'plain' && mode === 'verify') throw new UsageError('--verify needs a key: it cannot be used with --to plain');
  if (to === 'plain' && mode === 'execute' && !understood) throw new UsageError('--to plain writes tokens in the clear: add --i-understand-tokens-will-be-plaintext');
  if (understood && to !== 'plain') throw new UsageError('--i-understand-tokens-will-be-plaintext belongs to --to plain');
  if (mode !== 'execute' && (values.resume !== undefined || values.restart)) throw new UsageError('--resume and --restart belong to --execute');
  if (values.resume !== undefined && values.restart) throw new UsageError('--resume and --restart exclude each other');
  const columns = list(values.columns) ?? USUAL.columns;
  return {
    mode, to, columns,
    table: tableName(values.table) ?? USUAL.table,
    idColumn: name('id-column', values['id-column']) ?? USUAL.idColumn,
    chunkSize: integer('chunk-size', values['chunk-size'], 1, 10_000) ?? 100,
    maxRowsPerSecond: integer('max-rows-per-second', values['max-rows-per-second'], 1, 1_000_000),
    duty: share('duty', values.duty) ?? 1,
    resume: name('resume', values.resume),
    restart: values.restart ?? false,
    json: values.json ?? false,
  };
}

/** The flags that say which table and which target, as a shell takes them; empty for the usual ones. */
export function shapeFlags({ to, table, idColumn, columns }: JobOptions): string {
  const given = [['to', to ?? ''], ['table', table === USUAL.table ? '' : table], ['id-column', idColumn === USUAL.idColumn ? '' : idColumn], ['columns', columns.join() === USUAL.columns.join() ? '' : columns.join()]] as const;
  return given.map(([flag, value]) => (value === '' ? '' : ` --${flag} ${/^[\w.,-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`}`)).join('');
}

function parse(args: readonly string[]) {
  try {
    // One spelling each: abbreviations and --no-… would make a typo do something.
    return parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: false, tokens: true });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') throw new UsageError(`unknown flag ${/'([^']*)'/.exec(message)?.[1] ?? ''}`);
    if (code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') throw new UsageError(`unexpected word ${/'([^']*)'/.exec(message)?.[1] ?? ''}`);
    if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') throw new UsageError(`${/'([^' ]*)/.exec(message)?.[1] ?? 'a flag'} ${/does not take an argument/.test(message) ? 'takes no value' : 'needs a value'}`);
    throw error;
  }
}

function integer(flag: string, value: string | undefined, min: number, max: number): number | null {
  if (value === undefined) return null;
  if (!/^\d{1,9}$/.test(value) || Number(value) < min || Number(value) > max) throw new UsageError(`--${flag} must be a whole number from ${min} to ${max}`);
  return Number(value);
}

function share(flag: string, value: string | undefined): number | null {
  if (value === undefined) return null;
  if (!/^(0?\.\d+|1(\.0+)?)$/.test(value) || Number(value) <= 0) throw new UsageError(`--${flag} must be a number above 0 and up to 1`);
  return Number(value);
}

function name(flag: string, value: string | undefined): string | null {
  if (value === undefined) return null;
  if (value.trim() === '') throw new UsageError(`--${flag} must not be empty`);
  if (value.length > 128 || value.includes('\0')) throw new UsageError(`--${flag} is too long, or holds a NUL character`);
  return value;
}

function tableName(value: string | undefined): string | null {
  const table = name('table', value);
  if (table !== null && !/^([^.]+\.)?[^.]+$/.test(table)) throw new UsageError('--table must be a table\'s name, or schema.name');
  return table;
}

function list(value: string | undefined): string[] | null {
  if (value === undefined) return null;
  const columns = value.split(',').map((column) => column.trim());
  if (columns.some((column) => column === '' || column.includes('\0')) || new Set(columns).size !== columns.length) throw new UsageError('--columns must be column names separated by commas, each once');
  return columns;
}
