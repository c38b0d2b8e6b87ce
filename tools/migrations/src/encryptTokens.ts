import { randomUUID } from 'node:crypto';
import type { Database } from '@session-gateway/database';
import {
  faultOf,
  type Keyring,
  knownKeys,
  liveInstances,
  rememberKeys,
} from '@session-gateway/keycloak-auth';
import { Execution } from './execution.js';
import { type Finalized, finalize, removeConstraint, type Waiting } from './finalize.js';
import { Judge } from './judge.js';
import type { JobResult, Looked } from './jobResult.js';
import { loadSignals } from './loadSignals.js';
import { withOwedTokens } from './owedTokens.js';
import type { JobOptions } from './options.js';
import { Pace, type PaceLimits } from './pace.js';
import { Patience } from './patience.js';
import { cutRanges } from './ranges.js';
import { followRequests } from './requests.js';
import type { Quarantined } from './quarantine.js';
import { KeyError, requireRightKeys } from './rightKeys.js';
import {
  awaitsMigrations,
  type Counters,
  createBooks,
  hasBooks,
  hasTried,
  noCounters,
  openRun,
  readRun,
  requireRun,
  type Run,
  UnknownRunError,
} from './runs.js';
import { isAtWork, lockTable, type TableLock } from './tableLock.js';
import {
  openTokenTable,
  TableError,
  type TokenRow,
  type TokenTable,
  type WriteGuard,
} from './tokenTable.js';
import type { Watcher } from './watcher.js';
import { restoreVacuum, type TableHealth, tableHealth, tuneVacuum } from './vacuum.js';

export interface JobParts {
  readonly db: Database;
  readonly keyring: Keyring;
  readonly watcher: Watcher;
  /** Asked between batches. */
  readonly stopRequested: () => boolean;
  /** For tests, which show what a weaker guard loses. */
  readonly guard?: WriteGuard;
}

/**
 * Rewrites every token of a table for one target, while other programs write the same rows. Rows are read without
 * locks, and written only if they are still exactly what was read; who loses that race is met again in the next sweep.
 * A run is done after a sweep from the start that found nothing to write. The run's order is told in one file; its steps
 * are in files of their own.
 */
export async function encryptTokens(options: JobOptions, parts: JobParts): Promise<JobResult> {
  const { db, keyring } = parts;
  // A key of that name must not bring back plaintext that nobody has asked for.
  if (options.to === null && keyring.primary === 'plain')
    throw new KeyError(
      'the primary key has the id plain, which means plaintext here: make a key with another id the primary. Nothing was changed',
    );
  const target = options.to ?? keyring.primary;
  if (target !== 'plain' && !keyring.key(target))
    throw new KeyError(`--to names the key ${target}, which is not in the keyring`);
  if (options.mode !== 'verify' && keyring.decryptOnly.has(target))
    throw new KeyError(
      `--to names the key ${target}, which is decrypt-only: it opens values and seals none`,
    );
  const table = await openTokenTable(db.sql, options, parts.guard ?? options.cas);
  const total = await table.count(db.sql);
  const job = (mode: JobOptions['mode']): Job =>
    new Job({ ...options, mode }, parts, target, table, total);
  const health = await tableHealth(db.sql, table.key);
  const worked = await (options.mode === 'execute'
    ? job('execute').execute()
    : job(options.mode).look());
  const ended =
    table.key === 'user_sessions' && options.sample === null
      ? await withOwedTokens(worked, options, parts)
      : worked;
  // For people to read: a run that has ended well stays one.
  const result = {
    ...ended,
    health: { before: health, after: await tableHealth(db.sql, table.key).catch(() => health) },
  };
  if (!options.finalize || result.exitCode !== 0) return result;

  // A run ends with a clean sweep and a verification is one; this is the second.
  parts.watcher.note('clean once; looking again before the constraint is added');
  const again = await job('verify').look();
  const { remaining, quarantined } = again.counters;
  if (again.exitCode !== 0)
    return {
      ...result,
      counters: { ...result.counters, remaining, quarantined },
      exitCode: again.exitCode,
    };
  const finalized = await job('verify').finalize();
  if (finalized === null) return { ...result, exitCode: 130 };
  parts.watcher.note(
    {
      added: `finalized: from now on PostgreSQL refuses any token of ${options.table} that is not v2`,
      'there already': `finalized already: PostgreSQL refuses any token of ${options.table} that is not v2`,
      refused:
        'not finalized: somebody wrote a value that is not v2 after the verification; the constraint was taken back. An older gateway is still at work',
    }[finalized],
  );
  return { ...result, exitCode: finalized === 'refused' ? 3 : 0 };
}

const UNKNOWN_HEALTH: TableHealth = { bytes: 0, liveRows: 0, deadRows: 0 };
const FIRST_UNREADABLE = 20;

class Job {
  readonly #judge: Judge;
  readonly #patience: Patience;
  readonly #paces: Pace[];
  readonly #startedAt = Date.now();
  readonly #process = randomUUID();
  #resting: (pace: Pace) => void = () => undefined;

  constructor(
    private readonly options: JobOptions,
    private readonly parts: JobParts,
    private readonly target: string,
    private readonly table: TokenTable,
    private readonly total: number,
  ) {
    const { db, keyring, watcher, stopRequested } = parts;
    this.#judge = new Judge({
      keyring,
      target,
      columns: options.columns,
      maxLengths: table.maxLengths,
      tableName: table.name,
    });
    const { workers, mode } = options;
    // Workers share what the operator allows them together. Who only reads slows down no replica.
    const limits = {
      ...options,
      ...shared(options, workers),
      ...(mode === 'execute'
        ? {}
        : { maxReplicationLagSeconds: 0, maxSlotWalMb: 0, maxWalMbPerSecond: null }),
    };
    const signals = loadSignals(db.sql);
    this.#paces = Array.from({ length: workers }, () => {
      const pace: Pace = new Pace(limits, {
        signals,
        onRest: () => this.#resting(pace),
        note: (line) => watcher.note(line),
      });
      return pace;
    });
    this.#patience = new Patience({
      db,
      table: options.table,
      note: (line) => watcher.note(line),
      stopRequested,
      troubled: () => this.#paces.forEach((pace) => pace.slower()),
    });
  }

  /** Dry run and verify: the same code up to the write. */
  async look(): Promise<JobResult> {
    const { stopRequested, watcher } = this.parts;
    const [pace] = this.#paces;
    if (!pace) throw new Error('a job without a worker');
    const counters = noCounters();
    const looked = {
      rowsToWrite: 0,
      reasons: {} as Record<string, number>,
      firstUnreadable: [] as Quarantined[],
    };
    const { sample } = this.options;
    const sampled =
      sample === null
        ? null
        : await this.#patience.patiently(() =>
            this.#patience.bounded((sql) => this.table.sample(sql, sample, this.total)),
          );
    const total = sampled?.length ?? this.total;
    const report = (this.#resting = (): void =>
      watcher.progress({
        sweep: 1,
        scanned: counters.scanned,
        scannedBefore: 0,
        total,
        changed: 0,
        lostRace: 0,
        throttledBy: pace.throttledBy,
      }));
    const interrupted = (): JobResult => this.#result(null, counters, 1, 130, looked);
    for (let [after, met]: [string | null, number] = [null, 0]; ;) {
      const [from, begin]: [string | null, number] = [after, met];
      const ids: string[] | null = sampled && sampled.slice(begin, begin + pace.rows);
      const batch: TokenRow[] | null = await this.#patience.patiently(() =>
        this.#patience.bounded((sql) =>
          ids ? this.table.rows(sql, ids) : this.table.read(sql, from, pace.rows),
        ),
      );
      if (batch === null || (sample !== null && !sampled)) return interrupted();
      met += ids?.length ?? 0;
      const last = batch.at(-1);
      if (!last && (ids === null || ids.length === 0)) break;
      after = last?.id ?? null;
      const judged = this.#judge.judge(batch, counters, {
        firstSweep: true,
        stopAtUnknownKid: false,
      });
      this.#judge.count(judged.met);
      counters.scanned += batch.length;
      counters.quarantined += judged.quarantined.length;
      looked.rowsToWrite += judged.writes.length;
      for (const value of judged.quarantined) {
        looked.reasons[value.reason] = (looked.reasons[value.reason] ?? 0) + 1;
        if (looked.firstUnreadable.length < FIRST_UNREADABLE) looked.firstUnreadable.push(value);
      }
      report();
      if (stopRequested()) return interrupted();
      await pace.rest(batch.length, stopRequested);
    }
    const remain =
      counters.remaining.plain +
      counters.remaining.plan +
      counters.remaining.otherKid +
      counters.quarantined;
    return this.#result(
      null,
      counters,
      1,
      this.options.mode === 'verify' && remain > 0 ? 3 : 0,
      looked,
    );
  }

  get #waiting(): Waiting {
    const { watcher, stopRequested } = this.parts;
    return { note: (line) => watcher.note(line), stopRequested };
  }

  /** Null when the job is to stop. */
  finalize(): Promise<Finalized | null> {
    return this.#patience.patiently(() => finalize(this.parts.db, this.options, this.#waiting));
  }

  async execute(): Promise<JobResult> {
    const { db, keyring, watcher } = this.parts;
    const { table, target } = this;
    const books = await hasBooks(db.sql);
    // Elsewhere the job makes them itself; here they would be in the migrations' way.
    if (!books && (await awaitsMigrations(db.sql)))
      throw new TableError(
        "this database lacks the job's own tables: run the migrations first (`migrate`)",
      );
    // A gateway's database says of each key which one it is, whatever table is worked on.
    const [list] = await db.sql.query<{ found: boolean }>(
      `SELECT to_regclass('token_keys') IS NOT NULL AS found`,
    );
    const listed = list?.found === true;
    const known = listed ? await knownKeys(db.sql) : [];
    if (listed) {
      const faults = known.flatMap((key) => faultOf(keyring, key) ?? []);
      if (known.some((key) => key.kid === target && key.retiredAt))
        faults.push(`the key ${target} has been retired: nothing may be sealed under it any more`);
      if (faults.length > 0) throw new KeyError(`${faults.join('; ')}. Nothing was changed`);
      const blind =
        target === 'plain'
          ? []
          : (await liveInstances(db.sql)).filter(
              (instance) => instance.keys[target] !== keyring.fingerprint(target),
            );
      if (blind.length > 0)
        watcher.note(
          `${blind.length} live gateways do not know ${target} and cannot read what is written now: give them the keyring`,
        );
    }
    const { join, resume, restart } = this.options;
    if (join !== null) await this.#requireUnderWay(join, books);
    const lock = {
      current: await lockTable(db, table.key, { process: this.#process, join: join !== null }),
      renewed: null as Promise<TableLock> | null,
    };
    const keepLock = async (): Promise<TableLock> => {
      if (lock.current.held()) return lock.current;
      lock.current.release();
      // Known as the current one before anybody can ask for another: each is to be let go of in the end.
      lock.renewed ??= lockTable(db, table.key, { process: this.#process, join: true })
        .then((renewed) => (lock.current = renewed))
        .finally(() => {
          lock.renewed = null;
        });
      return lock.renewed;
    };
    try {
      // The list speaks for what gateways have sealed; another table may be from elsewhere.
      const confirmed =
        table.key === 'user_sessions'
          ? known.map(({ kid }) => kid).filter((kid) => keyring.key(kid))
          : [];
      // Of a large table, looking takes longer than many a window for maintenance.
      const tried =
        books &&
        !restart &&
        (await hasTried(db.sql, keyring.digest, this.#shape, target, join ?? resume));
      if (
        !tried &&
        !(await requireRightKeys(table, {
          keyring,
          judge: this.#judge,
          patience: this.#patience,
          books,
          confirmed,
          note: (line) => watcher.note(line),
        }))
      )
        return this.#result(null, noCounters(), 0, 130);
      if (listed) await rememberKeys(db.sql, keyring);
      if (!books) await createBooks(db.sql);
      // Of the processes of a run, the one that has opened it looks after its table.
      if (join === null) await this.#tendVacuum('begin');
      if (
        this.target === 'plain' &&
        (await removeConstraint(db, this.options, this.#waiting)) === null
      )
        return this.#result(null, noCounters(), 0, 130);
      const run = join === null ? await this.#open(lock.current) : await readRun(db.sql, join);
      return await this.#executeRun(run, keepLock);
    } finally {
      if (join === null && this.options.vacuum) await this.#tendVacuum('end');
      lock.current.release();
    }
  }

  /**
   * Whoever was killed left autovacuum's settings behind, or whoever could not reach the database at its end: they are
   * put back at the next start.
   */
  async #tendVacuum(when: 'begin' | 'end'): Promise<void> {
    const { db, watcher } = this.parts;
    try {
      if (when === 'begin' && this.options.vacuum) await tuneVacuum(db, this.table.key);
      else if (await restoreVacuum(db, this.table.key))
        watcher.note(`autovacuum treats ${this.options.table} as before again`);
    } catch (error) {
      watcher.note(
        `autovacuum's settings of ${this.options.table} could not be ${when === 'begin' && this.options.vacuum ? 'set' : 'put back; the next start tries again'} (${(error as { code?: string }).code ?? 'no answer'})`,
      );
    }
  }

  async #open(lock: TableLock): Promise<Run> {
    const { db, keyring, watcher } = this.parts;
    const run = await openRun(db.sql, this.#shape, this.target, {
      ...this.options,
      keys: keyring.digest,
    });
    await cutRanges(db, run.id, this.table, {
      workers: this.options.workers,
      total: this.total,
      checkpoint: run.checkpoint,
    });
    await lock.share();
    watcher.note(run.resumed ? `continuing run ${run.id} where it stopped` : `run ${run.id}`);
    return run;
  }

  async #executeRun(run: Run, keepLock: () => Promise<TableLock>): Promise<JobResult> {
    const { db, watcher, stopRequested } = this.parts;
    const requests = followRequests(db.sql, run.id, (limits) => {
      watcher.note(
        `another pace: ${Object.entries(limits)
          .map(([name, value]) => `${name} ${value}`)
          .join(', ')}`,
      );
      this.#paces.forEach((pace) => pace.change(shared(limits, this.options.workers)));
    });
    try {
      const execution = new Execution(
        {
          options: this.options,
          target: this.target,
          db,
          table: this.table,
          total: this.total,
          judge: this.#judge,
          patience: this.#patience,
          paces: this.#paces,
          process: this.#process,
          keepLock,
          requests,
          watcher,
          stopRequested,
        },
        run,
      );
      this.#resting = (pace) => execution.resting(pace);
      const { counters, sweeps, exitCode } = await execution.execute();
      return this.#result(run.id, counters, sweeps, exitCode);
    } finally {
      await requests.end();
    }
  }

  async #requireUnderWay(run: string, books: boolean): Promise<void> {
    const { db } = this.parts;
    if (!books) throw new UnknownRunError(`there is no run ${run}`);
    await requireRun(db.sql, run, this.#shape, this.target);
    if (!(await isAtWork(db.sql, this.table.key)))
      throw new UnknownRunError(
        `nobody is at work on run ${run}: continue it with --resume ${run}`,
      );
  }

  get #shape() {
    return { ...this.options, table: this.table.key };
  }

  #result(
    run: string | null,
    counters: Counters,
    sweeps: number,
    exitCode: JobResult['exitCode'],
    looked: Looked | null = null,
  ): JobResult {
    if (run === null) counters.durationMs = Date.now() - this.#startedAt;
    return {
      run,
      mode: this.options.mode,
      target: this.target,
      counters,
      sweeps,
      ...this.#judge.met,
      looked,
      health: { before: UNKNOWN_HEALTH, after: UNKNOWN_HEALTH },
      exitCode,
    };
  }
}

/** Each worker's part of the bounds that hold for the process. */
function shared<Limits extends Partial<PaceLimits>>(limits: Limits, workers: number): Limits {
  const { maxRowsPerSecond: rows } = limits;
  return typeof rows === 'number'
    ? { ...limits, maxRowsPerSecond: Math.max(1, Math.floor(rows / workers)) }
    : limits;
}
