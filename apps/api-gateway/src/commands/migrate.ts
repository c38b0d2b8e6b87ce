import { databaseCommand } from '@session-gateway/database';

/** What `migrate` does to a database beside migrating it, each a word after it. */
const OTHERS: readonly string[] = ['adopt', 'check', 'grants'];

/** `migrate`, `migrate check` and the like; resolves with the exit code. */
export function migrate(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const isOther = OTHERS.includes(args[0] ?? '');
  return databaseCommand(isOther ? args : ['migrate', ...args], env);
}
