import type { JobOptions } from './options.js';
import type { Quarantined } from './quarantine.js';
import type { Counters } from './runs.js';
import type { TableHealth } from './vacuum.js';

/** The job's result. `exitCode` is the process's. */
export interface JobResult {
  readonly run: string | null;
  readonly mode: JobOptions['mode'];
  readonly target: string;
  readonly counters: Counters;
  readonly sweeps: number;
  readonly byColumn: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly bytes: { readonly before: number; readonly after: number; readonly written: number };
  /** Null for execute. */
  readonly looked: Looked | null;
  readonly health: { readonly before: TableHealth; readonly after: TableHealth };
  readonly exitCode: 0 | 3 | 130;
}

/** What a dry run or a verification has found. */
export interface Looked {
  readonly rowsToWrite: number;
  /** Of values that do not open. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly firstUnreadable: readonly Quarantined[];
}
