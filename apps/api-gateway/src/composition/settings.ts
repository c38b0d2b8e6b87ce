import process from 'node:process';
import { type Config, readConfig } from '../settings/config.js';
import { loadKeyringAtStart } from '../settings/keys.js';

/** The settings of the environment. @throws ConfigError with every problem at once */
export async function readSettings(env: NodeJS.ProcessEnv): Promise<Config> {
  const problems: string[] = [];
  const withKeyring = await loadKeyringAtStart(env, problems, (line) =>
    process.stderr.write(`session-gateway: ${line}\n`),
  );
  return readConfig(withKeyring, problems);
}
