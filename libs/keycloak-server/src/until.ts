/** How often a condition is looked at, in milliseconds. */
const POLL_MS = 20;

/**
 * Polls until `look` returns something other than false, null or undefined, and resolves with it. What `look` throws
 * counts as not yet; after `timeoutMs` (10 s) the last such error is the cause of the rejection.
 */
export async function until<T>(
  look: () => T | Promise<T>,
  options: { timeoutMs?: number; what?: string; everyMs?: number } = {},
): Promise<NonNullable<Exclude<T, false>>> {
  const { timeoutMs = 10_000, what = 'the condition', everyMs = POLL_MS } = options;
  const deadline = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen !== false && seen !== null && seen !== undefined)
        return seen as NonNullable<Exclude<T, false>>;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadline)
      throw new Error(`${what} did not come about within ${timeoutMs} ms`, { cause });
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
