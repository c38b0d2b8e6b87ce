import fc from 'fast-check';
import { runGoal } from '../harness/goal.js';
import { type Flaw, FLAWS } from '../model/flaws.js';
import { moves } from '../model/moves.js';
import { openWorld } from '../model/world.js';

/** At most that many moves in a run, and half as many on the average: sixty. */
const MOVES = 120;
const CI = { runs: 200, moves: MOVES };
const FULL = { runs: 2_000, moves: MOVES };
const CONTROL = { runs: 60, moves: 25 };

await runGoal('F12', async ({ seed, full, progress }) => {
  const world = await openWorld();
  const check = async (size: { runs: number; moves: number }, flaw: Flaw | null) => {
    let [runs, steps] = [0, 0];
    const property = fc.asyncProperty(
      fc.commands(
        moves(() => {
          steps += 1;
        }),
        { maxCommands: size.moves, size: 'max' },
      ),
      async (commands) => {
        runs += 1;
        progress(() => `${flaw ?? 'as it is'}: run ${runs} of ${size.runs}, ${steps} moves`);
        await world.begin(flaw);
        await fc.asyncModelRun(() => ({ model: world.model, real: world }), commands);
      },
    );
    const result = await fc.check(property, { numRuns: size.runs, seed, endOnFailure: true });
    const why = result.errorInstance instanceof Error ? result.errorInstance.message : null;
    return {
      failed: result.failed,
      runs,
      moves: steps,
      why,
      path: result.counterexamplePath,
      example: result.counterexample?.map(String).join().slice(0, 2_000) ?? null,
    };
  };
  try {
    const { failed, runs, moves: steps, ...found } = await check(full ? FULL : CI, null);
    const controls: Record<string, string> = {};
    for (const flaw of FLAWS) {
      const { failed: caught, why, runs: after } = await check(CONTROL, flaw);
      controls[flaw] = caught
        ? `caught in run ${after}: ${(why ?? '').slice(0, 120)}`
        : 'not caught';
    }
    return {
      passed: !failed && Object.values(controls).every((outcome) => outcome.startsWith('caught')),
      runs,
      moves: steps,
      counterExamples: failed ? 1 : 0,
      doubleSpends: world.provider.counts.invalidGrants,
      ...(failed ? found : {}),
      controls,
    };
  } finally {
    await world.dispose();
  }
});
