import { randomUUID } from 'node:crypto';
import { open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseUrl } from '@session-gateway/database';
import { type Environment, readSecret } from '../../config.js';
import { AuthError, isAuthError } from '../../errors.js';
import { vaultTransit } from './vaultTransit.js';

/** Where the keyring lies: what it gives and takes is the keyring's JSON in the clear. */
export interface KeyProvider {
  /** @throws AuthError `key_provider_rejected`, `key_provider_unavailable` */
  load(): Promise<string>;
  /**
   * Replaces the keyring as a whole: a reader sees the old one or the new one.
   * @throws AuthError `key_provider_rejected`, `key_provider_unavailable`
   */
  save(json: string): Promise<void>;
}

/** What Vault's transit engine gives. */
export const WRAPPED = /^vault:v\d+:/;

/**
 * The provider that the environment names, or null when it names no keyring. With `VAULT_TRANSIT_KEY` what lies in
 * `SESSION_TOKEN_KEYRING` or its file is wrapped as a whole by Vault, so that a new outer key touches no stored token.
 */
export function keyProviderOf(env: Environment, problems: string[]): KeyProvider | null {
  const { SESSION_TOKEN_KEYRING: value, SESSION_TOKEN_KEYRING_FILE: file } = env;
  if (value && file)
    problems.push(
      'SESSION_TOKEN_KEYRING and SESSION_TOKEN_KEYRING_FILE are both set: keep one of them',
    );
  const given = value ? valueProvider(value) : null;
  const stored = file ? fileProvider(file) : given;
  const transitKey = env['VAULT_TRANSIT_KEY'];
  if (!transitKey) return stored && unwrapped(stored);
  const before = problems.length;
  const address = env['VAULT_ADDR'] ?? '';
  const protocol = parseUrl(address)?.protocol;
  if (protocol !== 'https:' && protocol !== 'http:')
    problems.push(
      'VAULT_ADDR must be the URL of Vault, without white space or control characters, as VAULT_TRANSIT_KEY is set',
    );
  if (
    protocol === 'http:' &&
    env['NODE_ENV'] === 'production' &&
    env['ALLOW_INSECURE_HTTP'] !== 'true'
  )
    problems.push(
      'VAULT_ADDR uses http in production: use https, or set ALLOW_INSECURE_HTTP=true where something between ends TLS',
    );
  // A token that is renewed is read anew each time.
  const token = (): string => readSecret(env, 'VAULT_TOKEN', []) ?? '';
  if (!/^[\x21-\x7e]+$/.test(token()))
    problems.push('VAULT_TOKEN or VAULT_TOKEN_FILE must hold a token, as VAULT_TRANSIT_KEY is set');
  if (!stored || problems.length > before) return null;
  const transit = vaultTransit({
    address,
    token,
    key: transitKey,
    mount: env['VAULT_TRANSIT_MOUNT'] || 'transit',
    namespace: env['VAULT_NAMESPACE'],
  });
  return {
    async load() {
      const wrapped = (await stored.load()).trim();
      if (!WRAPPED.test(wrapped))
        throw new AuthError(
          'key_provider_rejected',
          'SESSION_TOKEN_KEYRING is not wrapped, although VAULT_TRANSIT_KEY is set: wrap it with `nx run migrations:keys -- rewrap`',
        );
      return transit.decrypt(wrapped);
    },
    save: async (json) => stored.save(`${await transit.encrypt(json)}\n`),
  };
}

/** The keyring in a file, replaced by renaming; who may read it stays as it is, and is its owner only at first. */
export function fileProvider(path: string): KeyProvider {
  return {
    load: () =>
      readFile(path, 'utf8').catch((error: unknown) => {
        throw new AuthError(
          'key_provider_rejected',
          'SESSION_TOKEN_KEYRING_FILE names a file that cannot be read',
          { cause: error },
        );
      }),
    async save(json) {
      // Where the path is a link, what it leads to is replaced.
      const target = await realpath(path).catch(() => path);
      const next = join(dirname(target), `.${randomUUID()}`);
      try {
        const before = await stat(target).catch(() => null);
        const handle = await open(next, 'wx', 0o600);
        try {
          if (before) {
            // Or a gateway that runs as another user could not read its keys any more.
            await handle.chown(before.uid, before.gid);
            await handle.chmod(before.mode & 0o777);
          }
          await handle.writeFile(json);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await rename(next, target);
      } catch (error) {
        await rm(next, { force: true });
        throw new AuthError(
          'key_provider_rejected',
          'SESSION_TOKEN_KEYRING_FILE names a file that cannot be written',
          { cause: error },
        );
      }
    },
  };
}

const valueProvider = (value: string): KeyProvider => ({
  load: async () => value,
  async save() {
    throw new AuthError(
      'key_provider_rejected',
      'SESSION_TOKEN_KEYRING holds the keyring itself: put it into a file and name that in SESSION_TOKEN_KEYRING_FILE',
    );
  },
});

const unwrapped = (stored: KeyProvider): KeyProvider => ({
  async load() {
    const json = await stored.load();
    if (WRAPPED.test(json.trim()))
      throw new AuthError(
        'key_provider_rejected',
        'SESSION_TOKEN_KEYRING is wrapped by Vault: set VAULT_TRANSIT_KEY, VAULT_ADDR and VAULT_TOKEN',
      );
    return json;
  },
  save: (json) => stored.save(json),
});

/**
 * The environment with its keyring read, and unwrapped where it is wrapped.
 * @throws AuthError `key_provider_unavailable`
 */
export async function loadKeyring(env: Environment, problems: string[]): Promise<Environment> {
  // Two sources are a mistake that is told where the others are.
  if (env['SESSION_TOKEN_KEYRING'] && env['SESSION_TOKEN_KEYRING_FILE']) return env;
  const before = problems.length;
  try {
    const json = await keyProviderOf(env, problems)?.load();
    // An empty text would pass for no keyring at all, and the key text would take its place.
    if (json?.trim() === '')
      throw new AuthError(
        'key_provider_rejected',
        'SESSION_TOKEN_KEYRING_FILE names an empty file',
      );
    if (json !== undefined)
      return { ...env, SESSION_TOKEN_KEYRING: json, SESSION_TOKEN_KEYRING_FILE: undefined };
  } catch (error) {
    if (!isAuthError(error, 'key_provider_rejected')) throw error;
    problems.push(error.message);
  }
  // What is wrong has been told; nobody should read a second fault out of it.
  return problems.length > before
    ? { ...env, SESSION_TOKEN_KEYRING: undefined, SESSION_TOKEN_KEYRING_FILE: undefined }
    : env;
}
