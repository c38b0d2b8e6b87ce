import { type Database, isStorageUnavailable, type Sql } from '@session-gateway/database';
import type { StoredClass } from '@session-gateway/keycloak-auth';
import { saveBatch } from './checkpoint.js';
import type { Watcher } from './watcher.js';
import { type Judge, type Judged, remainder, UnknownKidError } from './judge.js';
import { forgetLost, rememberLost, writtenSince } from './lostRaces.js';
import type { JobOptions } from './options.js';
import { type Pace, rest } from './pace.js';
import { isDiskFull, type Patience } from './patience.js';
import { forgetOpened, quarantine } from './quarantine.js';
import {
  claimRange,
  dropRanges,
  endRange,
  type Range,
  releaseRanges,
  reloadRange,
  resetRanges,
  sumRanges,
} from './ranges.js';
import type { Requests } from './requests.js';
import {
  beginSweep,
  type Counters,
  FencedError,
  noCounters,
  readRun,
  type Run,
  saveThrottle,
  setStatus,
} from './runs.js';
import type { TableLock } from './tableLock.js';
import type { TokenRow, TokenTable } from './tokenTable.js';

/** So much does not open that it is no matter of single values. The run can be gone on with. */
export class TooManyUnreadableError extends Error {
  override readonly name = 'TooManyUnreadableError';
}

export interface ExecutionParts {
  readonly options: JobOptions;
  readonly target: string;
  readonly db: Database;
  readonly table: TokenTable;
  /** About how many rows there are. */
  readonly total: number;
  readonly judge: Judge;
  readonly patience: Patience;
  /** One for each worker. */
  readonly paces: readonly Pace[];
  /** The name by which others see that this process lives. */
  readonly process: string;
  /** Makes sure that the lock is held. */
  readonly keepLock: () => Promise<TableLock>;
  readonly requests: Requests;
  readonly watcher: Watcher;
  readonly stopRequested: () => boolean;
}

/** Rows as they were read, and what is to be done with them. */
interface Batch {
  readonly rows: readonly TokenRow[];
  readonly judged: Judged;
  readonly delta: Counters;
}

/** A worker's next batch, while the one before is written. */
interface Ahead {
  batch: Promise<Batch> | null;
}

export interface Executed {
  readonly counters: Counters;
  readonly sweeps: number;
  readonly exitCode: 0 | 3 | 130;
}

/**
 * Between sweeps that lost races: whoever holds a row gets time to let go. Doubled each time up to the second number.
 */
const RACE_REST_MS = [100, 5_000] as const;
const OTHERS_REST_MS = 200;
/** So many values may fail to open in any table. */
const UNREADABLE_AT_LEAST = 100;

/**
 * One process's part in a run: its workers sweep ranges that no other has, and whoever ends a sweep's last range begins
 * the next. The run is done after a sweep of which every range was swept from its start by one process and that found
 * nothing to write.
 */
export class Execution {
  #counters: Counters;
  readonly #scannedBefore: number;
  readonly #earlierMs: number;
  readonly #startedAt = Date.now();
  #broken = false;

  constructor(
    private readonly parts: ExecutionParts,
    private run: Run,
  ) {
    this.#counters = run.counters;
    this.#scannedBefore = run.counters.scanned;
    this.#earlierMs = run.counters.durationMs;
  }

  async execute(): Promise<Executed> {
    const { patience, process, paces } = this.parts;
    try {
      for (;;) {
        const workers = await Promise.allSettled(
          paces.map((pace, number) => this.#work(`${process}/${number}`, pace)),
        );
        const fault = workers.find((worker) => worker.status === 'rejected');
        if (fault) throw fault.reason;
        if (this.#stopping()) return await this.#stop();
        const turned = await patience.patiently(() => this.#turn());
        if (turned) return turned;
      }
    } catch (error) {
      const { db } = this.parts;
      // Best effort: it is the books that cannot be written, perhaps.
      if (!(error instanceof FencedError))
        await releaseRanges(db.sql, this.run.id, process)
          .then(() => setStatus(db.sql, this.run, 'failed', reasonOf(error)))
          .catch(() => undefined);
      throw error;
    }
  }

  async #work(worker: string, pace: Pace): Promise<void> {
    const ahead: Ahead = { batch: null };
    try {
      await this.#sweep(worker, pace, ahead);
    } catch (error) {
      // The other workers are to end their batches and stop.
      this.#broken = true;
      throw error;
    } finally {
      await ahead.batch?.catch(() => undefined);
    }
  }

  /** Sweeps ranges until there is none left that nobody has, or until the process is to stop. */
  async #sweep(worker: string, pace: Pace, ahead: Ahead): Promise<void> {
    const { patience, keepLock } = this.parts;
    let range: Range | null = null;
    while (!this.#stopping()) {
      try {
        await keepLock();
        if (this.parts.requests.paused) {
          await this.#pause();
          continue;
        }
        range ??= await patience.bounded((sql) => claimRange(sql, this.run.id, worker));
        if (!range) return;
        range = await this.#batch(range, worker, pace, ahead);
      } catch (error) {
        await ahead.batch?.catch(() => undefined);
        ahead.batch = null;
        const had: Range | null = range;
        const known: { range: Range | null } | null = await patience.outlast(error, async () => {
          await keepLock();
          // Whether the last batch was committed is written where it would have been committed.
          return {
            range: had && (await reloadRange(this.parts.db.sql, this.run.id, had.number, worker)),
          };
        });
        range = known?.range ?? null;
      }
    }
  }

  /** One batch; what is left of the range, or null at its end. */
  async #batch(range: Range, worker: string, pace: Pace, ahead: Ahead): Promise<Range | null> {
    const { judge, patience } = this.parts;
    const beganAt = Date.now();
    const batch = await (ahead.batch ?? this.#prepare(range, pace));
    ahead.batch = null;
    // Nothing of it is written yet: whoever waits need not wait for that.
    if (this.#waiting()) return range;
    const { rows, judged } = batch;
    const last = rows.at(-1);
    if (!last) {
      await patience.bounded((sql) => endRange(sql, this.run.id, range, worker));
      return null;
    }
    const next = { ...range, checkpoint: last.id };
    // The next batch is read and sealed while PostgreSQL writes this one: its rows are other rows.
    if (!pace.unhurried) {
      ahead.batch = this.#prepare(next, pace);
      // Awaited later; a failure until then must not count as unhandled.
      ahead.batch.catch(() => undefined);
    }
    const counters = await patience
      .batch((sql) => this.#write(sql, next, worker, pace.throttledBy, batch))
      .catch((error: unknown) => {
        if (error instanceof RangeTakenError) return null;
        throw error;
      });
    if (!counters) {
      // Another has the range, and reads on where it stands itself.
      await ahead.batch?.catch(() => undefined);
      ahead.batch = null;
      return null;
    }
    judge.count(judged.met);
    this.#counters = counters;
    patience.recovered();
    this.#report(pace);
    this.#requireReadable();
    pace.batchTook(Date.now() - beganAt, rows.length);
    if (!this.#waiting()) await pace.rest(rows.length, () => this.#waiting());
    return next;
  }

  /** Batch, quarantine and checkpoint commit together. @throws RangeTakenError when the range is another's by now */
  async #write(
    sql: Sql,
    range: Range,
    worker: string,
    throttledBy: string | null,
    { rows, judged: { writes, quarantined, before }, delta }: Batch,
  ): Promise<Counters> {
    const { table } = this.parts;
    await quarantine(sql, this.run.id, table.key, quarantined);
    if (this.run.sweep > 1) delta.late = await writtenSince(sql, this.run.id, rows, writes);
    const written = new Set(writes.length > 0 ? await table.write(sql, writes) : []);
    delta.scanned = rows.length;
    delta.quarantined = quarantined.length;
    delta.changed = written.size;
    delta.lostRace = writes.length - written.size;
    for (const { id } of writes) if (written.has(id)) settle(delta, before.get(id));
    await rememberLost(
      sql,
      this.run.id,
      rows,
      writes.filter(({ id }) => !written.has(id)),
    );
    delta.durationMs = this.#earlierMs + Date.now() - this.#startedAt;
    const counters = await saveBatch(sql, this.run, range, worker, {
      wanted: writes.length,
      delta,
      throttledBy,
    });
    if (!counters) throw new RangeTakenError();
    return counters;
  }

  async #prepare(range: Range, pace: Pace): Promise<Batch> {
    const rows = await this.#read(range, pace);
    const delta = noCounters();
    return {
      rows,
      delta,
      judged: this.parts.judge.judge(rows, delta, {
        firstSweep: this.run.sweep === 1,
        stopAtUnknownKid: true,
      }),
    };
  }

  #read({ afterId, upToId, checkpoint }: Range, pace: Pace): Promise<TokenRow[]> {
    return this.parts.patience.bounded((sql) =>
      this.parts.table.read(sql, checkpoint ?? afterId, pace.rows, upToId),
    );
  }

  /** Begins the next sweep or ends the run, when this one has ended; null when there is more to do. */
  async #turn(): Promise<Executed | null> {
    const { db, patience, watcher, target } = this.parts;
    const { ended, lost, late } = await patience.bounded((sql) => this.#judgeSweep(sql));
    if (late > 0)
      watcher.note(
        `sweep ${this.run.sweep} found ${late} row${late === 1 ? '' : 's'} written meanwhile by a program that does not ${target === 'plain' ? 'write plaintext' : `seal under ${target}`}: an older gateway is still at work`,
      );
    this.run = await readRun(db.sql, this.run.id);
    this.#counters = this.run.counters;
    if (ended) {
      return {
        counters: this.#counters,
        sweeps: this.run.sweep,
        exitCode: exitCodeOf(this.run),
      };
    }
    // Others are not through, or rows are held by somebody.
    await rest(restMs(lost, this.run.sweep), () => this.#waiting());
    return null;
  }

  /** `lost`: null when the sweep has not ended, or when another process has ended it. */
  async #judgeSweep(sql: Sql): Promise<{ ended: boolean; lost: number | null; late: number }> {
    const { table, options } = this.parts;
    const swept = await sumRanges(sql, this.run.id);
    const run = await readRun(sql, this.run.id);
    if (run.generation !== this.run.generation)
      throw new FencedError(`run ${run.id} was taken over by another process`);
    if (run.status === 'done' || run.status === 'incomplete' || run.status === 'cancelled')
      return { ended: true, lost: null, late: 0 };
    if (!swept.done || run.sweep !== this.run.sweep) return { ended: false, lost: null, late: 0 };
    const late = run.counters.late - run.counters.lateBefore;
    const clean = swept.whole && swept.wanted === 0;
    if (!clean && run.sweep < run.lastSweep) {
      await beginSweep(sql, run);
      await resetRanges(sql, run.id);
      return { ended: false, lost: swept.lost, late };
    }
    if (clean) await forgetOpened(sql, table.key, options.columns, run.sweepStartedAt);
    await dropRanges(sql, run.id);
    await forgetLost(sql, run.id);
    await setStatus(sql, run, clean && run.counters.quarantined === 0 ? 'done' : 'incomplete');
    return { ended: true, lost: swept.lost, late };
  }

  async #pause(): Promise<void> {
    const { db, watcher, requests } = this.parts;
    await setStatus(db.sql, this.run, 'paused');
    watcher.note(`paused: go on with \`encrypt-tokens resume ${this.run.id}\``);
    while (requests.paused && !this.#stopping()) await rest(OTHERS_REST_MS, () => this.#stopping());
    if (!this.#stopping()) {
      await setStatus(db.sql, this.run, 'running');
      watcher.note('going on');
    }
  }

  async #stop(): Promise<Executed> {
    const { db, keepLock, requests, process } = this.parts;
    try {
      await releaseRanges(db.sql, this.run.id, process);
      if (requests.cancelled) await setStatus(db.sql, this.run, 'cancelled');
      // Others who have joined in go on without this process.
      else if (await (await keepLock()).alone()) await setStatus(db.sql, this.run, 'interrupted');
    } catch (error) {
      // Asked to stop while PostgreSQL was away: what is committed is written there, and nothing else counts.
      if (!isStorageUnavailable(error)) throw error;
    }
    return { counters: this.#counters, sweeps: this.run.sweep, exitCode: 130 };
  }

  /** @throws TooManyUnreadableError */
  #requireReadable(): void {
    const { quarantined, values } = this.#counters;
    const { maxUnreadable } = this.parts.options;
    if (quarantined <= UNREADABLE_AT_LEAST || quarantined <= maxUnreadable * values) return;
    throw new TooManyUnreadableError(
      `${quarantined} of the ${values} values met so far do not open, more than --max-unreadable ${maxUnreadable} allows. See why with \`encrypt-tokens status ${this.run.id}\`, then start again to continue`,
    );
  }

  /** Whether to end after the batch under way. */
  #stopping(): boolean {
    return this.#broken || this.parts.stopRequested() || this.parts.requests.cancelled;
  }

  /** Whether there is something better to do than to rest. */
  #waiting(): boolean {
    return this.#stopping() || this.parts.requests.paused;
  }

  /** Shows why a worker rests while it does, here and to whoever asks for the run's status. */
  resting(pace: Pace): void {
    this.#report(pace);
    // A note for people: that it could not be written down stops nothing.
    void saveThrottle(this.parts.db.sql, this.run, pace.throttledBy).catch(() => undefined);
  }

  #report(pace: Pace): void {
    const { scanned, changed, lostRace } = this.#counters;
    this.parts.watcher.progress({
      sweep: this.run.sweep,
      scanned,
      scannedBefore: this.#scannedBefore,
      total: this.parts.total,
      changed,
      lostRace,
      throttledBy: pace.throttledBy,
    });
  }
}

class RangeTakenError extends Error {
  override readonly name = 'RangeTakenError';
}

/** Why a run failed, as it is written down. What PostgreSQL says of a statement may quote values: only its code is. */
function reasonOf(error: unknown): string {
  if (error instanceof UnknownKidError || error instanceof TooManyUnreadableError)
    return error.message;
  if (isDiskFull(error)) return 'the disk of the database is full';
  const { code } = error as { code?: string };
  return isStorageUnavailable(error)
    ? `PostgreSQL did not answer${code ? ` (${code})` : ''}`
    : `failed${code ? ` (${code})` : ''}`;
}

/** How long a process rests before it sweeps again: until the others are through, or somebody lets go of rows. */
function restMs(lost: number | null, sweep: number): number {
  if (lost === null) return OTHERS_REST_MS;
  return lost === 0 ? 0 : Math.min(RACE_REST_MS[1], RACE_REST_MS[0] * 2 ** (sweep - 1));
}

function exitCodeOf({ status }: Run): Executed['exitCode'] {
  if (status === 'done') return 0;
  return status === 'incomplete' ? 3 : 130;
}

/** What has been written remains no longer. */
function settle(counters: Counters, classes: readonly StoredClass[] | undefined): void {
  for (const storedClass of classes ?? []) counters.remaining[remainder(storedClass)] -= 1;
}
