import { randomInt } from 'node:crypto';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { type Random, randomOf } from './random.js';

export interface Run {
  readonly seed: number;
  readonly full: boolean;
  readonly random: Random;
  /** A line on stderr, at most one every few seconds: call it as often as you like. */
  readonly progress: (line: () => string) => void;
}

/** `passed` decides the exit code; the rest is counts and ratios. */
export type Outcome = { readonly passed: boolean } & Readonly<Record<string, unknown>>;

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

const PROGRESS_MS = 3_000;

/**
 * Runs one experiment as a program: progress on stderr, one JSON object as the last line on stdout. Exit code 0 when
 * the criterion is met, 1 when it is not or the experiment itself breaks, 2 on a wrong flag.
 */
export async function runGoal(
  goal: string,
  experiment: (run: Run) => Outcome | Promise<Outcome>,
): Promise<void> {
  let flags: { seed: number; full: boolean };
  try {
    flags = parseFlags(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(
      `${goal}: ${error.message}; usage: nx run goals:${goal} [-- --full] [--seed <0 to 4294967295>]\n`,
    );
    process.exit(2);
  }
  const { seed, full } = flags;
  process.stderr.write(`${goal}: ${full ? 'full' : 'CI'} size, seed ${seed}\n`);
  let last = performance.now();
  const progress = (line: () => string): void => {
    const now = performance.now();
    if (now - last < PROGRESS_MS) return;
    last = now;
    process.stderr.write(`${goal}: ${line()}\n`);
  };
  let outcome: Outcome;
  try {
    outcome = await experiment({ seed, full, random: randomOf(seed), progress });
  } catch (error) {
    process.stderr.write(
      `${goal}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    outcome = { passed: false, broken: error instanceof Error ? error.message : String(error) };
  }
  // A pipe takes its time: leave only when the line is out.
  process.stdout.write(`${JSON.stringify({ goal, ...outcome, seed, full })}\n`, () =>
    process.exit(outcome.passed ? 0 : 1),
  );
}

/** @throws UsageError that names the flag */
export function parseFlags(args: readonly string[]): { seed: number; full: boolean } {
  const { tokens } = parseArgs({
    args: [...args],
    options: { seed: { type: 'string' }, full: { type: 'boolean' } },
    strict: false,
    tokens: true,
  });
  const seen = new Map<string, string | undefined>();
  for (const token of tokens) {
    if (token.kind === 'positional') throw new UsageError(`unexpected word ${token.value}`);
    if (token.kind !== 'option') continue;
    if (token.rawName !== '--seed' && token.rawName !== '--full')
      throw new UsageError(`unknown flag ${token.rawName}`);
    if (seen.has(token.name)) throw new UsageError(`--${token.name} is given twice`);
    if (token.name === 'full' && token.value !== undefined && token.value !== 'true')
      throw new UsageError('--full takes no value');
    seen.set(token.name, token.value);
  }
  const seed = seen.get('seed');
  if (
    seen.has('seed') &&
    (seed === undefined || !/^\d{1,10}$/.test(seed) || Number(seed) > 0xffff_ffff)
  )
    throw new UsageError('--seed must be a whole number from 0 to 4294967295');
  return { seed: seed === undefined ? randomInt(2 ** 32) : Number(seed), full: seen.has('full') };
}
