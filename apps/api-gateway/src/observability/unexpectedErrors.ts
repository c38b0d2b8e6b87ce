/** More errors within the window make the instance unready, until that many have not been seen for as long. */
export const REPEATED = { count: 5, windowMs: 60_000 };

/**
 * The last resort for errors that no code has expected. The process goes on: it holds other people's requests, and
 * refreshes that must be written. Errors that repeat make it unready, so that a load balancer turns to others.
 */
export class UnexpectedErrors {
  readonly #times: number[] = [];
  readonly #tell: (error: unknown) => void;
  readonly #now: () => number;

  /** `tell`: counts an error and says it in the log; what it throws is ignored. */
  constructor(tell: (error: unknown) => void, now: () => number = () => performance.now()) {
    this.#tell = tell;
    this.#now = now;
  }

  note(error: unknown): void {
    this.#times.push(this.#now());
    if (this.#times.length > REPEATED.count + 1) this.#times.shift();
    try {
      this.#tell(error);
    } catch {
      // Nothing is behind this.
    }
  }

  /** Why the instance should get no requests; null while errors are none or few. */
  get problem(): string | null {
    const since = this.#now() - REPEATED.windowMs;
    const recent = this.#times.filter((time) => time > since).length;
    return recent > REPEATED.count ? 'unexpected errors repeat; the log says which' : null;
  }
}
