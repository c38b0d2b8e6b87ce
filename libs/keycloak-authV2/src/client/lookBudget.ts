import { AuthError } from '../errors.js';

export interface LookBudgetOptions {
  /** Looks that may follow each other at once. */
  burst: number;
  /** One more look each time so many milliseconds have passed. */
  refillMs: number;
  /** Callers that may wait for the next look. */
  maxWaiting: number;
  /** After so many looks in a row that brought nothing new nobody waits any more. */
  maxVain: number;
  now?: () => number;
  sleep?: (ms: number) => Promise<void>;
}

/**
 * How often strangers may make us look for something at the provider. Within the burst a look is made at once; beyond
 * it all callers share the next one, for which they wait `refillMs` at most. Where looks bring nothing new over and
 * over, the callers are strangers, and are told to come again instead of waiting.
 */
export class LookBudget {
  readonly #o: Required<LookBudgetOptions>;
  #left: number;
  #countedAt: number;
  #vain = 0;
  #waiting = 0;
  #next: Promise<void> | undefined;

  constructor(options: LookBudgetOptions) {
    this.#o = {
      now: () => performance.now(),
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      ...options,
    };
    this.#left = this.#o.burst;
    this.#countedAt = this.#o.now();
  }

  /**
   * Calls `look` when it may be made, which resolves with whether it brought anything new.
   * @throws AuthError `provider_unavailable` where the caller should come again
   */
  async spend(look: () => Promise<boolean>): Promise<void> {
    this.#count();
    if (this.#left >= 1) return this.#look(look);
    const { maxWaiting, maxVain } = this.#o;
    if (this.#waiting >= maxWaiting || this.#vain >= maxVain) throw this.#busy();
    this.#waiting++;
    try {
      await (this.#next ??= this.#later(look));
    } finally {
      this.#waiting--;
    }
  }

  async #later(look: () => Promise<boolean>): Promise<void> {
    try {
      await this.#o.sleep(Math.max(0, (1 - this.#left) * this.#o.refillMs));
    } finally {
      // Who comes from here on needs a look that begins later.
      this.#next = undefined;
    }
    this.#count();
    await this.#look(look);
  }

  async #look(look: () => Promise<boolean>): Promise<void> {
    this.#left--;
    this.#vain++;
    if (await look()) this.#vain = 0;
  }

  #count(): void {
    const { now, refillMs, burst } = this.#o;
    const at = now();
    this.#left = Math.min(burst, this.#left + (at - this.#countedAt) / refillMs);
    this.#countedAt = at;
    if (this.#left === burst) this.#vain = 0;
  }

  #busy(): AuthError {
    return new AuthError(
      'provider_unavailable',
      "the provider's keys were read a moment ago, and cannot be read again at once",
      { reason: 'keys_busy', retryAfterSeconds: Math.ceil(this.#o.refillMs / 1000) },
    );
  }
}
