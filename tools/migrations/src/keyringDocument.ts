import { randomBytes } from 'node:crypto';
import {
  ConfigError,
  createKeyring,
  type Environment,
  type KeyProvider,
  keyProviderOf,
  type Keyring,
} from '@session-gateway/keycloak-auth';
import { UsageError } from './options.js';

/** A step that would make values unreadable, or that makes no sense; nothing was changed. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

/** A keyring as it is written down. */
export interface KeyringDocument {
  primary: string;
  keys: KeyEntry[];
}
export interface KeyEntry {
  kid: string;
  key: string;
  status?: 'active' | 'decrypt-only';
}

export const spell = (document: KeyringDocument): string =>
  `${JSON.stringify(document, null, 2)}\n`;
export const keyringOf = (document: KeyringDocument): Keyring =>
  createKeyring({ keyringJson: spell(document) });

/** @throws ConfigError when the environment names no keyring, or something is wrong with how it does */
export function keyringProvider(env: Environment): KeyProvider {
  const problems: string[] = [];
  const provider = keyProviderOf(env, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  if (!provider)
    throw new ConfigError([
      'SESSION_TOKEN_KEYRING_FILE must name the file that holds the keyring: make one with `nx run migrations:keys -- generate --out <file>`',
    ]);
  return provider;
}

/** @throws AuthError `keyring_invalid`, and whatever the provider throws */
export async function readKeyringDocument(provider: KeyProvider): Promise<KeyringDocument> {
  const keyringJson = await provider.load();
  createKeyring({ keyringJson });
  return JSON.parse(keyringJson) as KeyringDocument;
}

/** A key that is new in its id too: k, the year, and the next free letter. */
export function newKey(wanted: string | undefined, taken: readonly string[]): KeyEntry {
  if (wanted !== undefined && !/^[a-z0-9]{1,16}$/.test(wanted))
    throw new UsageError('--kid must be 1 to 16 characters a-z and 0-9');
  if (wanted === 'plain')
    throw new UsageError('--kid must not be plain, which means plaintext to encrypt-tokens');
  if (wanted !== undefined && taken.includes(wanted))
    throw new RefusedError(`there is, or was, a key ${wanted} already: an id is used once`);
  const year = String(new Date().getUTCFullYear()).slice(2);
  const free =
    Array.from('abcdefghijklmnopqrstuvwxyz')
      .map((letter) => `k${year}${letter}`)
      .find((kid) => !taken.includes(kid)) ?? `k${randomBytes(4).toString('hex')}`;
  return { kid: wanted ?? free, key: randomBytes(32).toString('base64url') };
}
