import { jobCommand } from '@session-gateway/migrations';

/** `encrypt-tokens` and `keys`; resolves with the exit code. */
export const runJobCommand: typeof jobCommand = (name, args) => jobCommand(name, args);
