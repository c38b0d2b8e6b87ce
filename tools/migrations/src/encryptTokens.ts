import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Database, isStorageUnavailable } from '@session-gateway/database';
import { AuthError, isAuthError, type Keyring, type StoredClass, TokenEncryption } from '@session-gateway/keycloak-auth';
import type { JobOptions } from './options.js';
import { type Counters, createBooks, forgetOpened, hasBooks, lockTable, noCounters, openRun, quarantine, type Quarantined, reloadRun, saveRun } from './runs.js';
import { openTokenTable, TableError, type TokenRow, type TokenTable, type TokenWrite, type WriteGuard } from './tokenTable.js';

/** The job's result. `exitCode` is the process's. */
export interface JobResult {
  readonly run: string | null;
  readonly mode: JobOptions['mode'];
  readonly target: string;
  readonly counters: Counters;
  readonly sweeps: number;
  readonly byColumn: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly bytes: { readonly before: number; readonly after: number };
  readonly exitCode: 0 | 3 | 130;
}

export interface Watcher {
  /** Called after each batch. */
  progress(at: { sweep: number; scanned: number; total: number; changed: number; lostRace: number; throttledBy: string | null }): void;
  note(line: string): void;
}

/** A key that the values say is missing or wrong: nothing was written. */
export class KeyError extends Error {
  override readonly name = 'KeyError';
}

/** A value under a key that this process does not have. The run stops, and goes on once it has the key. */
export class UnknownKidError extends Error {
  override readonly name = 'UnknownKidError';
}

export interface JobParts {
  readonly db: Database;
  readonly keyring: Keyring;
  readonly watcher: Watcher;
  /** Asked between batches. */
  readonly stopRequested: () => boolean;
  /** For tests, which show what a weaker guard loses. */
  readonly guard?: WriteGuard;
}

const MAX_SWEEPS = 10;
const SAMPLES = 20;
const OUTAGE_MS = 60_000;
/** Failures of one batch, one after the other, with an answering database in between: something else is wrong then. */
const MAX_FAILURES = 20;

/**
 * Rewrites every token of a table for one target, while other programs write the same rows. Rows are read without locks,
 * and written only if they are still exactly what was read; who loses that race is met again in the next sweep. A run is
 * done after a sweep from the start, in this process, that found nothing to write.
 */
export async function encryptTokens(options: JobOptions, parts: JobParts): Promise<JobResult> {
  const { db, keyring } = parts;
  const target = options.to ?? keyring.primary;
  if (target !== 'plain' && !keyring.key(target)) throw new KeyError(`--to names the key ${target}, which is not in the keyring`);
  const table = await openTokenTable(db.sql, options, parts.guard);
  const total = await table.count(db.sql);
  const job = new Job(options, parts, target, table, total);
  if (options.mode !== 'execute') return job.look();

  if (!(await hasBooks(db.sql))) {
    if (options.table === 'user_sessions') throw new TableError('this database lacks the job\'s own tables: run `nx run database:migrate` first');
    await createBooks(db.sql);
  }
  const lock = { current: await lockTable(db, options.table) };
  try {
    await job.requireRightKeys();
    return await job.execute(async () => {
      if (!lock.current.held()) lock.current = await lockTable(db, options.table);
    });
  } finally {
    lock.current.release();
  }
}

interface Sweep {
  readonly fromStart: boolean;
  wanted: number;
}

class Job {
  readonly #encryption: TokenEncryption;
  readonly #byColumn: Record<string, Record<string, number>>;
  readonly #bytes = { before: 0, after: 0 };
  readonly #startedAt = Date.now();
  readonly #owner = randomUUID();

  constructor(
    private readonly options: JobOptions,
    private readonly parts: JobParts,
    private readonly target: string,
    private readonly table: TokenTable,
    private readonly total: number,
  ) {
    this.#encryption = new TokenEncryption({ keyring: parts.keyring, readPolicy: 'all' });
    this.#byColumn = Object.fromEntries(options.columns.map((column) => [column, {}]));
  }

  /** Dry run and verify: the same code up to the write. */
  async look(): Promise<JobResult> {
    const { db } = this.parts;
    const counters = noCounters();
    let after: string | null = null;
    for (let batch = await this.table.read(db.sql, after, this.options.chunkSize); batch.length > 0; batch = await this.table.read(db.sql, after, this.options.chunkSize)) {
      const judged = this.#judge(batch, counters, true, false);
      counters.scanned += batch.length;
      counters.quarantined += judged.quarantined.length;
      after = batch.at(-1)?.id ?? after;
      this.#report(1, counters, null);
      if (this.parts.stopRequested()) return this.#result(null, counters, 1, 130);
      await this.#pace(batch.length);
    }
    const remain = counters.remaining.plain + counters.remaining.plan + counters.remaining.otherKid + counters.quarantined;
    return this.#result(null, counters, 1, this.options.mode === 'verify' && remain > 0 ? 3 : 0);
  }

  /** A wrong key must not seal anything: of each kind of sealed value that is there, one of a sample has to open. */
  async requireRightKeys(): Promise<void> {
    const { db, keyring } = this.parts;
    const samples = await this.table.encrypted(db.sql, SAMPLES);
    const byKey = new Map<string, { opened: number; first: { id: string; column: string }; failed: string | undefined }>();
    for (const sample of samples) {
      if (sample.kid !== null && TokenEncryption.kidOf(sample.value) === null) continue;
      if (sample.kid !== null && !keyring.key(sample.kid)) throw this.#unknownKid(sample.kid, sample.column, sample.id);
      const key = sample.kid ?? '';
      const seen = byKey.get(key) ?? { opened: 0, first: sample, failed: undefined };
      const reason = this.#openFault(sample.value, sample.column, sample.id);
      if (reason === null) seen.opened += 1;
      else seen.failed = reason;
      byKey.set(key, seen);
    }
    for (const [kid, { opened, failed }] of byKey) {
      if (opened > 0) continue;
      if (kid === '') {
        throw new KeyError(failed === 'no_plan_key'
          ? 'SESSION_TOKEN_ENCRYPTION_KEY must be set: there are values of the older format, which it opens; nothing was changed'
          : 'SESSION_TOKEN_ENCRYPTION_KEY is not the key of the values of the older format that are there: none of a sample opens; nothing was changed');
      }
      throw new KeyError(`the key ${kid} is not the one that the values under ${kid} were sealed with: none of a sample opens; nothing was changed`);
    }
  }

  async execute(keepLock: () => Promise<void>): Promise<JobResult> {
    const { db, watcher } = this.parts;
    const run = await openRun(db.sql, this.options, this.target, this.#owner, this.options);
    watcher.note(run.resumed ? `continuing run ${run.id} at its checkpoint` : `run ${run.id}`);
    const { counters } = run;
    const earlierMs = counters.durationMs;
    let { checkpoint, sweep: number } = run;
    let sweep: Sweep = { fromStart: checkpoint === null, wanted: 0 };
    let sweepStartedAt = new Date(Date.now() - 1_000);
    if (sweep.fromStart) beginSweep(counters);

    let upcoming = this.#prefetch(checkpoint);
    let failures = 0;
    for (;;) {
      let batch: TokenRow[];
      try {
        batch = await upcoming;
        if (batch.length > 0) {
          const judged = this.#judge(batch, counters, number === 1, true);
          checkpoint = batch.at(-1)?.id ?? checkpoint;
          // Read ahead while this batch is written: rows of the next one are other rows.
          upcoming = this.#prefetch(checkpoint);
          counters.scanned += batch.length;
          counters.quarantined += judged.quarantined.length;
          sweep.wanted += judged.writes.length;
          const at = { checkpoint, sweep: number };
          await db.transaction(async (sql) => {
            await sql.query(`SET LOCAL lock_timeout = '2s'`);
            await sql.query(`SET LOCAL statement_timeout = '30s'`);
            const written = judged.writes.length > 0 ? new Set(await this.table.write(sql, judged.writes)) : new Set<string>();
            counters.changed += written.size;
            counters.lostRace += judged.writes.length - written.size;
            for (const { id } of judged.writes) if (written.has(id)) settle(counters, judged.before.get(id));
            counters.durationMs = earlierMs + Date.now() - this.#startedAt;
            await quarantine(sql, run.id, this.options.table, judged.quarantined);
            await saveRun(sql, run.id, this.#owner, { ...at, counters });
          });
        }
      } catch (error) {
        if (error instanceof UnknownKidError) {
          await saveRun(db.sql, run.id, this.#owner, { ...(await reloadRun(db.sql, run.id)), status: 'failed' }).catch(() => undefined);
        }
        if (!isStorageUnavailable(error)) throw error;
        failures += 1;
        if (failures > MAX_FAILURES) throw error;
        await upcoming.catch(() => undefined);
        await this.#outlast(error);
        await keepLock();
        // Whether the last batch was committed is written where it would have been committed.
        const known = await reloadRun(db.sql, run.id);
        ({ checkpoint, sweep: number } = known);
        Object.assign(counters, known.counters);
        sweep = { fromStart: false, wanted: sweep.wanted };
        upcoming = this.#prefetch(checkpoint);
        continue;
      }
      failures = 0;
      this.#report(number, counters, null);

      if (this.parts.stopRequested()) {
        await upcoming.catch(() => undefined);
        await saveRun(db.sql, run.id, this.#owner, { checkpoint, sweep: number, counters, status: 'interrupted' });
        return this.#result(run.id, counters, number, 130);
      }
      if (batch.length > 0) {
        await this.#pace(batch.length);
        continue;
      }

      // The end of a sweep.
      if (sweep.fromStart && sweep.wanted === 0) {
        await forgetOpened(db.sql, this.options.table, sweepStartedAt);
        const left = counters.quarantined > 0;
        await saveRun(db.sql, run.id, this.#owner, { checkpoint: null, sweep: number, counters, status: left ? 'incomplete' : 'done' });
        return this.#result(run.id, counters, number, left ? 3 : 0);
      }
      if (number >= MAX_SWEEPS + (run.resumed ? run.sweep : 0)) {
        await saveRun(db.sql, run.id, this.#owner, { checkpoint: null, sweep: number, counters, status: 'incomplete' });
        return this.#result(run.id, counters, number, 3);
      }
      number += 1;
      checkpoint = null;
      sweep = { fromStart: true, wanted: 0 };
      sweepStartedAt = new Date(Date.now() - 1_000);
      beginSweep(counters);
      upcoming = this.#prefetch(null);
    }
  }

  /** What is to be done with each row of a batch; every new value is opened and compared before it counts. */
  #judge(batch: readonly TokenRow[], counters: Counters, firstSweep: boolean, stopAtUnknownKid: boolean): { writes: TokenWrite[]; quarantined: Quarantined[]; before: Map<string, StoredClass[]> } {
    const writes: TokenWrite[] = [];
    const quarantined: Quarantined[] = [];
    const before = new Map<string, StoredClass[]>();
    for (const row of batch) {
      let wanted = false;
      const classes: StoredClass[] = [];
      const values = this.options.columns.map((column, index) => {
        const stored = row.values[index] ?? null;
        const storedClass = TokenEncryption.classify(stored);
        if (stored === null || storedClass === 'empty') return null;
        const kid = storedClass === 'v2' ? TokenEncryption.kidOf(stored) : null;
        this.#count(column, storedClass, kid);
        const current = this.target === 'plain' ? storedClass === 'plain' : kid === this.target;
        if (kid !== null && !this.parts.keyring.key(kid) && stopAtUnknownKid) throw this.#unknownKid(kid, column, row.id);
        if (!current && storedClass !== 'malformed') counters.remaining[remainder(storedClass)] += 1;
        const location = { table: this.options.table, column, rowId: row.id };
        try {
          const token = this.#encryption.open(stored, location);
          this.#bytes.before += Buffer.byteLength(stored);
          if (current) {
            if (firstSweep) counters.alreadyCurrent += 1;
            this.#bytes.after += Buffer.byteLength(stored);
            return null;
          }
          const replacement = this.target === 'plain' ? this.#asPlain(token) : this.#encryption.seal(token, location, this.target);
          if (this.#encryption.open(replacement, location) !== token) throw new Error('a value that was just sealed does not open');
          this.#bytes.after += Buffer.byteLength(replacement);
          wanted = true;
          classes.push(storedClass);
          return replacement;
        } catch (error) {
          if (!isAuthError(error, 'token_unreadable')) throw error;
          quarantined.push({ column, rowId: row.id, reason: error.reason ?? 'unreadable' });
          return null;
        }
      });
      if (wanted) {
        writes.push({ id: row.id, xmin: row.xmin, values });
        before.set(row.id, classes);
      }
    }
    return { writes, quarantined, before };
  }

  /** A token that would be read back as something else must not be written in the clear. */
  #asPlain(token: string): string {
    if (TokenEncryption.classify(token) !== 'plain') throw new AuthError('token_unreadable', 'a token looks like a sealed value', { reason: 'looks_sealed' });
    return token;
  }

  #openFault(value: string, column: string, rowId: string): string | null {
    try {
      this.#encryption.open(value, { table: this.options.table, column, rowId });
      return null;
    } catch (error) {
      if (isAuthError(error, 'token_unreadable')) return error.reason ?? 'unreadable';
      throw error;
    }
  }

  #unknownKid(kid: string, column: string, rowId: string): UnknownKidError {
    return new UnknownKidError(`${this.options.table}.${column} of row ${rowId} is sealed under the key ${kid}, which is not in the keyring: add it (decrypt-only will do) and start again`);
  }

  #prefetch(after: string | null): Promise<TokenRow[]> {
    const reading = this.table.read(this.parts.db.sql, after, this.options.chunkSize);
    // Awaited later; a failure until then must not count as unhandled.
    reading.catch(() => undefined);
    return reading;
  }

  /** Waits for PostgreSQL to come back. */
  async #outlast(cause: unknown): Promise<void> {
    this.parts.watcher.note('PostgreSQL does not answer; waiting up to 60 s for it');
    for (const end = Date.now() + OUTAGE_MS; ; await delay(500)) {
      try {
        await this.parts.db.ping();
        return;
      } catch (error) {
        if (Date.now() >= end || this.parts.stopRequested() || !isStorageUnavailable(error)) throw cause;
      }
    }
  }

  #batchEndedAt = Date.now();

  /** Rests as long as pace and duty ask for. */
  async #pace(rows: number): Promise<void> {
    const { maxRowsPerSecond, duty } = this.options;
    const workedMs = Date.now() - this.#batchEndedAt;
    const byRate = maxRowsPerSecond === null ? 0 : (rows / maxRowsPerSecond) * 1000 - workedMs;
    const byDuty = workedMs * (1 / duty - 1);
    const restMs = Math.max(0, byRate, byDuty);
    for (const end = Date.now() + restMs; Date.now() < end && !this.parts.stopRequested(); ) await delay(Math.min(100, Math.max(1, end - Date.now())));
    this.#batchEndedAt = Date.now();
  }

  #count(column: string, storedClass: StoredClass, kid: string | null): void {
    const counts = this.#byColumn[column];
    if (!counts) return;
    const label = kid === null ? storedClass : `v2 ${kid}`;
    counts[label] = (counts[label] ?? 0) + 1;
  }

  #report(sweep: number, counters: Counters, throttledBy: string | null): void {
    const { scanned, changed, lostRace } = counters;
    this.parts.watcher.progress({ sweep, scanned, total: this.total, changed, lostRace, throttledBy });
  }

  #result(run: string | null, counters: Counters, sweeps: number, exitCode: JobResult['exitCode']): JobResult {
    if (run === null) counters.durationMs = Date.now() - this.#startedAt;
    return { run, mode: this.options.mode, target: this.target, counters, sweeps, byColumn: this.#byColumn, bytes: this.#bytes, exitCode };
  }
}

function remainder(storedClass: StoredClass): keyof Counters['remaining'] {
  return storedClass === 'plan' ? 'plan' : storedClass === 'v2' ? 'otherKid' : 'plain';
}

/** What has been written remains no longer. */
function settle(counters: Counters, classes: readonly StoredClass[] | undefined): void {
  for (const storedClass of classes ?? []) counters.remaining[remainder(storedClass)] -= 1;
}

function beginSweep(counters: Counters): void {
  counters.scanned = 0;
  counters.quarantined = 0;
  counters.remaining = { plain: 0, plan: 0, otherKid: 0 };
}
