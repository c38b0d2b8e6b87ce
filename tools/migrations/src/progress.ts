import type { JobResult } from './jobResult.js';
import type { Watcher } from './watcher.js';
import { vacuumAdvice } from './vacuum.js';

interface Screen {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
}

const LINE_EVERY_MS = 3_000;
const BAR_EVERY_MS = 100;
const BAR_WIDTH = { wide: 20, narrow: 10 };
/** Columns of a terminal that has room for everything. */
const WIDE = 120;
/**
 * Times as long as a dry run, which reads and seals as well: the writes, and the sweep that looks at everything again.
 */
const EXECUTE_TAKES = 2.5;
/**
 * WAL for each byte that is written anew, and for each row: TOAST, indexes, and the first touch of
 * each page after a checkpoint.
 */
const WAL_OF = { byte: 1.6, row: 1_000 } as const;

/** Progress on stderr: a bar on a terminal, else a line every few seconds. */
export function createProgress(
  screen: Screen,
  now: () => number = Date.now,
): Watcher & { end(): void } {
  const startedAt = now();
  let shownAt = 0;
  // Rate and time left are those of the sweep under way, from where this process met it.
  let from = { sweep: -1, scanned: 0, at: startedAt };
  let barShown = false;
  const clear = (): void => {
    if (barShown) screen.write('\r\x1b[K');
    barShown = false;
  };
  return {
    progress(at) {
      if (at.sweep !== from.sweep)
        from =
          from.sweep < 0
            ? { sweep: at.sweep, scanned: at.scannedBefore, at: startedAt }
            : { sweep: at.sweep, scanned: 0, at: now() };
      if (now() - shownAt < (screen.isTTY ? BAR_EVERY_MS : LINE_EVERY_MS)) return;
      if (!screen.isTTY && shownAt === 0 && now() - startedAt < LINE_EVERY_MS) return;
      shownAt = now();
      const seconds = Math.max(0.001, (now() - from.at) / 1000);
      const rate = (at.scanned - from.scanned) / seconds;
      const share = at.total === 0 ? 1 : Math.min(1, at.scanned / at.total);
      const left = rate > 0 ? Math.max(0, (at.total - at.scanned) / rate) : 0;
      // What matters most comes first: a narrow terminal cuts the rest off.
      const text = [
        `${number(rate)} rows/s`,
        `${duration(left)} left${at.throttledBy ? ` (${at.throttledBy})` : ''}`,
        ...(at.lostRace > 0 ? [`lost races ${number(at.lostRace)}`] : []),
        `sweep ${at.sweep}`,
        `changed ${number(at.changed)}`,
        `${number(at.scanned)} of ${number(at.total)} rows`,
      ].join(', ');
      if (!screen.isTTY) {
        screen.write(`${text}\n`);
        return;
      }
      const columns = screen.columns ?? 120;
      const width = columns < WIDE ? BAR_WIDTH.narrow : BAR_WIDTH.wide;
      const done = Math.round(share * width);
      const line = `[${'#'.repeat(done)}${'.'.repeat(width - done)}] ${String(Math.floor(share * 100)).padStart(3)}%  ${text}`;
      screen.write(`\r\x1b[K${line.slice(0, columns - 1)}`);
      barShown = true;
    },
    note(line) {
      clear();
      screen.write(`${line}\n`);
    },
    end: clear,
  };
}

/** The result for programs, in one line. */
export function jsonLine({ run, mode, counters }: JobResult): string {
  const { scanned, changed, alreadyCurrent, lostRace, quarantined, remaining, durationMs } =
    counters;
  return JSON.stringify({
    run,
    mode,
    scanned,
    changed,
    alreadyCurrent,
    lostRace,
    quarantined,
    remaining: { plain: remaining.plain, plan: remaining.plan, otherKid: remaining.otherKid },
    durationMs: Math.round(durationMs),
  });
}

/** The result for a person: what there is, what was done, what to do next. */
export function summary(
  result: JobResult,
  options: { table: string; flags: string; sampled: boolean },
): string {
  const { counters, mode, target } = result;
  const { remaining } = counters;
  const rest = remaining.plain + remaining.plan + remaining.otherKid;
  const under = target === 'plain' ? 'in the clear' : `under key ${target}`;
  const lines: [string, string][] = [
    ['table', options.table],
    ['target', target === 'plain' ? 'plaintext' : `key ${target}`],
    ...(result.run === null
      ? []
      : [
          ['run', `${result.run}, ${result.sweeps} sweep${result.sweeps === 1 ? '' : 's'}`] as [
            string,
            string,
          ],
        ]),
    ['rows', number(counters.scanned)],
    ...(mode === 'execute'
      ? ([
          ['rows changed', number(counters.changed)],
          [
            'lost races',
            `${number(counters.lostRace)}${counters.lostRace > 0 ? ' (met again in the next sweep)' : ''}`,
          ],
        ] as [string, string][])
      : []),
    ...(counters.late > 0
      ? [
          [
            'written meanwhile',
            `${number(counters.late)} rows, by a program that does not write ${under}`,
          ] as [string, string],
        ]
      : []),
    [`already ${under}`, number(counters.alreadyCurrent)],
    [
      mode === 'dry-run' ? 'would be rewritten' : 'not yet rewritten',
      `${number(rest)} (plaintext ${number(remaining.plain)}, older format ${number(remaining.plan)}, other key ${number(remaining.otherKid)})`,
    ],
    [mode === 'dry-run' ? 'would be quarantined' : 'do not open', unreadable(result)],
    ...(mode === 'execute' ? [['table', sizes(result)] as [string, string]] : []),
    ...(mode === 'dry-run'
      ? ([
          ['bytes', `${number(result.bytes.before)} now, ${number(result.bytes.after)} afterwards`],
          ['WAL', `about ${megabytes(walEstimate(result))}`],
          ['table', sizes(result)],
          [
            'estimate',
            `about ${duration((counters.durationMs / 1000) * EXECUTE_TAKES)} to execute at this pace`,
          ],
        ] as [string, string][])
      : []),
    ['time', `${(counters.durationMs / 1000).toFixed(1)} s`],
  ];
  const width = Math.max(...lines.map(([label]) => label.length));
  const columns =
    mode === 'execute'
      ? []
      : Object.entries(result.byColumn).map(
          ([column, counts]) =>
            `  ${column.padEnd(width)}  ${
              Object.entries(counts)
                .filter(([label]) => label !== 'empty')
                .map(([label, count]) => `${LABELS[label] ?? label} ${number(count)}`)
                .join(', ') || 'no values'
            }`,
        );
  return [
    TITLES[mode](result, options.sampled),
    ...lines.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`),
    ...(columns.length > 0 ? ['values by column', ...columns] : []),
    ...(result.looked?.firstUnreadable ?? []).map(
      ({ column, rowId, reason }) => `  ${column} of row ${rowId}: ${reason}`,
    ),
    ...(mode === 'execute'
      ? [vacuumAdvice(options.table, result.health.before, result.health.after)].filter(
          (advice) => advice !== null,
        )
      : []),
    ...next(result, options.flags),
  ].join('\n');
}

/** Bytes of WAL that execution would write, about. */
export function walEstimate({ bytes, looked }: Pick<JobResult, 'bytes' | 'looked'>): number {
  return WAL_OF.byte * bytes.written + WAL_OF.row * (looked?.rowsToWrite ?? 0);
}

function unreadable({ counters, looked }: JobResult): string {
  const reasons = Object.entries(looked?.reasons ?? {}).map(
    ([reason, count]) => `${reason} ${number(count)}`,
  );
  return `${number(counters.quarantined)}${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}`;
}

function sizes({ mode, health: { before, after } }: JobResult): string {
  return mode === 'execute'
    ? `${megabytes(before.bytes)} before, ${megabytes(after.bytes)} after, with ${number(after.deadRows)} old versions of rows for vacuum`
    : `${megabytes(before.bytes)} now, up to twice that while it runs`;
}

const LABELS: Readonly<Record<string, string>> = {
  plain: 'plaintext',
  plan: 'older format',
  malformed: 'malformed',
};

const TITLES: Readonly<Record<JobResult['mode'], (result: JobResult, sampled: boolean) => string>> =
  {
    'dry-run': ({ exitCode }) =>
      exitCode === 130
        ? 'Interrupted: nothing was changed, and not every row was looked at.'
        : 'Dry run: nothing was changed.',
    verify: ({ exitCode }, sampled) => {
      if (exitCode === 0)
        return `Verified: every value ${sampled ? 'of the sample ' : ''}opens under the target key.`;
      return exitCode === 130
        ? 'Interrupted.'
        : 'Not verified: there are values that are not under the target key.';
    },
    execute: ({ exitCode }) => {
      if (exitCode === 0) return 'Done: a sweep from the start found nothing left to write.';
      return exitCode === 130
        ? 'Interrupted: the batch under way was finished.'
        : 'Done as far as possible: there are values left as they were.';
    },
  };

/** `flags`: those that say which table and target it was. */
function next({ mode, exitCode, run, counters, target }: JobResult, flags: string): string[] {
  const job = `npx nx run migrations:encrypt-tokens --${flags}`;
  if (exitCode === 130)
    return run === null ? [] : [`Continue with: ${job} --execute --resume ${run}`];
  if (mode === 'dry-run')
    return [
      `To do it: ${job} --execute${target === 'plain' ? ' --i-understand-tokens-will-be-plaintext' : ''}`,
    ];
  if (mode === 'execute' && counters.quarantined > 0)
    return [
      'Values that do not open stay as they are; the table token_encryption_quarantine lists where they are and why.',
    ];
  if (mode === 'execute' && exitCode === 3 && counters.late > 0)
    return [
      'A program that writes tokens in another form is still at work: replace the older gateways first, then run it again.',
    ];
  if (mode === 'execute' && exitCode === 3)
    return [
      'Some rows were being written by others each time. Run it again; a smaller --chunk-size helps.',
    ];
  if (mode === 'execute' && target !== 'plain') return [`To check it: ${job} --verify`];
  if (mode === 'verify' && exitCode === 3) return [`To encrypt what is left: ${job} --execute`];
  return [];
}

function megabytes(bytes: number): string {
  if (bytes < 1e6) return `${number(bytes / 1e3)} kB`;
  return bytes < 1e10 ? `${number(bytes / 1e6)} MB` : `${number(bytes / 1e9)} GB`;
}
const number = (value: number): string =>
  Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
