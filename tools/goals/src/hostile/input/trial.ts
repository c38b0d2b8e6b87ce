import process from 'node:process';

/** One hostile input to one surface, and how to tell whether the surface dealt with it. */
export interface Trial {
  readonly input: string;
  run(): unknown;
  /** Whether what was thrown is what the surface promises to throw. */
  documented(error: unknown): boolean;
  /** Whether the outcome let the input in, as opposed to a refusal by value. */
  accepted(outcome: unknown): boolean;
  /** Why this outcome is wrong, by a judgement that shares no code with the surface; null when it is right. */
  wrong(outcome: unknown): string | null;
  /** Why it was wrong to refuse, where that can be told. */
  wronglyRefused?(error: unknown): string | null;
  /** Slow on purpose: key derivation, once in a process. */
  readonly untimed?: boolean;
}

export interface Surface {
  readonly name: string;
  /** Its share of the cases: cheap surfaces take more. */
  readonly weight: number;
  next(): Trial | Promise<Trial>;
}

export interface SurfaceResult {
  cases: number;
  accepted: number;
  refused: number;
  crashes: number;
  slow: number;
  wronglyAccepted: number;
  slowestMs: number;
}

export interface Finding {
  readonly surface: string;
  readonly what: 'crash' | 'slow' | 'wrong';
  readonly why: string;
  readonly input: string;
  count: number;
}

const SLOW_MS = 50;
type Ended = { value: unknown } | { thrown: unknown };

/** Puts trials to surfaces and keeps the count. */
export class Judge {
  readonly bySurface: Record<string, SurfaceResult> = {};
  readonly #findings = new Map<string, Finding>();

  async put(surface: string, trial: Trial): Promise<void> {
    const result = (this.bySurface[surface] ??= {
      cases: 0,
      accepted: 0,
      refused: 0,
      crashes: 0,
      slow: 0,
      wronglyAccepted: 0,
      slowestMs: 0,
    });
    result.cases++;
    const [ended, ms] = await run(trial);
    if (!trial.untimed && ms > SLOW_MS) {
      // A garbage collection or another program is no finding: it must be slow every time, by its own work.
      const again = Math.min(await workOf(trial), await workOf(trial), await workOf(trial));
      if (again > SLOW_MS) {
        result.slow++;
        this.#find(surface, 'slow', `${Math.round(again)} ms`, trial);
      }
      result.slowestMs = Math.max(result.slowestMs, again);
    } else if (!trial.untimed) result.slowestMs = Math.max(result.slowestMs, ms);

    if ('thrown' in ended) {
      const { thrown } = ended;
      result.refused++;
      if (!trial.documented(thrown)) {
        result.crashes++;
        this.#find(surface, 'crash', described(thrown), trial);
        return;
      }
      this.#wrong(surface, result, trial, trial.wronglyRefused?.(thrown) ?? null);
      return;
    }
    if (trial.accepted(ended.value)) result.accepted++;
    else result.refused++;
    this.#wrong(surface, result, trial, trial.wrong(ended.value));
  }

  get findings(): Finding[] {
    return [...this.#findings.values()];
  }

  total(count: 'cases' | 'crashes' | 'slow' | 'wronglyAccepted'): number {
    return Object.values(this.bySurface).reduce((sum, result) => sum + result[count], 0);
  }

  #wrong(surface: string, result: SurfaceResult, trial: Trial, why: string | null): void {
    if (why === null) return;
    result.wronglyAccepted++;
    this.#find(surface, 'wrong', why, trial);
  }

  /** One entry for each fault, with the shortest input that shows it. */
  #find(surface: string, what: Finding['what'], why: string, { input }: Trial): void {
    const name = `${surface}|${what}|${what === 'slow' ? '' : why}`;
    const known = this.#findings.get(name);
    if (known && known.input.length <= input.length) known.count++;
    else if (known || this.#findings.size < 40)
      this.#findings.set(name, {
        surface,
        what,
        why,
        input: input.slice(0, 2000),
        count: (known?.count ?? 0) + 1,
      });
  }
}

/** Milliseconds that the processor spends on a trial, whoever else wants it meanwhile. */
async function workOf(trial: Trial): Promise<number> {
  const before = process.cpuUsage();
  await run(trial);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

async function run(trial: Trial): Promise<[Ended, number]> {
  const before = performance.now();
  try {
    let value = trial.run();
    if (value instanceof Promise) value = await value;
    return [{ value }, performance.now() - before];
  } catch (thrown) {
    return [{ thrown }, performance.now() - before];
  }
}

function described(thrown: unknown): string {
  if (!(thrown instanceof Error)) return `threw ${typeof thrown}`;
  const { code } = thrown as { code?: unknown };
  const cause =
    thrown.cause instanceof Error ? ` < ${thrown.cause.name}: ${thrown.cause.message}` : '';
  return `${thrown.name}${typeof code === 'string' ? ` ${code}` : ''}: ${thrown.message}${cause}`.slice(
    0,
    200,
  );
}
