import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createKeyring, isAuthError, type Keyring } from '@session-gateway/keycloak-auth';

/** What the job is told by its environment: the same variables as the gateway. */
export interface JobConfig {
  /** Undefined: the embedded database in `dataDir`. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  readonly keyring: Keyring;
  /** Keys that must not seal. */
  readonly decryptOnly: readonly string[];
}

/** All that is wrong, a line each: names of variables, never a value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws ConfigError with every problem at once */
export function readConfig(env: Environment): JobConfig {
  const problems: string[] = [];
  const production = env['NODE_ENV'] === 'production';
  const dataDir = env['DATA_DIR'] || '.data';

  const text = (name: string): string | undefined => {
    const [value, file] = [env[name], env[`${name}_FILE`]];
    if (value && file) problems.push(`${name} and ${name}_FILE are both set: keep one of them`);
    if (value || !file) return value || undefined;
    try {
      const content = readFileSync(file, 'utf8').replace(/\r?\n$/, '');
      if (content === '') problems.push(`${name}_FILE names an empty file`);
      return content || undefined;
    } catch {
      problems.push(`${name}_FILE names a file that cannot be read`);
      return undefined;
    }
  };

  const databaseUrl = text('DATABASE_URL');
  if (databaseUrl !== undefined && !(/^postgres(ql)?:\/\/./.test(databaseUrl) && URL.canParse(databaseUrl))) problems.push('DATABASE_URL is not a URL of the form postgresql://…');
  if (databaseUrl === undefined && production && problems.length === 0) problems.push('DATABASE_URL must be set in production: the embedded database is for development');

  const before = problems.length;
  const generated = join(dataDir, 'session-token-encryption.key');
  const keyringJson = text('SESSION_TOKEN_KEYRING');
  let keyText = text('SESSION_TOKEN_ENCRYPTION_KEY');
  if (keyText === undefined && keyringJson === undefined && problems.length === before) {
    keyText = production ? undefined : generatedKey(generated);
    if (keyText === undefined) problems.push('SESSION_TOKEN_ENCRYPTION_KEY or SESSION_TOKEN_KEYRING must be set: the keys that the gateway uses');
  }
  const keyring = problems.length > before ? undefined : keyringOf(keyText, keyringJson, problems);
  if (problems.length > 0 || !keyring) throw new ConfigError(problems);
  return { databaseUrl, dataDir, keyring, decryptOnly: decryptOnlyOf(keyringJson) };
}

function keyringOf(keyText: string | undefined, keyringJson: string | undefined, problems: string[]): Keyring | undefined {
  const attempt = (name: string, source: Parameters<typeof createKeyring>[0]): Keyring | undefined => {
    try {
      return createKeyring(source);
    } catch (error) {
      if (!isAuthError(error, 'keyring_invalid')) throw error;
      problems.push(`${name}: ${error.message}`);
      return undefined;
    }
  };
  const ofText = keyText === undefined ? undefined : attempt('SESSION_TOKEN_ENCRYPTION_KEY', { keyText });
  if (keyringJson === undefined) return ofText;
  // A key text that is refused already is left out, so that the keyring's own faults come to light too.
  return attempt('SESSION_TOKEN_KEYRING', { keyText: ofText && keyText, keyringJson });
}

/** Of a keyring that has been accepted. */
function decryptOnlyOf(keyringJson: string | undefined): string[] {
  if (keyringJson === undefined) return [];
  const { keys } = JSON.parse(keyringJson) as { keys: { kid: string; status?: string }[] };
  return keys.filter(({ status }) => status === 'decrypt-only').map(({ kid }) => kid);
}

/** The key that a gateway without configuration has made for itself. */
function generatedKey(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}
