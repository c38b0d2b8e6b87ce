/** Nobody waits longer for another's read to end before the own one begins. */
const PATIENCE_MS = 100;

/**
 * Reads that a crowd shares: of one key at most one runs at a time, and who asks meanwhile shares the next. Every
 * caller's read began after it asked, so nobody is answered from before.
 */
export class SharedReads<Result> {
  readonly #running = new Map<string, Promise<Result>>();
  readonly #next = new Map<string, Promise<Result>>();

  async read(key: string, read: () => Promise<Result>): Promise<Result> {
    const running = this.#running.get(key);
    if (!running) return this.#begin(key, read);
    let next = this.#next.get(key);
    if (!next) {
      next = endOf(running).then(() => {
        this.#next.delete(key);
        return this.#begin(key, read);
      });
      this.#next.set(key, next);
    }
    return next;
  }

  #begin(key: string, read: () => Promise<Result>): Promise<Result> {
    const running = read().finally(() => {
      if (this.#running.get(key) === running) this.#running.delete(key);
    });
    this.#running.set(key, running);
    return running;
  }
}

async function endOf(read: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS);
  });
  await Promise.race([
    read.then(
      () => undefined,
      () => undefined,
    ),
    patience,
  ]);
  clearTimeout(timer);
}
