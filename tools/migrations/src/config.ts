import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDatabaseUrl } from '@session-gateway/database';
import {
  ConfigError,
  type Environment,
  type Keyring,
  PACKAGED,
  readKeyring,
  readSecret,
} from '@session-gateway/keycloak-auth';

/** Where the database is. */
export interface DatabaseConfig {
  /** Undefined: the embedded database in `dataDir`. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  /** Whether the environment says that no pooler is in between. */
  readonly isDirect: boolean;
}

/** What the job is told by its environment: the same variables as the gateway. */
export interface JobConfig extends DatabaseConfig {
  readonly keyring: Keyring;
}

const hasNoEmbedded = (env: Environment): boolean => PACKAGED || env['NODE_ENV'] === 'production';

/** Where the database is. `problems` gets what is wrong. */
export function readDatabaseConfig(env: Environment, problems: string[]): DatabaseConfig {
  const before = problems.length;
  const pooled = readSecret(env, 'DATABASE_URL', problems);
  const direct = readSecret(env, 'DIRECT_DATABASE_URL', problems);
  for (const [name, url] of Object.entries({ DATABASE_URL: pooled, DIRECT_DATABASE_URL: direct })) {
    try {
      if (url !== undefined) parseDatabaseUrl(url, env);
    } catch (error) {
      problems.push(`${name} ${(error as Error).message}`);
    }
  }
  // Its locks are those of a connection, which a pooler shares between clients.
  const databaseUrl = direct ?? pooled;
  if (databaseUrl === undefined && hasNoEmbedded(env) && problems.length === before)
    problems.push(
      PACKAGED
        ? 'DATABASE_URL must be set: this program has no embedded database'
        : 'DATABASE_URL must be set in production: the embedded database is for development',
    );
  return { databaseUrl, dataDir: env['DATA_DIR'] || '.data', isDirect: direct !== undefined };
}

/**
 * `problems`: what is known to be wrong already with the keyring, which is then left out of `env`.
 * @throws ConfigError with every problem at once
 */
export function readConfig(env: Environment, problems: string[] = []): JobConfig {
  const keyringRefused = problems.length > 0;
  const { databaseUrl, dataDir, isDirect } = readDatabaseConfig(env, problems);
  const before = problems.length;
  // The key that a gateway without configuration has made for itself.
  const generated = join(dataDir, 'session-token-encryption.key');
  const generatedText =
    !hasNoEmbedded(env) && existsSync(generated)
      ? readFileSync(generated, 'utf8').trim() || undefined
      : undefined;
  const keyring = readKeyring(env, problems, generatedText);
  if (!keyring && !keyringRefused && problems.length === before)
    problems.push(
      'SESSION_TOKEN_ENCRYPTION_KEY or SESSION_TOKEN_KEYRING must be set: the keys that the gateway uses',
    );
  if (problems.length > 0 || !keyring) throw new ConfigError(problems);
  return { databaseUrl, dataDir, isDirect, keyring };
}
