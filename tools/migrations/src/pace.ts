import { setTimeout as delay } from 'node:timers/promises';

const FIRST_ROWS = 500;
const QUICK_MS = 400;
const SLOW_MS = 800;

/** How many rows a batch takes, and how long the job rests after it. */
export class Pace {
  readonly #most: number;
  readonly #maxRowsPerSecond: number | null;
  readonly #duty: number;
  #rows: number;
  #batchEndedAt: number;
  #throttledBy: string | null = null;

  constructor(options: { chunkSize: number; maxRowsPerSecond: number | null; duty: number }, private readonly now: () => number = Date.now) {
    this.#maxRowsPerSecond = options.maxRowsPerSecond;
    this.#duty = options.duty;
    this.#most = Math.min(options.chunkSize, options.maxRowsPerSecond ?? Infinity);
    this.#rows = Math.min(this.#most, FIRST_ROWS);
    this.#batchEndedAt = now();
  }

  /** Rows of the next batch: at most the chunk size, fewer where a batch takes so long that a signal would have to wait. */
  get rows(): number {
    return this.#rows;
  }

  /** Whether batches follow each other at once. If not, what is read ahead would be old when its turn comes. */
  get unhurried(): boolean {
    return this.#maxRowsPerSecond !== null || this.#duty < 1;
  }

  /** Why the job rests; null when it does not. */
  get throttledBy(): string | null {
    return this.#throttledBy;
  }

  batchTook(ms: number): void {
    if (ms > SLOW_MS) this.slower();
    else if (ms < QUICK_MS) this.#rows = Math.min(this.#most, this.#rows * 2);
  }

  slower(): void {
    this.#rows = Math.max(1, Math.floor(this.#rows / 2));
  }

  /** Rests after a batch of `rows` for as long as rate and duty ask for, or until `stop`. */
  async rest(rows: number, stop: () => boolean): Promise<void> {
    const workedMs = this.now() - this.#batchEndedAt;
    const byRate = this.#maxRowsPerSecond === null ? 0 : (rows / this.#maxRowsPerSecond) * 1000 - workedMs;
    const byDuty = workedMs * (1 / this.#duty - 1);
    const restMs = Math.max(0, byRate, byDuty);
    this.#throttledBy = restMs < 1 ? null : byRate > byDuty ? `held to ${this.#maxRowsPerSecond} rows/s` : `working ${Math.round(this.#duty * 100)} % of the time`;
    await rest(restMs, stop);
    this.#batchEndedAt = this.now();
  }
}

/** Waits, unless `stop` says that there is something better to do. */
export async function rest(ms: number, stop: () => boolean): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end && !stop(); ) await delay(Math.min(50, Math.max(1, end - Date.now())));
}
