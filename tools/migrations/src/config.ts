import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseUrl } from '@session-gateway/database';
import { ConfigError, type Environment, type Keyring, readKeyring, readSecret } from '@session-gateway/keycloak-auth';

/** What the job is told by its environment: the same variables as the gateway. */
export interface JobConfig {
  /** Undefined: the embedded database in `dataDir`. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  readonly keyring: Keyring;
}

/** Where the database is. `problems` gets what is wrong. */
export function readDatabaseConfig(env: Environment, problems: string[]): Pick<JobConfig, 'databaseUrl' | 'dataDir'> {
  const before = problems.length;
  const databaseUrl = readSecret(env, 'DATABASE_URL', problems);
  if (databaseUrl !== undefined && !(/^postgres(ql)?:\/\/./.test(databaseUrl) && parseUrl(databaseUrl))) problems.push('DATABASE_URL is not a URL of the form postgresql://…, without white space or control characters');
  if (databaseUrl === undefined && env['NODE_ENV'] === 'production' && problems.length === before) problems.push('DATABASE_URL must be set in production: the embedded database is for development');
  return { databaseUrl, dataDir: env['DATA_DIR'] || '.data' };
}

/** `problems`: what is known to be wrong already with the keyring, which is then left out of `env`. @throws ConfigError with every problem at once */
export function readConfig(env: Environment, problems: string[] = []): JobConfig {
  const keyringRefused = problems.length > 0;
  const production = env['NODE_ENV'] === 'production';
  const { databaseUrl, dataDir } = readDatabaseConfig(env, problems);
  const before = problems.length;
  // The key that a gateway without configuration has made for itself.
  const generated = join(dataDir, 'session-token-encryption.key');
  const generatedText = !production && existsSync(generated) ? readFileSync(generated, 'utf8').trim() || undefined : undefined;
  const keyring = readKeyring(env, problems, generatedText);
  if (!keyring && !keyringRefused && problems.length === before) problems.push('SESSION_TOKEN_ENCRYPTION_KEY or SESSION_TOKEN_KEYRING must be set: the keys that the gateway uses');
  if (problems.length > 0 || !keyring) throw new ConfigError(problems);
  return { databaseUrl, dataDir, keyring };
}
