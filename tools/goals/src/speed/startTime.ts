import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { freePort } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { median } from '../harness/statistics.js';

const WITHIN_MS = 5_000;
const GIVE_UP_MS = 120_000;

/** The two ways in: what a newcomer types, and the program that it ends up in. */
const WAYS = {
  program: [process.execPath, 'dist/apps/api-gateway/main.js'],
  command: ['npx', '--yes', 'pnpm@12', 'start'],
} as const;

await runGoal('P7', async ({ full, progress }) => {
  const rounds = full ? 9 : 3;
  const took: Record<keyof typeof WAYS, { first: number[]; again: number[] }> = {
    program: { first: [], again: [] },
    command: { first: [], again: [] },
  };
  for (let round = 0; round < rounds; round++) {
    for (const way of Object.keys(WAYS) as (keyof typeof WAYS)[]) {
      const dataDir = await mkdtemp(join(tmpdir(), 'start-'));
      try {
        // The first start makes the database; each later one finds it.
        took[way].first.push(await firstAnswer(WAYS[way], dataDir));
        took[way].again.push(await firstAnswer(WAYS[way], dataDir));
        progress(
          () =>
            `round ${round + 1} of ${rounds}, ${way}: ${Math.round(took[way].again.at(-1) ?? 0)} ms`,
        );
      } finally {
        // What the package runner started may be a moment longer at its end than it.
        await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
      }
    }
  }
  const ms = Object.fromEntries(
    Object.entries(took).map(([way, { first, again }]) => [
      way,
      { first: Math.round(median(first)), again: Math.round(median(again)) },
    ]),
  ) as Record<keyof typeof WAYS, { first: number; again: number }>;
  const passed = Object.values(ms).every(
    ({ first, again }) => first <= WITHIN_MS && again <= WITHIN_MS,
  );
  return { passed, withinMs: WITHIN_MS, ms, rounds, cores: availableParallelism() };
});

/** Milliseconds from starting a gateway, with everything embedded, to its first answer to a person's request. */
async function firstAnswer(
  [program, ...args]: readonly [string, ...string[]],
  dataDir: string,
): Promise<number> {
  const port = await freePort();
  const { PATH, HOME, XDG_CACHE_HOME } = process.env;
  const began = performance.now();
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH,
      HOME,
      XDG_CACHE_HOME,
      PORT: String(port),
      DATA_DIR: dataDir,
      NX_DAEMON: 'false',
      CI: 'true',
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece) => {
      output = (output + String(piece)).slice(-4_000);
    });
  try {
    while (performance.now() - began < GIVE_UP_MS) {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}:\n${output}`);
      if (
        await fetch(`http://127.0.0.1:${port}/auth/login`, { redirect: 'manual' }).then(
          ({ status }) => status === 302,
          () => false,
        )
      )
        return performance.now() - began;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`no answer in ${GIVE_UP_MS} ms:\n${output}`);
  } finally {
    await end(child);
  }
}

/** The signal goes to the whole group, since a package runner does not pass it on. */
async function end(child: ChildProcess): Promise<void> {
  const exited =
    child.exitCode === null && child.signalCode === null
      ? new Promise((resolve) => child.once('exit', resolve))
      : null;
  const signal = (name: NodeJS.Signals): void => {
    try {
      process.kill(-(child.pid ?? 0), name);
    } catch {
      // It has gone.
    }
  };
  signal('SIGTERM');
  const late = setTimeout(() => signal('SIGKILL'), 20_000);
  await exited;
  clearTimeout(late);
}
