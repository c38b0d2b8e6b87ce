import { parseArgs } from 'node:util';
import { UsageError } from '../../composition/exits.js';

export const SESSIONS_HELP = `usage: session-gateway sessions <command>

  list [--sub S] [--json]   the live sessions, newest first; of one person with --sub
  end ID…                   end sessions by their ids
  end --sub S               end all sessions of a person, by their subject
  end --all [--yes]         end everybody's sessions; asks, unless --yes is given
  events [--since T] [--until T] [--sub S] [--session ID] [--json]
                            what happened to sessions, oldest first: the audit trail

  --json                    one JSON array on stdout (end: one JSON object)
  --since, --until <time>   2026-01-31T08:00:00Z, or so long ago: 90m, 24h, 7d (--since 24h)

Works on the database (DATABASE_URL), whether gateways run or not. Running gateways hear of an end within a second, and
end the provider's session too; where none runs, the next start does. Ending takes the keys of the gateway.

exit codes: 0 done, 1 failed, or an id is of no live session, 2 wrong usage, 78 configuration`;

export type SessionsOptions =
  | { readonly command: 'list'; readonly subject: string | null; readonly json: boolean }
  | {
      readonly command: 'end';
      readonly which:
        | { readonly ids: readonly string[] }
        | { readonly subject: string }
        | { readonly all: true; readonly confirmed: boolean };
      readonly json: boolean;
    }
  | {
      readonly command: 'events';
      readonly since: Date;
      readonly until: Date | null;
      readonly subject: string | null;
      readonly session: string | null;
      readonly json: boolean;
    };

const JSON_FLAG = { json: { type: 'boolean' } } as const;
const FLAGS = {
  list: { ...JSON_FLAG, sub: { type: 'string' } },
  end: {
    ...JSON_FLAG,
    sub: { type: 'string' },
    all: { type: 'boolean' },
    yes: { type: 'boolean' },
  },
  events: {
    ...JSON_FLAG,
    since: { type: 'string' },
    until: { type: 'string' },
    sub: { type: 'string' },
    session: { type: 'string' },
  },
} as const;

/** Null when help was asked for. @throws UsageError before anything is connected to */
export function parseSessionsOptions(
  args: readonly string[],
  now: Date = new Date(),
): SessionsOptions | null {
  const [command, ...rest] = args;
  if (command === 'help' || args.includes('--help')) return null;
  if (command !== 'list' && command !== 'end' && command !== 'events')
    throw new UsageError(
      command === undefined
        ? 'say what to do with sessions: list, end or events'
        : `unknown command sessions ${command}: there are list, end and events`,
    );
  const { values, positionals } = parse(command, rest);
  const subject = text('sub', values.sub);
  const json = values.json ?? false;
  if (command === 'end') return { command, json, which: whichToEnd(values, positionals) };
  if (positionals[0] !== undefined)
    throw new UsageError(`unexpected word ${positionals[0]} after sessions ${command}`);
  if (command === 'list') return { command, json, subject };
  return {
    command,
    json,
    subject,
    session: text('session', values.session),
    since: time('since', values.since ?? '24h', now),
    until: values.until === undefined ? null : time('until', values.until, now),
  };
}

type Values = {
  readonly [Flag in 'sub' | 'since' | 'until' | 'session']?: string;
} & { readonly [Flag in 'json' | 'all' | 'yes']?: boolean };

function parse(
  command: keyof typeof FLAGS,
  args: readonly string[],
): { values: Values; positionals: string[] } {
  try {
    const options = FLAGS[command];
    return parseArgs({ args: [...args], options, allowPositionals: true }) as {
      values: Values;
      positionals: string[];
    };
  } catch (error) {
    throw new UsageError(
      `sessions ${command}: ${(error as Error).message.split('. ')[0] ?? 'wrong usage'}`,
    );
  }
}

function whichToEnd(
  { sub, all, yes }: Values,
  ids: readonly string[],
): Extract<SessionsOptions, { command: 'end' }>['which'] {
  const ways = [ids.length > 0, sub !== undefined, all === true].filter(Boolean).length;
  if (ways !== 1) throw new UsageError('sessions end takes ids, or --sub, or --all: one of them');
  if (yes && !all) throw new UsageError('--yes belongs to --all');
  if (all) return { all, confirmed: yes ?? false };
  const subject = text('sub', sub);
  return subject === null ? { ids: [...new Set(ids)] } : { subject };
}

function text(flag: string, value: string | undefined): string | null {
  if (value === undefined) return null;
  if (value === '' || value.includes('\0'))
    throw new UsageError(`--${flag} must be a text without NUL, and not empty`);
  return value;
}

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** A time of ISO 8601 with its offset, or a span before now. */
function time(flag: string, value: string, now: Date): Date {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(value) ?? [];
  if (count !== undefined)
    return new Date(now.getTime() - Number(count) * (UNIT_MS[unit ?? ''] ?? 0));
  const isTime = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(value);
  const at = new Date(value);
  if (!isTime || Number.isNaN(at.getTime()))
    throw new UsageError(
      `--${flag} must be a time as 2026-01-31T08:00:00Z or 2026-01-31, or so long ago as 90m, 24h or 7d`,
    );
  return at;
}
