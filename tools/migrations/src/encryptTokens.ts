import { randomUUID } from 'node:crypto';
import { type Database, isStorageUnavailable, type Sql } from '@session-gateway/database';
import { AuthError, isAuthError, type Keyring, type StoredClass, TokenEncryption } from '@session-gateway/keycloak-auth';
import type { JobOptions } from './options.js';
import { Pace, rest } from './pace.js';
import { type Counters, createBooks, forgetOpened, hasBooks, knownUnreadable, lockTable, noCounters, openRun, quarantine, type Quarantined, reloadRun, type Run, RunHeldError, saveRun, serverTime } from './runs.js';
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
  /** Called after each batch. `scannedBefore`: what earlier processes had scanned of the sweep that this one continued. */
  progress(at: { sweep: number; scanned: number; scannedBefore: number; total: number; changed: number; lostRace: number; throttledBy: string | null }): void;
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
/** How long the database may refuse before the job gives up. */
const OUTAGE_MS = 60_000;
const RETRY_MS = 250;
const SURVEY_ROWS = 20_000;
/** Between sweeps that lost races: whoever holds a row gets time to let go. Doubled each time up to the second number. */
const RACE_REST_MS = [100, 5_000] as const;

/**
 * Rewrites every token of a table for one target, while other programs write the same rows. Rows are read without locks,
 * and written only if they are still exactly what was read; who loses that race is met again in the next sweep. A run is
 * done after a sweep from the start, in this process, that found nothing to write.
 */
export async function encryptTokens(options: JobOptions, parts: JobParts): Promise<JobResult> {
  const { db, keyring } = parts;
  const target = options.to ?? keyring.primary;
  if (target !== 'plain' && !keyring.key(target)) throw new KeyError(`--to names the key ${target}, which is not in the keyring`);
  if (options.mode !== 'verify' && keyring.decryptOnly.has(target)) throw new KeyError(`--to names the key ${target}, which is decrypt-only: it opens values and seals none`);
  const table = await openTokenTable(db.sql, options, parts.guard);
  const job = new Job(options, parts, target, table, await table.count(db.sql));
  if (options.mode !== 'execute') return job.look();

  const books = await hasBooks(db.sql);
  if (!books && table.key === 'user_sessions') throw new TableError('this database lacks the job\'s own tables: run `nx run database:migrate` first');
  const lock = { current: await lockTable(db, table.key) };
  try {
    if (!(await job.requireRightKeys(books))) return job.interrupted();
    if (!books) await createBooks(db.sql);
    return await job.execute(async () => {
      if (lock.current.held()) return;
      lock.current.release();
      lock.current = await lockTable(db, table.key);
    });
  } finally {
    lock.current.release();
  }
}

interface Sweep {
  readonly number: number;
  /** Whether this process began it. */
  readonly fromStart: boolean;
  /** By the server's clock. */
  readonly startedAt: string;
  wanted: number;
  lost: number;
}

/** Where a run is: what the last commit wrote down, and what is counted on top of it. */
interface Position {
  checkpoint: string | null;
  sweep: Sweep;
  counters: Counters;
}

interface Judged {
  readonly writes: TokenWrite[];
  readonly quarantined: Quarantined[];
  readonly before: Map<string, StoredClass[]>;
}

class Job {
  readonly #encryption: TokenEncryption;
  readonly #byColumn: Record<string, Record<string, number>>;
  readonly #bytes = { before: 0, after: 0 };
  readonly #startedAt = Date.now();
  readonly #owner = randomUUID();
  readonly #pace: Pace;
  #scannedBefore = 0;
  #troubleSince: number | null = null;

  constructor(
    private readonly options: JobOptions,
    private readonly parts: JobParts,
    private readonly target: string,
    private readonly table: TokenTable,
    private readonly total: number,
  ) {
    this.#encryption = new TokenEncryption({ keyring: parts.keyring, readPolicy: 'all' });
    this.#byColumn = Object.fromEntries(options.columns.map((column) => [column, {}]));
    this.#pace = new Pace(options);
  }

  /** Dry run and verify: the same code up to the write. */
  async look(): Promise<JobResult> {
    const { stopRequested } = this.parts;
    const counters = noCounters();
    for (let after: string | null = null; ; ) {
      const from: string | null = after;
      const batch: TokenRow[] | null = await this.#patiently(() => this.#read(from));
      if (batch === null) return this.#result(null, counters, 1, 130);
      const last = batch.at(-1);
      if (!last) break;
      after = last.id;
      const judged = this.#judge(batch, counters, true, false);
      counters.scanned += batch.length;
      counters.quarantined += judged.quarantined.length;
      this.#report(1, counters);
      if (stopRequested()) return this.#result(null, counters, 1, 130);
      await this.#pace.rest(batch.length, stopRequested);
    }
    const remain = counters.remaining.plain + counters.remaining.plan + counters.remaining.otherKid + counters.quarantined;
    return this.#result(null, counters, 1, this.options.mode === 'verify' && remain > 0 ? 3 : 0);
  }

  /** Stopped before there was a run. */
  interrupted(): JobResult {
    return this.#result(null, noCounters(), 0, 130);
  }

  /**
   * A wrong key must not seal anything: of each kind of sealed value that is there, one of a sample has to open. Values
   * that are in quarantine already say nothing about a key. False when the job is to stop.
   */
  async requireRightKeys(books: boolean): Promise<boolean> {
    const opened = new Set<string>();
    const faults = new Map<string, string>();
    for (let after: string | null = null; ; ) {
      const from: string | null = after;
      const page: Awaited<ReturnType<TokenTable['survey']>> | null = await this.#patiently(() => this.#bounded((sql) => this.table.survey(sql, from, SURVEY_ROWS)));
      if (page === null) return false;
      for (const { column, kid, ids } of page.found) {
        const kind = kid ?? '';
        if (opened.has(kind)) continue;
        const sample = await this.#patiently(() => this.#sample(column, ids, books));
        if (sample === null) return false;
        for (const { id, value } of sample) {
          if (kid === null ? TokenEncryption.classify(value) !== 'plan' : TokenEncryption.kidOf(value) !== kid) continue;
          if (kid !== null && !this.parts.keyring.key(kid)) throw this.#unknownKid(kid, column, id);
          const fault = this.#openFault(value, column, id);
          if (fault === null) {
            opened.add(kind);
            break;
          }
          faults.set(kind, fault);
        }
      }
      if (page.last === null) break;
      after = page.last;
    }
    for (const [kind, fault] of faults) if (!opened.has(kind)) throw wrongKey(kind, fault);
    return true;
  }

  async #sample(column: string, ids: readonly string[], books: boolean): Promise<{ id: string; value: string }[]> {
    return this.#bounded(async (sql) => {
      const known = books ? await knownUnreadable(sql, this.table.key, column, ids) : new Set<string>();
      return this.table.values(sql, column, ids.filter((id) => !known.has(id)));
    });
  }

  async execute(keepLock: () => Promise<void>): Promise<JobResult> {
    const { db, watcher, stopRequested } = this.parts;
    const run = await openRun(db.sql, { ...this.options, table: this.table.key }, this.target, this.#owner, this.options);
    watcher.note(run.resumed ? `continuing run ${run.id} where it stopped` : `run ${run.id}`);
    const lastSweep = MAX_SWEEPS + (run.resumed ? run.sweep : 0);
    const at: Position = { checkpoint: run.checkpoint, counters: run.counters, sweep: await this.#sweep(run.sweep, run.checkpoint === null) };
    if (at.sweep.fromStart) beginSweep(at.counters);
    this.#scannedBefore = at.counters.scanned;
    const earlierMs = at.counters.durationMs;
    let upcoming: Promise<TokenRow[]> | null = null;
    for (;;) {
      // What is known to be committed, should the next step fail.
      const committed = structuredClone(at.counters);
      try {
        await keepLock();
        if (stopRequested()) return await this.#stop(run, at);
        const beganAt = Date.now();
        const batch = await (upcoming ?? this.#read(at.checkpoint));
        upcoming = null;
        const last = batch.at(-1);
        if (last) {
          const judged = this.#judge(batch, at.counters, at.sweep.number === 1, true);
          at.checkpoint = last.id;
          // Read ahead while this batch is written: rows of the next one are other rows.
          if (!this.#pace.unhurried) upcoming = this.#prefetch(last.id);
          await this.#write(run.id, batch.length, judged, at, earlierMs);
          this.#recovered();
          this.#report(at.sweep.number, at.counters);
          this.#pace.batchTook(Date.now() - beganAt);
          if (!stopRequested()) await this.#pace.rest(batch.length, stopRequested);
          continue;
        }

        // The end of a sweep.
        const clean = at.sweep.fromStart && at.sweep.wanted === 0;
        if (clean || at.sweep.number >= lastSweep) return await this.#finish(run, at, clean);
        if (at.sweep.lost > 0) await rest(Math.min(RACE_REST_MS[1], RACE_REST_MS[0] * 2 ** at.sweep.number), stopRequested);
        at.sweep = await this.#sweep(at.sweep.number + 1, true);
        at.checkpoint = null;
        beginSweep(at.counters);
      } catch (error) {
        await upcoming?.catch(() => undefined);
        upcoming = null;
        if (error instanceof UnknownKidError) {
          await saveRun(db.sql, run.id, this.#owner, { ...(await reloadRun(db.sql, run.id)), status: 'failed' }).catch(() => undefined);
        }
        if (!isStorageUnavailable(error)) throw error;
        const known = await this.#outlast(error, async () => {
          await keepLock();
          // Whether the last batch was committed is written where it would have been committed.
          return reloadRun(db.sql, run.id);
        });
        if (known === null) return this.#result(run.id, committed, at.sweep.number, 130);
        at.checkpoint = known.checkpoint;
        at.counters = known.counters;
        at.sweep = { ...at.sweep, number: known.sweep, fromStart: false };
      }
    }
  }

  /** Batch, quarantine and checkpoint commit together. */
  async #write(runId: string, rows: number, { writes, quarantined, before }: Judged, at: Position, earlierMs: number): Promise<void> {
    const { counters, sweep } = at;
    counters.scanned += rows;
    counters.quarantined += quarantined.length;
    await this.#bounded(async (sql) => {
      const written = new Set(writes.length > 0 ? await this.table.write(sql, writes) : []);
      counters.changed += written.size;
      counters.lostRace += writes.length - written.size;
      for (const { id } of writes) if (written.has(id)) settle(counters, before.get(id));
      counters.durationMs = earlierMs + Date.now() - this.#startedAt;
      await quarantine(sql, runId, this.table.key, quarantined);
      await saveRun(sql, runId, this.#owner, { checkpoint: at.checkpoint, sweep: sweep.number, counters });
      sweep.wanted += writes.length;
      sweep.lost += writes.length - written.size;
    });
  }

  async #finish(run: Run, { sweep, counters }: Position, clean: boolean): Promise<JobResult> {
    const done = clean && counters.quarantined === 0;
    await this.#bounded(async (sql) => {
      if (clean) await forgetOpened(sql, this.table.key, this.options.columns, sweep.startedAt);
      await saveRun(sql, run.id, this.#owner, { checkpoint: null, sweep: sweep.number, counters, status: done ? 'done' : 'incomplete' });
    });
    return this.#result(run.id, counters, sweep.number, done ? 0 : 3);
  }

  async #stop(run: Run, { checkpoint, sweep, counters }: Position): Promise<JobResult> {
    await saveRun(this.parts.db.sql, run.id, this.#owner, { checkpoint, sweep: sweep.number, counters, status: 'interrupted' });
    return this.#result(run.id, counters, sweep.number, 130);
  }

  async #sweep(number: number, fromStart: boolean): Promise<Sweep> {
    return { number, fromStart, startedAt: await serverTime(this.parts.db.sql), wanted: 0, lost: 0 };
  }

  /** What is to be done with each row of a batch; every new value is opened and compared before it counts. */
  #judge(batch: readonly TokenRow[], counters: Counters, firstSweep: boolean, stopAtUnknownKid: boolean): Judged {
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
        const kid = storedClass === 'v2' ? stored.slice(3, stored.indexOf('.', 3)) : null;
        this.#count(column, storedClass, kid);
        const current = this.target === 'plain' ? storedClass === 'plain' : kid === this.target;
        if (kid !== null && !this.parts.keyring.key(kid) && stopAtUnknownKid) throw this.#unknownKid(kid, column, row.id);
        if (!current && storedClass !== 'malformed') counters.remaining[remainder(storedClass)] += 1;
        const location = { table: this.table.name, column, rowId: row.id };
        try {
          const token = this.#encryption.open(stored, location);
          this.#bytes.before += Buffer.byteLength(stored);
          if (current) {
            if (firstSweep) counters.alreadyCurrent += 1;
            this.#bytes.after += Buffer.byteLength(stored);
            return null;
          }
          if (token === '') throw new AuthError('token_unreadable', 'a sealed value holds an empty token', { reason: 'empty' });
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
    if (token.includes('\0')) throw new AuthError('token_unreadable', 'PostgreSQL stores no text with a NUL character', { reason: 'not_storable' });
    return token;
  }

  #openFault(value: string, column: string, rowId: string): string | null {
    try {
      this.#encryption.open(value, { table: this.table.name, column, rowId });
      return null;
    } catch (error) {
      if (isAuthError(error, 'token_unreadable')) return error.reason ?? 'unreadable';
      throw error;
    }
  }

  #unknownKid(kid: string, column: string, rowId: string): UnknownKidError {
    return new UnknownKidError(`${this.options.table}.${column} of row ${rowId} is sealed under the key ${kid}, which is not in the keyring: add it (decrypt-only will do) and start again`);
  }

  #read(after: string | null): Promise<TokenRow[]> {
    return this.#bounded((sql) => this.table.read(sql, after, this.#pace.rows));
  }

  #prefetch(after: string | null): Promise<TokenRow[]> {
    const reading = this.#read(after);
    // Awaited later; a failure until then must not count as unhandled.
    reading.catch(() => undefined);
    return reading;
  }

  /** A transaction that waits neither for locks nor for an answer longer than an operator who stops the job would. */
  #bounded<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
    return this.parts.db.transaction(async (sql) => {
      await sql.query(`SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '10s'`);
      return work(sql);
    });
  }

  /** Tries again while the database refuses; null when the job is to stop. */
  async #patiently<Result>(work: () => Promise<Result>): Promise<Result | null> {
    try {
      const result = await work();
      this.#recovered();
      return this.parts.stopRequested() ? null : result;
    } catch (error) {
      if (!isStorageUnavailable(error)) throw error;
      return this.#outlast(error, work);
    }
  }

  /** Waits until `back` works again: a minute from the first of a row of failures. Null when the job is to stop. */
  async #outlast<Result>(cause: unknown, back: () => Promise<Result>): Promise<Result | null> {
    const { watcher, stopRequested } = this.parts;
    if (this.#troubleSince === null) watcher.note(`${troubleOf(cause, this.options.table)}; trying again for up to ${OUTAGE_MS / 1000} s`);
    this.#troubleSince ??= Date.now();
    this.#pace.slower();
    for (let failure = cause; ; ) {
      await rest(RETRY_MS, stopRequested);
      if (stopRequested()) return null;
      if (Date.now() - this.#troubleSince >= OUTAGE_MS) throw failure;
      try {
        return await back();
      } catch (error) {
        // After a broken connection the server may hold our own lock for a moment longer.
        if (!isStorageUnavailable(error) && !(error instanceof RunHeldError)) throw error;
        failure = error;
      }
    }
  }

  #recovered(): void {
    if (this.#troubleSince === null) return;
    this.#troubleSince = null;
    this.parts.watcher.note('the database answers again; going on');
  }

  #count(column: string, storedClass: StoredClass, kid: string | null): void {
    const counts = this.#byColumn[column];
    if (!counts) return;
    const label = kid === null ? storedClass : `v2 ${kid}`;
    counts[label] = (counts[label] ?? 0) + 1;
  }

  #report(sweep: number, counters: Counters): void {
    const { scanned, changed, lostRace } = counters;
    this.parts.watcher.progress({ sweep, scanned, scannedBefore: this.#scannedBefore, total: this.total, changed, lostRace, throttledBy: this.#pace.throttledBy });
  }

  #result(run: string | null, counters: Counters, sweeps: number, exitCode: JobResult['exitCode']): JobResult {
    if (run === null) counters.durationMs = Date.now() - this.#startedAt;
    return { run, mode: this.options.mode, target: this.target, counters, sweeps, byColumn: this.#byColumn, bytes: this.#bytes, exitCode };
  }
}

function wrongKey(kid: string, fault: string): KeyError {
  if (kid !== '') return new KeyError(`the key ${kid} is not the one that the values under ${kid} were sealed with: none of a sample opens; nothing was changed`);
  if (fault === 'no_plan_key') return new KeyError('SESSION_TOKEN_ENCRYPTION_KEY must be set: there are values of the older format, which it opens; nothing was changed');
  return new KeyError('SESSION_TOKEN_ENCRYPTION_KEY is not the key of the values of the older format that are there: none of a sample opens; nothing was changed');
}

function troubleOf(error: unknown, table: string): string {
  const { code } = error as { code?: unknown };
  if (code === '55P03') return `another session holds a lock on ${table}`;
  if (code === '57014') return 'a statement took too long';
  return 'PostgreSQL does not answer';
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
