import { setTimeout as delay } from 'node:timers/promises';
import { isStorageUnavailable } from '@session-gateway/database';
import type { Load, LoadSignals } from './loadSignals.js';

/** What an operator allows the job; null or 0 is no bound. */
export interface PaceLimits {
  /** Rows of one transaction at most. */
  readonly chunkSize: number;
  readonly maxRowsPerSecond: number | null;
  /** Share of the time that is spent working, above 0 up to 1. */
  readonly duty: number;
  /** What the whole server writes while the job is at work. */
  readonly maxWalMbPerSecond: number | null;
  readonly maxReplicationLagSeconds: number;
  /** What a replication slot may make the server keep, for example that of a replica that is disconnected. */
  readonly maxSlotWalMb: number;
  readonly maxActiveSessions: number;
  readonly maxLockWaits: number;
}

const FIRST_ROWS = 500;
/** A batch holds locks, and a signal waits for it: these bounds are well below what either can bear. */
const QUICK_MS = 400;
const SLOW_MS = 800;
/** A server that answers so many times later than at its best, and not at once, is short of something. */
const SLOWER_TIMES = 4;
const SLOWER_MS = 250;
const LOOK_EVERY_MS = 500;
/** Others may write more WAL than the job is allowed to: it still moves on, a batch at a time. */
const LONGEST_WAL_REST_MS = 10_000;
/** What was read longer ago than this is worth reading again. */
const STALE_MS = 250;
const MB = 1_000_000;

interface Rest {
  readonly ms: number;
  readonly why: string;
}

/** How many rows a batch takes, and how long and why the job rests after it. */
export class Pace {
  #limits: PaceLimits;
  #rows: number;
  #batchEndedAt: number;
  #throttledBy: string | null = null;
  #lastRestMs = 0;
  #slowBatch: Rest | null = null;
  /** Of a row, in the best batch so far; it is forgotten slowly, for the work itself changes. */
  #bestMs: number | null = null;
  #load: Load | null = null;
  #lookedAt = -Infinity;
  #blindSaid = false;
  #walAt: { readonly bytes: number; readonly at: number } | null = null;

  /** `onRest` is called every half second of a rest. */
  constructor(
    limits: PaceLimits,
    private readonly parts: {
      signals?: LoadSignals;
      onRest?: () => void;
      note?: (line: string) => void;
      now?: () => number;
    } = {},
  ) {
    this.#limits = limits;
    this.#rows = Math.min(this.#most, FIRST_ROWS);
    this.#batchEndedAt = this.#now();
  }

  /** Rows of the next batch: at most the chunk size, fewer where statements take long. */
  get rows(): number {
    return this.#rows;
  }

  /**
   * Whether to leave a batch's reading and sealing until its turn: to go easy on the machine, or because what
   * is read ahead would be old.
   */
  get unhurried(): boolean {
    return this.#limits.duty < 1 || this.#lastRestMs > STALE_MS;
  }

  /** Why the job rests, or rested after its last batch; null when it does not. */
  get throttledBy(): string | null {
    return this.#throttledBy;
  }

  /** Other bounds, from the next batch or the next half second of a rest on. */
  change(limits: Partial<PaceLimits>): void {
    this.#limits = { ...this.#limits, ...limits };
    this.#rows = Math.min(this.#rows, this.#most);
  }

  /** `rows`: of the batch that took so long; without rows to write it is the usual size. */
  batchTook(ms: number, rows = this.#rows): void {
    if (ms > SLOW_MS) this.slower();
    else if (ms < QUICK_MS) this.#rows = Math.min(this.#most, this.#rows * 2);
    const perRow = ms / Math.max(1, rows);
    const best = Math.min(perRow, (this.#bestMs ?? perRow) * 1.01);
    this.#bestMs = best;
    // Smaller batches help a server that is short of something only if it also gets time between them.
    this.#slowBatch =
      ms > SLOWER_MS && perRow > SLOWER_TIMES * best
        ? { ms, why: `statements are slow: ${Math.round(perRow / best)} times as slow as at best` }
        : null;
  }

  slower(): void {
    this.#rows = Math.max(1, Math.floor(this.#rows / 2));
  }

  /** Rests after a batch of `rows` for as long as the bounds and the server ask for, or until `stop`. */
  async rest(rows: number, stop: () => boolean): Promise<void> {
    const began = this.#now();
    const workedMs = began - this.#batchEndedAt;
    await this.#look(this.#limits.maxWalMbPerSecond === null ? LOOK_EVERY_MS : 0);
    const longest = [
      this.#byRate(rows, workedMs),
      this.#byDuty(workedMs),
      this.#byWal(),
      this.#slowBatch,
    ].reduce<Rest | null>(
      (most, asked) => (asked && asked.ms >= 1 && asked.ms > (most?.ms ?? 0) ? asked : most),
      null,
    );
    this.#slowBatch = null;
    this.#throttledBy = longest?.why ?? null;
    if (longest) await rest(longest.ms, stop, () => this.parts.onRest?.());
    for (let why = this.#overload(); why !== null && !stop(); why = this.#overload()) {
      this.#throttledBy = why;
      await rest(LOOK_EVERY_MS, stop, () => this.parts.onRest?.());
      await this.#look(0);
    }
    this.#batchEndedAt = this.#now();
    this.#lastRestMs = this.#batchEndedAt - began;
  }

  #byRate(rows: number, workedMs: number): Rest | null {
    const { maxRowsPerSecond: most } = this.#limits;
    return most === null
      ? null
      : { ms: (rows / most) * 1000 - workedMs, why: `held to ${most} rows/s` };
  }

  #byDuty(workedMs: number): Rest | null {
    const { duty } = this.#limits;
    return duty >= 1
      ? null
      : { ms: workedMs * (1 / duty - 1), why: `working ${Math.round(duty * 100)} % of the time` };
  }

  #byWal(): Rest | null {
    const { maxWalMbPerSecond: most } = this.#limits;
    if (most === null || !this.#load) return null;
    const [before, at] = [this.#walAt, this.#lookedAt];
    this.#walAt = { bytes: this.#load.walBytes, at };
    if (!before) return null;
    const ms = ((this.#load.walBytes - before.bytes) / (most * MB)) * 1000 - (at - before.at);
    return { ms: Math.min(ms, LONGEST_WAL_REST_MS), why: `WAL held to ${most} MB/s` };
  }

  /** Why the server should not be given more to do now. */
  #overload(): string | null {
    const { maxReplicationLagSeconds, maxSlotWalMb, maxActiveSessions, maxLockWaits } =
      this.#limits;
    if (!this.#load) return null;
    const { replica, slot, activeSessions, lockWaits } = this.#load;
    if (
      maxReplicationLagSeconds > 0 &&
      replica &&
      replica.behindMs > maxReplicationLagSeconds * 1000
    ) {
      return `replica ${replica.name} is ${Math.round(replica.behindMs / 1000)} s behind, at most ${maxReplicationLagSeconds}`;
    }
    if (maxSlotWalMb > 0 && slot && slot.keptBytes > maxSlotWalMb * MB)
      return `the replication slot ${slot.name} keeps ${Math.round(slot.keptBytes / MB)} MB of WAL, at most ${maxSlotWalMb}`;
    if (maxLockWaits > 0 && lockWaits > maxLockWaits)
      return `${lockWaits} sessions wait for locks, at most ${maxLockWaits}`;
    if (maxActiveSessions > 0 && activeSessions > maxActiveSessions)
      return `${activeSessions} other sessions are at work, at most ${maxActiveSessions}`;
    return null;
  }

  async #look(everyMs: number): Promise<void> {
    const at = this.#now();
    if (!this.parts.signals || at - this.#lookedAt < everyMs) return;
    this.#lookedAt = at;
    try {
      this.#load = await this.parts.signals.read();
      if (!this.#load.seesAll && !this.#blindSaid)
        this.parts.note?.(
          'PostgreSQL shows this role neither the lag of replicas nor the work of others: GRANT pg_read_all_stats to it, or the job cannot heed them',
        );
      this.#blindSaid ||= !this.#load.seesAll;
    } catch (error) {
      // Whoever works on it meets the outage too, and knows what to do.
      if (!isStorageUnavailable(error)) throw error;
      this.#load = null;
    }
  }

  get #most(): number {
    return Math.max(1, Math.min(this.#limits.chunkSize, this.#limits.maxRowsPerSecond ?? Infinity));
  }

  #now(): number {
    return (this.parts.now ?? Date.now)();
  }
}

/** Waits, unless `stop` says that there is something better to do. */
export async function rest(
  ms: number,
  stop: () => boolean,
  everyHalfSecond: () => void = () => undefined,
): Promise<void> {
  const end = Date.now() + ms;
  for (let told = Date.now(); Date.now() < end && !stop();) {
    await delay(Math.min(50, Math.max(1, end - Date.now())));
    if (Date.now() - told < LOOK_EVERY_MS) continue;
    told = Date.now();
    everyHalfSecond();
  }
}
