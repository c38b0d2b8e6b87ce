import { readFileSync } from 'node:fs';
import { isAuthError } from './errors.js';
import { createKeyring, type Keyring } from './services/encryption/keyring.js';

declare const SESSION_GATEWAY_PACKAGED: boolean | undefined;
/** Whether this is the packaged program, which has no embedded parts: what they stand in for must be set. */
export const PACKAGED: boolean =
  typeof SESSION_GATEWAY_PACKAGED === 'boolean' && SESSION_GATEWAY_PACKAGED;

export type Environment = Readonly<Record<string, string | undefined>>;

/** All that is wrong with a configuration, a line each: names of variables and what to do, never a value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

/**
 * The value of NAME, or the content of the file that NAME_FILE names; empty is unset. What is wrong goes to `problems`.
 */
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

/** Fingerprints of keys that anybody can look up here; a test keeps both lists complete. */
const PUBLISHED = {
  /** Shown by README.md and docs: never a key. */
  documents: new Set([
    '05ebf031422090d37fdb7eff2b98fc06',
    '6b8a9df97040792379bdf22d507ce3bb',
    'a604c0e8fa05ea12022ba9c8cb877862',
    'b1ea5ae87aa40e30368e903f6a796e1a',
  ]),
  /** Of test vectors, which other implementations use as well: no keys for production. */
  vectors: new Set([
    '71923337a433ab0a4a6c123211698e07',
    'bb2ed20ddec706acc165fbbda4dace83',
    'ea2043b7a889998b40be5f7a156983c2',
  ]),
};
const MIN_DISTINCT_CHARACTERS = 8;

/**
 * The keys that the environment names (`SESSION_TOKEN_ENCRYPTION_KEY`, `SESSION_TOKEN_KEYRING`), or `generatedText`'s
 * where it names none; undefined when there is none at all, or something is wrong with them,
 * which `problems` then tells.
 */
export function readKeyring(
  env: Environment,
  problems: string[],
  generatedText?: string,
): Keyring | undefined {
  const before = problems.length;
  const named = {
    keyText: readSecret(env, 'SESSION_TOKEN_ENCRYPTION_KEY', problems),
    keyringJson: readSecret(env, 'SESSION_TOKEN_KEYRING', problems),
  };
  if (problems.length > before) return undefined;
  const keyText = named.keyText ?? (named.keyringJson === undefined ? generatedText : undefined);
  // Each on its own, so that a fault is put down to the variable that has it.
  const attempt = (
    name: string,
    source: Parameters<typeof createKeyring>[0],
  ): Keyring | undefined => {
    try {
      const ring = createKeyring(source);
      for (const kid of ring.kids)
        if (isPublished(ring.fingerprint(kid) ?? '', env))
          problems.push(
            `${name}: the key ${kid} stands in public documentation: make one of your own`,
          );
      return ring;
    } catch (error) {
      if (!isAuthError(error, 'keyring_invalid')) throw error;
      problems.push(`${name}: ${error.message}`);
      return undefined;
    }
  };
  const ofText =
    keyText === undefined ? undefined : attempt('SESSION_TOKEN_ENCRYPTION_KEY', { keyText });
  if (ofText && new Set(keyText).size < MIN_DISTINCT_CHARACTERS)
    problems.push(
      'SESSION_TOKEN_ENCRYPTION_KEY: the key text is no secret, it repeats a few characters: make one with `openssl rand -base64 48`',
    );
  if (named.keyringJson === undefined) return ofText;
  // A key text that is refused already is left out, so that the keyring's own faults come to light too.
  const ring = attempt('SESSION_TOKEN_KEYRING', {
    keyText: ofText && keyText,
    keyringJson: named.keyringJson,
  });
  return problems.length > before ? undefined : ring;
}

const isPublished = (fingerprint: string, env: Environment): boolean =>
  PUBLISHED.documents.has(fingerprint) ||
  (env['NODE_ENV'] === 'production' && PUBLISHED.vectors.has(fingerprint));
