import { readFileSync } from 'node:fs';
import { isAuthError } from './errors.js';
import { createKeyring, type Keyring } from './services/encryption/keyring.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** All that is wrong with a configuration, a line each: names of variables and what to do, never a value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

/** The value of NAME, or the content of the file that NAME_FILE names; empty is unset. What is wrong goes to `problems`. */
export function readSecret(env: Environment, name: string, problems: string[]): string | undefined {
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
}

/**
 * The keys that the environment names (`SESSION_TOKEN_ENCRYPTION_KEY`, `SESSION_TOKEN_KEYRING`), or `generatedText`'s
 * where it names none; undefined when there is none at all, or something is wrong with them, which `problems` then tells.
 */
export function readKeyring(env: Environment, problems: string[], generatedText?: string): Keyring | undefined {
  const before = problems.length;
  const named = { keyText: readSecret(env, 'SESSION_TOKEN_ENCRYPTION_KEY', problems), keyringJson: readSecret(env, 'SESSION_TOKEN_KEYRING', problems) };
  if (problems.length > before) return undefined;
  const keyText = named.keyText ?? (named.keyringJson === undefined ? generatedText : undefined);
  // Each on its own, so that a fault is put down to the variable that has it.
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
  if (named.keyringJson === undefined) return ofText;
  // A key text that is refused already is left out, so that the keyring's own faults come to light too.
  const ring = attempt('SESSION_TOKEN_KEYRING', { keyText: ofText && keyText, keyringJson: named.keyringJson });
  return problems.length > before ? undefined : ring;
}
