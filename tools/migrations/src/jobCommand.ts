import type { JobCommand } from './runJob.js';

/** The commands of the job, by name. */
export const JOB_COMMANDS = ['encrypt-tokens', 'keys'] as const satisfies JobCommand[];

export const isJobCommand = (name: string): name is JobCommand =>
  (JOB_COMMANDS as readonly string[]).includes(name);

/** Runs a command of the job and resolves with the exit code. What it takes is loaded by this call. */
export async function jobCommand(command: JobCommand, args: readonly string[]): Promise<number> {
  const { runJob } = await import('./runJob.js');
  return runJob(command, args);
}
