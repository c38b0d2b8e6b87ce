import { AuthError, isAuthError } from '../errors.js';

export interface CircuitBreakerOptions {
  /** Calls at the same time. */
  maxConcurrent?: number;
  /** Of them for one person. */
  maxPerPerson?: number;
  maxWaiting?: number;
  /** Failures in a row after which the provider is left alone. */
  failuresToOpen?: number;
  /** How long: doubled each time in a row, up to the most, less up to a half by chance. */
  minOpenMs?: number;
  maxOpenMs?: number;
  onChange?: (state: 'open' | 'closed', openMs: number) => void;
  now?: () => number;
  random?: () => number;
}

/** The right to make one call. Only the first outcome counts; later calls are ignored. */
export interface Place {
  /** The provider answered, whatever it said. */
  answered(): void;
  /** Counts only where it says that the provider is unavailable. */
  failed(error: unknown): void;
  /** No call was made. */
  unused(): void;
}

interface Waiter {
  readonly admit: () => void;
  readonly refuse: (error: AuthError) => void;
}

/**
 * Keeps calls to one provider within what it can bear: so many at a time, none while it is known to be away, and after
 * an outage first one, then two, four, … so that its return is not its next end. People who wait take turns, however
 * many calls each of them waits for. A `Retry-After` is obeyed. Each process judges for itself.
 */
export class CircuitBreaker {
  readonly #o: Required<CircuitBreakerOptions>;
  /** By person, the one whose turn is next first. */
  readonly #waiting = new Map<string, Waiter[]>();
  #waitingCount = 0;
  readonly #runningOf = new Map<string, number>();
  #limit: number;
  #running = 0;
  #failures = 0;
  #timesOpened = 0;
  #openUntil = 0;

  constructor(options: CircuitBreakerOptions = {}) {
    this.#o = {
      maxConcurrent: 32,
      maxPerPerson: 4,
      maxWaiting: 5_000,
      failuresToOpen: 10,
      minOpenMs: 1_000,
      maxOpenMs: 15_000,
      onChange: () => undefined,
      now: () => performance.now(),
      random: Math.random,
      ...options,
    };
    this.#limit = this.#o.maxConcurrent;
  }

  get isOpen(): boolean {
    return this.#o.now() < this.#openUntil;
  }

  /**
   * Waits for its turn. `person`: whose call it is.
   * @throws AuthError `provider_unavailable` while the provider is left alone, or when too many wait already
   */
  async enter(person?: string): Promise<Place> {
    if (this.isOpen) throw this.#refusal();
    if (this.#hasRoomFor(person)) this.#start(person);
    else {
      if (this.#waitingCount >= this.#o.maxWaiting) throw this.#refusal();
      // The one that admits us counts us, too.
      await new Promise<void>((admit, refuse) => this.#enqueue(person ?? '', { admit, refuse }));
    }
    let left = false;
    const leave = (what: () => void) => (): void => {
      if (left) return;
      left = true;
      this.#end(person);
      what();
      this.#admit();
    };
    return {
      answered: leave(() => this.#succeed()),
      failed: (error) => leave(() => this.#fail(error))(),
      unused: leave(() => undefined),
    };
  }

  #hasRoomFor(person = ''): boolean {
    if (this.#running >= this.#limit) return false;
    return person === '' || (this.#runningOf.get(person) ?? 0) < this.#o.maxPerPerson;
  }

  #start(person = ''): void {
    this.#running++;
    this.#runningOf.set(person, (this.#runningOf.get(person) ?? 0) + 1);
  }

  #end(person = ''): void {
    this.#running--;
    const left = (this.#runningOf.get(person) ?? 1) - 1;
    if (left === 0) this.#runningOf.delete(person);
    else this.#runningOf.set(person, left);
  }

  #enqueue(person: string, waiter: Waiter): void {
    this.#waitingCount++;
    const queue = this.#waiting.get(person);
    if (queue) queue.push(waiter);
    else this.#waiting.set(person, [waiter]);
  }

  #admit(): void {
    if (this.isOpen) return;
    // Few are passed over: only people who have as many calls under way as they may.
    for (const [person, queue] of this.#waiting) {
      if (this.#running >= this.#limit) return;
      if (!this.#hasRoomFor(person)) continue;
      const next = queue.shift();
      this.#waiting.delete(person);
      // Behind everybody else who waits; this loop comes back to them there.
      if (queue.length > 0) this.#waiting.set(person, queue);
      if (!next) continue;
      this.#waitingCount--;
      this.#start(person);
      next.admit();
    }
  }

  #succeed(): void {
    this.#failures = 0;
    // Something that was under way when the circuit opened says nothing about now.
    if (this.isOpen || this.#limit === this.#o.maxConcurrent) return;
    this.#limit = Math.min(this.#limit * 2, this.#o.maxConcurrent);
    if (this.#limit < this.#o.maxConcurrent) return;
    this.#timesOpened = 0;
    this.#o.onChange('closed', 0);
  }

  #fail(error: unknown): void {
    if (!isAuthError(error, 'provider_unavailable') || this.isOpen) return;
    this.#failures++;
    const askedToWaitMs =
      error.retryAfterSeconds === undefined ? 0 : error.retryAfterSeconds * 1000;
    const recovering = this.#limit < this.#o.maxConcurrent;
    if (askedToWaitMs === 0 && !recovering && this.#failures < this.#o.failuresToOpen) return;
    const { minOpenMs, maxOpenMs, random, now, onChange } = this.#o;
    const backOffMs = Math.min(maxOpenMs, minOpenMs * 2 ** this.#timesOpened) * (1 - random() / 2);
    const openMs = Math.max(backOffMs, askedToWaitMs);
    this.#timesOpened++;
    this.#limit = 1;
    this.#openUntil = now() + openMs;
    onChange('open', openMs);
    const refused = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    this.#waitingCount = 0;
    for (const { refuse } of refused) refuse(this.#refusal());
  }

  /** Clients that come back at the very moment of the first try would all come at once. */
  #refusal(): AuthError {
    const leftMs = Math.max(0, this.#openUntil - this.#o.now());
    return new AuthError('provider_unavailable', 'the provider is left alone for a while', {
      reason: 'circuit_open',
      retryAfterSeconds: Math.ceil(leftMs / 1000 + this.#o.random() * 2),
    });
  }
}
