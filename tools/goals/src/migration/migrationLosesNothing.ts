import { startPostgres } from '@session-gateway/testkit';
import { killJobs, mixedRows } from '../../../migrations/src/testing/jobHarness.js';
import { POINTS } from '../../../migrations/src/testing/points.js';
import {
  faultsAtTheEnd,
  killAt,
  killAtRandom,
  lossesOf,
  prepare,
  restartPostgres,
} from '../../../migrations/src/testing/ordeal.js';
import { startWriters } from '../../../migrations/src/testing/tokenWriters.js';
import { runGoal } from '../harness/goal.js';

const CI = { rows: 5_000, random: 36, perPoint: 2, restarts: 2 };
const FULL = { rows: 100_000, random: 860, perPoint: 20, restarts: 10 };
const WRITERS = 4;

await runGoal('F10', async ({ full, random, progress }) => {
  const size = full ? FULL : CI;
  const next = (): number => random.below(2 ** 32) / 2 ** 32;
  const postgres = await startPostgres();
  try {
    const ground = await prepare(postgres, mixedRows(size.rows, next));
    // An older gateway that still writes plaintext is among them until the last run: there is
    // always work to be killed at.
    const writers = startWriters(ground.db, ground.rows, next, { count: WRITERS });
    const kills = await killAtRandom(ground, size.random, next, (count) =>
      progress(
        () =>
          `${count} of ${size.random} random kills, ${writers.writes()} writes, ${writers.lost.length} lost`,
      ),
    );
    const atPoints: Record<string, number> = {};
    for (const point of POINTS.flatMap((each) =>
      Array.from({ length: size.perPoint }, () => each),
    )) {
      if (await killAt(ground, point, point === 'between sweeps' ? 1 : 1 + random.below(5)))
        atPoints[point] = (atPoints[point] ?? 0) + 1;
      progress(() => `killed ${point}, ${writers.writes()} writes, ${writers.lost.length} lost`);
    }
    writers.sealOnly();
    const last = await restartPostgres(ground, size.restarts);
    await writers.stop();
    progress(
      () =>
        `PostgreSQL restarted ${size.restarts} times, ${writers.writes()} writes, ${writers.lost.length} lost`,
    );
    const faults =
      last.code === 0
        ? await faultsAtTheEnd(ground, writers)
        : [...writers.lost, `the last run ended with ${last.code}: ${last.stderr}`];
    await ground.db.close();

    progress(() => 'the two algorithms that are known to lose writes');
    const controls = {
      'batch read, then update by id': await lossesOf('none', postgres, next),
      'SKIP LOCKED after the read, without compare': await lossesOf(
        'skip-locked-only',
        postgres,
        next,
      ),
    };
    const killedAtPoints = Object.values(atPoints).reduce((sum, count) => sum + count, 0);
    const passed =
      faults.length === 0 &&
      kills.back === 0 &&
      killedAtPoints === POINTS.length * size.perPoint &&
      Object.values(controls).every((lost) => lost > 0);
    return {
      passed,
      rows: size.rows,
      writers: WRITERS,
      writes: writers.writes(),
      lost: writers.lost.length,
      faults: faults.length,
      kills: kills.killed + killedAtPoints,
      atRandom: kills.killed,
      atPoints,
      runsEndedBetween: kills.ended,
      checkpointsBack: kills.back,
      restarts: size.restarts,
      lastRun: {
        code: last.code,
        ...(last.code === 0 ? { changed: last.json.changed, lostRace: last.json.lostRace } : {}),
      },
      controls,
      ...(faults.length > 0 ? { examples: faults.slice(0, 5) } : {}),
    };
  } finally {
    killJobs();
    await postgres.dispose();
  }
});
