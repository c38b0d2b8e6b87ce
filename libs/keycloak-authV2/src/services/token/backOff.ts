import { keepNewest } from '@session-gateway/database';

const MIN_MS = 1_000;
const MAX_MS = 30_000;
const MAX_ENTRIES = 10_000;

/**
 * How long to leave something alone that has failed: twice as long each time, up to 30 s, less up to a half by chance.
 */
export class BackOff {
  readonly #held = new Map<string, { until: number; failures: number }>();

  isHeldBack(key: string, now = performance.now()): boolean {
    return now < (this.#held.get(key)?.until ?? 0);
  }

  failed(key: string, now = performance.now()): void {
    const failures = (this.#held.get(key)?.failures ?? 0) + 1;
    keepNewest(
      this.#held,
      key,
      {
        failures,
        until: now + Math.min(MAX_MS, MIN_MS * 2 ** (failures - 1)) * (1 - Math.random() / 2),
      },
      MAX_ENTRIES,
    );
  }

  succeeded(key: string): void {
    this.#held.delete(key);
  }
}
