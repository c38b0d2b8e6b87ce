import cluster, { type Worker } from 'node:cluster';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../observability/logging.js';
import type { Readiness } from '../../server/health.js';
import { askWorker, type FromWorker } from './messages.js';

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** One that has worked for so long was no failure to start. */
const WELL_AFTER_MS = 30_000;
const READY_WITHIN_MS = 60_000;
const LOOK_MS = 50;

export interface FleetOptions {
  readonly size: number;
  readonly log: Log;
  /** Told before a worker is asked to end. */
  readonly beforeEnding: (worker: Worker) => Promise<void>;
  readonly onEnded: (worker: Worker) => void;
  /** The fleet cannot start: its first workers refuse, with this exit code. */
  readonly onRefused: (code: number) => void;
}

/** As many workers as wanted, whatever becomes of each. */
export class Fleet {
  readonly #o: FleetOptions;
  readonly #listening = new Set<Worker>();
  /** Those that are to end are not replaced. */
  readonly #leaving = new Set<Worker>();
  #pauseMs = FIRST_PAUSE_MS;
  #hasListened = false;
  #isStopping = false;
  #rolling = false;

  constructor(options: FleetOptions) {
    this.#o = options;
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  listening(): Worker[] {
    return [...this.#listening];
  }

  /** Starts the workers; resolves once the first one listens. */
  async start(): Promise<void> {
    const workers = Array.from({ length: this.#o.size }, () => this.#fork());
    await Promise.race(workers.map(({ listens }) => listens));
  }

  /** Every worker gets the signal. */
  signal(name: NodeJS.Signals): void {
    for (const worker of this.#all()) worker.process.kill(name);
  }

  /** Asks all to end and resolves when they have. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.signal('SIGTERM');
    while (this.#all().length > 0) await delay(LOOK_MS);
  }

  /** One by one: the next is ready before the one that it replaces is asked to end. */
  async restart(): Promise<void> {
    const { log } = this.#o;
    if (this.#rolling || this.#isStopping) return;
    this.#rolling = true;
    try {
      for (const old of this.listening()) {
        const next = this.#fork();
        if (!(await this.#becomesReady(next))) {
          this.#leaving.add(next.worker);
          next.worker.process.kill('SIGKILL');
          log.error(
            { event: 'workers' },
            'a new worker did not become ready: the restart is given up, the others go on',
          );
          return;
        }
        await this.#end(old);
      }
      log.info({ event: 'workers' }, 'every worker has been restarted');
    } finally {
      this.#rolling = false;
    }
  }

  async #end(worker: Worker): Promise<void> {
    await this.#o.beforeEnding(worker);
    this.#leaving.add(worker);
    worker.process.kill('SIGTERM');
    while (!worker.isDead()) await delay(LOOK_MS);
  }

  async #becomesReady({ worker, listens }: Started): Promise<boolean> {
    const end = performance.now() + READY_WITHIN_MS;
    await Promise.race([listens, delay(READY_WITHIN_MS, undefined, { ref: false })]);
    while (performance.now() < end && !worker.isDead() && !this.#isStopping) {
      const health = (await askWorker(worker, 'health')) as Readiness | null;
      if (health?.ready) return true;
      await delay(LOOK_MS);
    }
    return false;
  }

  #all(): Worker[] {
    return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
  }

  #fork(): Started {
    const worker = cluster.fork();
    const forkedAt = performance.now();
    // Resolves too when it ends before: whoever waits looks at what has become of it.
    const listens = new Promise<void>((resolve) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind !== 'listening') return;
        this.#listening.add(worker);
        this.#hasListened = true;
        resolve();
      });
      worker.once('exit', () => resolve());
    });
    worker.once('exit', (code: number | null, signal: string | null) => {
      this.#listening.delete(worker);
      this.#o.onEnded(worker);
      if (this.#isStopping || this.#leaving.delete(worker)) return;
      if (!this.#hasListened && code !== null && code !== 0) {
        this.#isStopping = true;
        this.#o.onRefused(code);
        return;
      }
      this.#replace(performance.now() - forkedAt, signal ?? code);
    });
    return { worker, listens };
  }

  #replace(livedMs: number, ended: number | string | null): void {
    if (livedMs > WELL_AFTER_MS) this.#pauseMs = FIRST_PAUSE_MS;
    this.#o.log.error(
      { event: 'workers', reason: String(ended), ms: this.#pauseMs },
      'a worker has ended by itself; another one takes its place',
    );
    setTimeout(() => {
      if (!this.#isStopping) this.#fork();
    }, this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

interface Started {
  readonly worker: Worker;
  readonly listens: Promise<void>;
}
