/** How often each outcome came about. */
export type Counts = Record<string, number>;

/**
 * Runs `one` for each number from 0 up to `total`, at most `parallel` at a time (default: all at once), and counts what
 * it says came of it. A rejection is counted as `failed: ` and its message.
 */
export async function storm(
  total: number,
  one: (i: number) => Promise<string | number>,
  options: { parallel?: number; onProgress?: (done: number) => void } = {},
): Promise<Counts> {
  const counts: Counts = {};
  let [next, done] = [0, 0];
  const worker = async (): Promise<void> => {
    for (let i = next++; i < total; i = next++) {
      const outcome = await one(i).catch(
        (error: unknown) => `failed: ${error instanceof Error ? error.message : String(error)}`,
      );
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      options.onProgress?.(++done);
    }
  };
  await Promise.all(Array.from({ length: Math.min(total, options.parallel ?? total) }, worker));
  return counts;
}
