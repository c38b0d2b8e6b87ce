/** How long the latest request to the provider tells of it. */
const FRESH_MS = 3_000;
/** Who asks has little patience: Kubernetes' probes give up after a second. */
const WAIT_MS = 750;

/**
 * Whether the provider answers: by the latest request to it, whoever sent that, or by a look at it where that is a
 * while ago. However many ask, one look at a time is under way, and none follows another at once.
 */
export class ProviderHealth {
  readonly #now: () => number;
  #latest: { readonly reason: string | null; readonly at: number } = {
    reason: null,
    at: -Infinity,
  };
  /** What only the metadata can take back, whatever else is answered. */
  #issuerProblem: { readonly reason: string; readonly at: number } | null = null;
  #looking: Promise<unknown> | undefined;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * `send`, with what came of each request noted. An answer counts, unless it says that the
   * provider is overloaded or broken.
   */
  watch(send: typeof fetch): typeof fetch {
    return async (input, init) => {
      try {
        const answer = await send(input, init);
        this.note(
          answer.status >= 500 || answer.status === 429
            ? `the provider answers ${answer.status}`
            : null,
        );
        return answer;
      } catch (error) {
        this.note('the provider does not answer');
        throw error;
      }
    };
  }

  note(reason: string | null): void {
    this.#latest = { reason, at: this.#now() };
  }

  /** What a look at the metadata has shown of the provider's issuer; null: it is the right one. */
  noteIssuer(problem: string | null): void {
    this.#issuerProblem = problem === null ? null : { reason: problem, at: this.#now() };
  }

  /** Why the provider is taken to be away, or null. `look` sends a request that is watched. */
  async reason(look: () => Promise<unknown>): Promise<string | null> {
    const asked = this.#now();
    const lookedAt = Math.min(this.#latest.at, this.#issuerProblem?.at ?? Infinity);
    if (asked - lookedAt < FRESH_MS) return this.#current;
    this.#looking ??= look()
      .catch(() => undefined)
      .finally(() => {
        this.#looking = undefined;
      });
    let timer: NodeJS.Timeout | undefined;
    const impatience = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        // Something else may have been answered meanwhile.
        if (this.#latest.at < asked) this.note('the provider has not answered yet');
        resolve();
      }, WAIT_MS);
    });
    await Promise.race([this.#looking, impatience]);
    clearTimeout(timer);
    return this.#current;
  }

  get #current(): string | null {
    return this.#latest.reason ?? this.#issuerProblem?.reason ?? null;
  }
}
