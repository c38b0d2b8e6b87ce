import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { hostname, userInfo } from 'node:os';
import type { Database } from '@session-gateway/database';
import type { Keyring } from '@session-gateway/keycloak-auth';
import type { JobResult } from './jobResult.js';
import type { JobOptions } from './options.js';
import { noCounters } from './runs.js';
import type { TableHealth } from './vacuum.js';

const FORMAT = 'session-gateway encrypt-tokens report 1';

/** What a run can be held to afterwards: who did what, when, with which keys, and what was checked. Never a value. */
export interface Evidence {
  readonly format: typeof FORMAT;
  readonly who: { readonly user: string; readonly host: string; readonly databaseRole: string };
  readonly when: { readonly startedAt: string; readonly endedAt: string };
  readonly where: {
    readonly database: string;
    readonly server: string;
    readonly table: string;
    readonly columns: readonly string[];
  };
  readonly what: {
    readonly mode: JobResult['mode'];
    readonly run: string | null;
    readonly target: string;
    readonly sample: number | null;
    readonly exitCode: number;
  };
  readonly counts: Readonly<Record<string, unknown>>;
  /** Values by column and by class or key id, as they were met. */
  readonly values: JobResult['byColumn'];
  /** The keys that were at hand, and by what to tell them from others of the same name. */
  readonly keys: readonly {
    readonly kid: string;
    readonly fingerprint: string;
    readonly primary: boolean;
  }[];
  readonly table: { readonly before: TableHealth; readonly after: TableHealth };
  readonly checks: readonly { readonly check: string; readonly passed: boolean }[];
}

/** Puts down how a job ended, as this process and the database know it. */
export async function evidenceOf(
  result: JobResult,
  {
    options,
    db,
    keyring,
    startedAt,
  }: { options: JobOptions; db: Database; keyring: Keyring; startedAt: Date },
): Promise<Evidence> {
  const [at] = await db.sql.query<{ role: string; database: string; server: string; now: Date }>(
    `SELECT current_user AS role, current_database() AS database, coalesce(host(inet_server_addr()), 'local socket') || ':' || coalesce(inet_server_port(), 0) || ', PostgreSQL ' || current_setting('server_version') AS server, now()`,
  );
  const { counters, mode, exitCode } = result;
  // What is kept with a run's counters besides is no count.
  const counts = Object.fromEntries(
    Object.entries(counters).filter(([name]) => name in noCounters()),
  );
  const left = counters.remaining.plain + counters.remaining.plan + counters.remaining.otherKid;
  const under = result.target === 'plain' ? 'in the clear' : `under the key ${result.target}`;
  return {
    format: FORMAT,
    who: { user: userName(), host: hostname(), databaseRole: at?.role ?? '' },
    when: { startedAt: startedAt.toISOString(), endedAt: new Date().toISOString() },
    where: {
      database: at?.database ?? '',
      server: at?.server ?? '',
      table: options.table,
      columns: options.columns,
    },
    what: { mode, run: result.run, target: result.target, sample: options.sample, exitCode },
    counts: {
      ...counts,
      sweeps: result.sweeps,
      bytesBefore: result.bytes.before,
      bytesAfter: result.bytes.after,
    },
    values: result.byColumn,
    keys: keyring.kids.map((kid) => ({
      kid,
      fingerprint: keyring.fingerprint(kid) ?? '',
      primary: kid === keyring.primary,
    })),
    table: result.health,
    checks: [
      { check: 'the job came to its end', passed: exitCode !== 130 },
      ...(mode === 'execute'
        ? [{ check: 'a sweep from the start found nothing left to write', passed: exitCode === 0 }]
        : []),
      { check: 'every value that was met opens', passed: counters.quarantined === 0 },
      {
        check: `every value that was met is ${under}`,
        passed: left === 0 && counters.quarantined === 0,
      },
      ...(options.finalize
        ? [{ check: 'PostgreSQL refuses any token that is not v2', passed: exitCode === 0 }]
        : []),
    ],
  };
}

/** In a container the process may be a user of whom the system knows no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'a user without a name';
  }
}

/** A report that cannot be written, cannot be read or is not what it was. */
export class ReportError extends Error {
  override readonly name = 'ReportError';
}

/** Members in the order of their names, no blanks: one text for one meaning. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`)
    .join(',')}}`;
}

export const digestOf = (evidence: unknown): string =>
  createHash('sha256').update(canonical(evidence)).digest('hex');

/** The two files that `--report` names. */
export function reportFiles(file: string): { json: string; markdown: string } {
  const stem = file.replace(/\.(json|md)$/, '');
  return { json: `${stem}.json`, markdown: `${stem}.md` };
}

/**
 * Writes the report, for programs and for people, both with the digest. Never over an older one.
 * @throws ReportError
 */
export async function writeReport(file: string, evidence: Evidence): Promise<string> {
  const { json, markdown } = reportFiles(file);
  const sha256 = digestOf(evidence);
  try {
    await writeFile(json, `${JSON.stringify({ ...evidence, sha256 }, null, 2)}\n`, {
      flag: 'wx',
      mode: 0o640,
    });
    await writeFile(markdown, markdownOf(evidence, sha256), { flag: 'wx', mode: 0o640 });
  } catch (error) {
    throw new ReportError(
      `the job has come to its end, but its report could not be written: ${(error as Error).message}`,
    );
  }
  return sha256;
}

/** The digest of a report that is as it was written. @throws ReportError when it is not, or is no report */
export async function checkReport(file: string): Promise<string> {
  const { json, markdown } = reportFiles(file);
  let stored: Record<string, unknown>;
  try {
    stored = JSON.parse(await readFile(json, 'utf8')) as Record<string, unknown>;
  } catch (error) {
    throw new ReportError(`${json} cannot be read as a report: ${(error as Error).message}`);
  }
  const { sha256, ...evidence } = stored;
  if (typeof sha256 !== 'string' || evidence['format'] !== FORMAT)
    throw new ReportError(`${json} is no report of this job`);
  if (digestOf(evidence) !== sha256)
    throw new ReportError(
      `${json} has been changed since it was written: its SHA-256 is not the one that it states`,
    );
  const text = await readFile(markdown, 'utf8').catch(() => null);
  if (text !== null && text !== markdownOf(evidence as unknown as Evidence, sha256))
    throw new ReportError(`${markdown} does not say what ${json} says`);
  return sha256;
}

const TITLES: Readonly<Record<JobResult['mode'], string>> = {
  'dry-run': 'Dry run',
  execute: 'Re-encryption',
  verify: 'Verification',
};

function markdownOf(
  { who, when, where, what, counts, values, keys, table, checks }: Evidence,
  sha256: string,
): string {
  const rows = (entries: readonly (readonly [string, unknown])[]): string[] => [
    '| | |',
    '|---|---|',
    ...entries.map(([label, value]) => `| ${label} | ${cell(value)} |`),
    '',
  ];
  const health = ({ bytes, liveRows, deadRows }: TableHealth): string =>
    `${bytes} bytes, ${liveRows} rows, ${deadRows} dead versions of rows (estimates of PostgreSQL)`;
  return [
    `# ${TITLES[what.mode]} of stored tokens`,
    '',
    ...rows([
      ['who', `${who.user} on ${who.host}, as database role ${who.databaseRole}`],
      ['started', when.startedAt],
      ['ended', when.endedAt],
      ['database', `${where.database} on ${where.server}`],
      ['table', `${where.table} (${where.columns.join(', ')})`],
      ['run', what.run ?? 'none: nothing was written'],
      ['target', what.target === 'plain' ? 'plaintext' : `key ${what.target}`],
      ...(what.sample === null ? [] : [['sample', `${what.sample} rows at random`] as const]),
      ['exit code', what.exitCode],
    ]),
    '## Checks',
    '',
    ...checks.map(({ check, passed }) => `- [${passed ? 'x' : ' '}] ${check}`),
    '',
    '## Counts',
    '',
    ...rows(Object.entries(counts)),
    '## Values as they were met',
    '',
    ...rows(
      Object.entries(values).map(([column, met]) => [
        column,
        Object.entries(met)
          .map(([label, count]) => `${label} ${count}`)
          .join(', ') || 'none',
      ]),
    ),
    '## Keys',
    '',
    ...rows(
      keys.map(({ kid, fingerprint, primary }) => [
        kid,
        `${fingerprint}${primary ? ' (primary)' : ''}`,
      ]),
    ),
    '## Table',
    '',
    ...rows([
      ['before', health(table.before)],
      ['after', health(table.after)],
    ]),
    `SHA-256 of the report's canonical JSON: \`${sha256}\``,
    '',
  ].join('\n');
}

const cell = (value: unknown): string =>
  (typeof value === 'object' && value !== null
    ? Object.entries(value)
        .map(([name, member]) => `${name} ${String(member)}`)
        .join(', ')
    : String(value)
  )
    .replaceAll('|', '\\|')
    .replace(/\s+/g, ' ');
