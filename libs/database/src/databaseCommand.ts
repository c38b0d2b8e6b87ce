import process from 'node:process';

/**
 * Runs `migrate`, `adopt`, `check` or `grants` and resolves with the exit code (0, 1, 2, 78). What it takes, Prisma's
 * engine among it, is loaded by this call.
 */
export async function databaseCommand(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const { runCommand } = await import('./commands.js');
  return runCommand(args, {
    env,
    say: (line) => void process.stdout.write(`${line}\n`),
    complain: (line) => void process.stderr.write(`${line}\n`),
  });
}
