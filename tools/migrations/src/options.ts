import { parseArgs, type ParseArgsConfig } from 'node:util';
import { type ControlOptions, VERBS } from './control.js';
import type { PaceLimits } from './pace.js';

/** What the job is asked to do. */
export interface JobOptions extends PaceLimits {
  readonly mode: 'dry-run' | 'execute' | 'verify';
  /** A key id, `plain`, or null for the primary key. */
  readonly to: string | null;
  readonly table: string;
  readonly idColumn: string;
  readonly columns: readonly string[];
  /** How many connections of this process sweep the table at once, on ranges of their own. */
  readonly workers: number;
  /** By what a write knows that the row is still what was read. */
  readonly cas: 'xmin' | 'digest';
  /** Share of the values that may fail to open before the run stops. */
  readonly maxUnreadable: number;
  readonly resume: string | null;
  /** A run under way on another machine, which this process helps with. */
  readonly join: string | null;
  readonly finalize: boolean;
  /** Of verify: so many rows at random; null: all. */
  readonly sample: number | null;
  /** Where a report is written; never over an older one. */
  readonly report: string | null;
  /** Whether autovacuum follows the run closely. */
  readonly vacuum: boolean;
  readonly metricsPort: number | null;
  readonly restart: boolean;
  readonly json: boolean;
}

/** A command line that cannot be meant; the message names what is wrong. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const USAGE = `usage: encrypt-tokens [flags]

  --dry-run                 count what would be done, change nothing (the default)
  --execute                 encrypt
  --verify                  open every value; exit 0 only when all are under the target key
  --to <kid>                target key (default: the primary key)
  --to plain                back to plaintext; needs --i-understand-tokens-will-be-plaintext
  --chunk-size <n>          rows in one transaction at most, 1 to 10000 (100)
  --max-rows-per-second <n> upper bound of the pace
  --duty <0-1>              share of the time spent working (0.7); at 1 it also reads and seals ahead
  --max-wal-mb-per-second <n>       rest when the server writes more WAL than that
  --max-replication-lag <seconds>   rest while a replica is further behind (10; 0: do not look)
  --max-active-sessions <n>         rest while more others run statements (25; 0: do not look)
  --max-slot-wal <MB>               rest while a replication slot keeps more WAL (16000; 0: do not look)
  --max-lock-waits <n>              rest while more of them wait for locks (5; 0: do not look)
  --workers <n>             connections that sweep ranges of their own, 1 to 16 (1)
  --cas <xmin|digest>       how a write knows that a row is unchanged; digest: by its tokens, for rows that are touched all the time
  --max-unreadable <0-1>    share of values that may fail to open before the run stops (0.2)
  --join <run>              help with a run that is under way on another machine
  --resume <run>            continue this run; without it an unfinished run is continued anyway
  --restart                 start from the beginning
  --table, --id-column      another table (user_sessions, id)
  --columns a,b,c           its token columns (access_token,refresh_token,id_token)
  --sample <n>              with --verify: so many rows at random
  --report <file>           write what was done and checked, as FILE.json and FILE.md
  --vacuum                  let autovacuum follow the run closely; its settings are put back at the end
  --metrics-port <port>     Prometheus metrics on 127.0.0.1 while it runs
  --finalize                after a clean verify: a constraint that refuses anything but v2
  --json                    one line of JSON on stdout, progress on stderr

from another terminal:
  status [<run>]            how runs stand; of one run also the values that do not open
  pause|resume|cancel <run> honoured after the batch under way
  pace <run> [flags]        other bounds of the pace, from the next batch on; none lifts one
  check-report <file>       whether a report is as it was written

exit codes: 0 done, 1 failed, 2 wrong usage, 3 values remain or are quarantined, 78 configuration, 130 interrupted`;

const USUAL_PACE: PaceLimits = {
  chunkSize: 100,
  maxRowsPerSecond: null,
  duty: 0.7,
  maxWalMbPerSecond: null,
  maxReplicationLagSeconds: 10,
  maxSlotWalMb: 16_000,
  maxActiveSessions: 25,
  maxLockWaits: 5,
};
const USUAL = {
  table: 'user_sessions',
  idColumn: 'id',
  columns: ['access_token', 'refresh_token', 'id_token'],
};

const PACE_FLAGS = {
  'chunk-size': { type: 'string' },
  'max-rows-per-second': { type: 'string' },
  duty: { type: 'string' },
  'max-wal-mb-per-second': { type: 'string' },
  'max-replication-lag': { type: 'string' },
  'max-slot-wal': { type: 'string' },
  'max-active-sessions': { type: 'string' },
  'max-lock-waits': { type: 'string' },
} as const;
type PaceFlag = keyof typeof PACE_FLAGS;
const CONTROL_FLAGS = {
  ...PACE_FLAGS,
  json: { type: 'boolean' },
  help: { type: 'boolean' },
} as const;
const FLAGS = {
  ...PACE_FLAGS,
  'dry-run': { type: 'boolean' },
  execute: { type: 'boolean' },
  verify: { type: 'boolean' },
  json: { type: 'boolean' },
  restart: { type: 'boolean' },
  help: { type: 'boolean' },
  finalize: { type: 'boolean' },
  vacuum: { type: 'boolean' },
  'i-understand-tokens-will-be-plaintext': { type: 'boolean' },
  to: { type: 'string' },
  table: { type: 'string' },
  'id-column': { type: 'string' },
  columns: { type: 'string' },
  resume: { type: 'string' },
  workers: { type: 'string' },
  cas: { type: 'string' },
  'max-unreadable': { type: 'string' },
  join: { type: 'string' },
  sample: { type: 'string' },
  report: { type: 'string' },
  'metrics-port': { type: 'string' },
} as const;

/** @throws UsageError before anything is connected to; null when help was asked for */
export function parseOptions(args: readonly string[]): JobOptions | null {
  const { values, tokens } = parse(args, FLAGS);
  if (values.help) return null;
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    if (seen.has(token.name)) throw new UsageError(`--${token.name} is given twice`);
    seen.add(token.name);
  }
  const modes = (['dry-run', 'execute', 'verify'] as const).filter((mode) => values[mode]);
  if (modes.length > 1) throw new UsageError(`--${modes.join(' and --')} exclude each other`);
  const finalize = values.finalize ?? false;
  if (finalize && modes[0] === 'dry-run')
    throw new UsageError('--dry-run and --finalize exclude each other');
  const mode = modes[0] ?? (finalize ? 'verify' : 'dry-run');
  const to = values.to ?? null;
  if (to !== null && !/^([a-z0-9]{1,16})$/.test(to))
    throw new UsageError('--to must be a key id (1 to 16 characters a-z, 0-9) or plain');
  const understood = values['i-understand-tokens-will-be-plaintext'] ?? false;
  if (to === 'plain' && mode === 'verify')
    throw new UsageError('--verify needs a key: it cannot be used with --to plain');
  if (to === 'plain' && mode === 'execute' && !understood)
    throw new UsageError(
      '--to plain writes tokens in the clear: add --i-understand-tokens-will-be-plaintext',
    );
  if (understood && to !== 'plain')
    throw new UsageError('--i-understand-tokens-will-be-plaintext belongs to --to plain');
  if (finalize && to === 'plain')
    throw new UsageError('--finalize needs a key: it cannot be used with --to plain');
  const cas = values.cas ?? 'xmin';
  if (cas !== 'xmin' && cas !== 'digest') throw new UsageError('--cas must be xmin or digest');
  const continued = [
    ...(values.resume === undefined ? [] : ['--resume']),
    ...(values.restart ? ['--restart'] : []),
    ...(values.join === undefined ? [] : ['--join']),
  ];
  if (mode !== 'execute' && continued.length > 0)
    throw new UsageError(`${continued[0]} belongs to --execute`);
  if (continued.length > 1) throw new UsageError(`${continued.join(' and ')} exclude each other`);
  if (values.sample !== undefined && (mode !== 'verify' || finalize))
    throw new UsageError('--sample belongs to --verify');
  if (values.vacuum && mode !== 'execute') throw new UsageError('--vacuum belongs to --execute');
  const columns = list(values.columns) ?? USUAL.columns;
  return {
    mode,
    to,
    columns,
    table: tableName(values.table) ?? USUAL.table,
    idColumn: name('id-column', values['id-column']) ?? USUAL.idColumn,
    ...{ ...USUAL_PACE, ...paceLimits(values) },
    workers: integer('workers', values.workers, 1, 16) ?? 1,
    cas,
    finalize,
    sample: integer('sample', values.sample, 1, 10_000_000),
    report: name('report', values.report),
    vacuum: values.vacuum ?? false,
    metricsPort: integer('metrics-port', values['metrics-port'], 1, 65_535),
    maxUnreadable: share('max-unreadable', values['max-unreadable']) ?? 0.2,
    resume: name('resume', values.resume),
    join: name('join', values.join),
    restart: values.restart ?? false,
    json: values.json ?? false,
  };
}

/** `null` in words: no bound. */
const NO_BOUND = 'none';

/** The bounds of the pace that are given. */
function paceLimits(values: {
  readonly [Flag in PaceFlag]?: string | undefined;
}): Partial<PaceLimits> {
  const bound = (flag: PaceFlag, min: number, max: number): number | null | undefined =>
    values[flag] === NO_BOUND ? null : (integer(flag, values[flag], min, max) ?? undefined);
  const given: { -readonly [Limit in keyof PaceLimits]?: PaceLimits[Limit] | undefined } = {
    chunkSize: integer('chunk-size', values['chunk-size'], 1, 10_000) ?? undefined,
    maxRowsPerSecond: bound('max-rows-per-second', 1, 1_000_000),
    duty: share('duty', values.duty) ?? undefined,
    maxWalMbPerSecond: bound('max-wal-mb-per-second', 1, 100_000),
    maxSlotWalMb: integer('max-slot-wal', values['max-slot-wal'], 0, 100_000_000) ?? undefined,
    maxReplicationLagSeconds:
      integer('max-replication-lag', values['max-replication-lag'], 0, 86_400) ?? undefined,
    maxActiveSessions:
      integer('max-active-sessions', values['max-active-sessions'], 0, 100_000) ?? undefined,
    maxLockWaits: integer('max-lock-waits', values['max-lock-waits'], 0, 100_000) ?? undefined,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** `pause <run>` and the like. @throws UsageError; null when help was asked for */
export function parseControl(args: readonly string[]): ControlOptions | null {
  const verb = VERBS.find((known) => known === args[0]);
  if (!verb) throw new UsageError(`there are ${VERBS.join(', ')}`);
  const [first, ...others] = args.slice(1);
  const run = first === undefined || first.startsWith('-') ? null : first;
  const { values } = parse(run === null ? args.slice(1) : others, CONTROL_FLAGS);
  if (values.help) return null;
  if (run === null && verb !== 'status')
    throw new UsageError(`${verb} takes the id of a run: see \`status\``);
  const pace = paceLimits(values);
  if (verb === 'pace' && Object.keys(pace).length === 0)
    throw new UsageError('pace takes --chunk-size, --max-rows-per-second, --duty or another bound');
  if (verb !== 'pace' && Object.keys(pace).length > 0)
    throw new UsageError(`${verb} takes no pace`);
  return { verb, run, pace, json: values.json ?? false };
}

/** The flags that say which table and which target, as a shell takes them; empty for the usual ones. */
export function shapeFlags({ to, table, idColumn, columns }: JobOptions): string {
  const given = [
    ['to', to ?? ''],
    ['table', table === USUAL.table ? '' : table],
    ['id-column', idColumn === USUAL.idColumn ? '' : idColumn],
    ['columns', columns.join() === USUAL.columns.join() ? '' : columns.join()],
  ] as const;
  return given
    .map(([flag, value]) =>
      value === ''
        ? ''
        : ` --${flag} ${/^[\w.,-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`}`,
    )
    .join('');
}

function parse<const Flags extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: Flags,
) {
  try {
    // One spelling each: abbreviations and --no-… would make a typo do something.
    return parseArgs({
      args: [...args],
      options,
      strict: true,
      allowPositionals: false,
      tokens: true,
    });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION')
      throw new UsageError(`unknown flag ${/'([^']*)'/.exec(message)?.[1] ?? ''}`);
    if (code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL')
      throw new UsageError(`unexpected word ${/'([^']*)'/.exec(message)?.[1] ?? ''}`);
    if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE')
      throw new UsageError(
        `${/'([^' ]*)/.exec(message)?.[1] ?? 'a flag'} ${/does not take an argument/.test(message) ? 'takes no value' : 'needs a value'}`,
      );
    throw error;
  }
}

function integer(flag: string, value: string | undefined, min: number, max: number): number | null {
  if (value === undefined) return null;
  if (!/^\d{1,9}$/.test(value) || Number(value) < min || Number(value) > max)
    throw new UsageError(`--${flag} must be a whole number from ${min} to ${max}`);
  return Number(value);
}

function share(flag: string, value: string | undefined): number | null {
  if (value === undefined) return null;
  if (!/^(0?\.\d+|1(\.0+)?)$/.test(value) || Number(value) <= 0)
    throw new UsageError(`--${flag} must be a number above 0 and up to 1`);
  return Number(value);
}

function name(flag: string, value: string | undefined): string | null {
  if (value === undefined) return null;
  if (value.trim() === '') throw new UsageError(`--${flag} must not be empty`);
  if (value.length > 128 || value.includes('\0'))
    throw new UsageError(`--${flag} is too long, or holds a NUL character`);
  return value;
}

function tableName(value: string | undefined): string | null {
  const table = name('table', value);
  if (table !== null && !/^([^.]+\.)?[^.]+$/.test(table))
    throw new UsageError("--table must be a table's name, or schema.name");
  return table;
}

function list(value: string | undefined): string[] | null {
  if (value === undefined) return null;
  const columns = value.split(',').map((column) => column.trim());
  if (
    columns.some((column) => column === '' || column.includes('\0')) ||
    new Set(columns).size !== columns.length
  )
    throw new UsageError('--columns must be column names separated by commas, each once');
  return columns;
}
