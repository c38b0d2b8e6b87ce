import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { startVault, type Vault } from '@session-gateway/testkit';
import { AuthError } from '../../errors.js';
import { type KeyProvider, keyProviderOf, loadKeyring } from './keyProvider.js';

const KEY = randomBytes(32).toString('base64url');
const JSON_KEYRING = JSON.stringify({ primary: 'k26a', keys: [{ kid: 'k26a', key: KEY }] });

let folder: string;
let file: string;
let vault: Vault;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'key-provider-'));
  vault = await startVault();
});
afterAll(async () => {
  await vault.dispose();
  await rm(folder, { recursive: true });
});
beforeEach(async () => {
  file = join(folder, `${randomBytes(4).toString('hex')}.json`);
  await writeFile(file, `${JSON_KEYRING}\n`);
});

const vaultEnv = (): Record<string, string> => ({
  SESSION_TOKEN_KEYRING_FILE: file,
  VAULT_ADDR: vault.url,
  VAULT_TOKEN: vault.token,
  VAULT_TRANSIT_KEY: vault.key,
});
function provider(env: Record<string, string | undefined>): KeyProvider {
  const problems: string[] = [];
  const found = keyProviderOf(env, problems);
  if (!found) throw new Error(`no provider: ${problems.join('; ')}`);
  return found;
}
/** `code: message` of a failure, which must hold no key and no Vault token. */
async function failure(doing: Promise<unknown>): Promise<string> {
  try {
    await doing;
    return 'it worked';
  } catch (error) {
    if (!(error instanceof AuthError)) throw error;
    const text = `${error.code}: ${error.message}`;
    expect(text).not.toContain(KEY);
    expect(text).not.toContain(vault.token);
    return text;
  }
}

describe('a keyring file', () => {
  test('is readable by its owner only when it is new, and as it was when it is replaced, as a whole', async () => {
    const fresh = join(folder, 'new.json');
    await provider({ SESSION_TOKEN_KEYRING_FILE: fresh }).save(JSON_KEYRING);
    expect((await stat(fresh)).mode & 0o777).toBe(0o600);
    await chmod(fresh, 0o640);
    await symlink(fresh, join(folder, 'link.json'));
    const linked = provider({ SESSION_TOKEN_KEYRING_FILE: join(folder, 'link.json') });
    const [before, other] = [await stat(fresh), JSON_KEYRING.replaceAll('k26a', 'k26b')];
    await linked.save(other);
    expect([await linked.load(), await readFile(fresh, 'utf8')]).toEqual([other, other]);
    const after = await stat(fresh);
    expect([after.mode & 0o777, after.uid, after.gid]).toEqual([0o640, before.uid, before.gid]);
    expect(after.ino).not.toBe(before.ino);
    expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('that cannot be read or written is named by its variable', async () => {
    const nowhere = provider({
      SESSION_TOKEN_KEYRING_FILE: join(folder, 'nowhere', 'keyring.json'),
    });
    expect(await failure(nowhere.load())).toBe(
      'key_provider_rejected: SESSION_TOKEN_KEYRING_FILE names a file that cannot be read',
    );
    expect(await failure(nowhere.save(JSON_KEYRING))).toBe(
      'key_provider_rejected: SESSION_TOKEN_KEYRING_FILE names a file that cannot be written',
    );
  });

  test('that is empty does not pass for no keyring, which would bring the key text back', async () => {
    await writeFile(file, '\n');
    const problems: string[] = [];
    await loadKeyring(
      { SESSION_TOKEN_KEYRING_FILE: file, SESSION_TOKEN_ENCRYPTION_KEY: 'x' },
      problems,
    );
    expect(problems).toEqual(['SESSION_TOKEN_KEYRING_FILE names an empty file']);
  });

  test('and a keyring in the variable itself exclude each other', () => {
    const problems: string[] = [];
    keyProviderOf(
      { SESSION_TOKEN_KEYRING_FILE: file, SESSION_TOKEN_KEYRING: JSON_KEYRING },
      problems,
    );
    expect(problems).toEqual([
      'SESSION_TOKEN_KEYRING and SESSION_TOKEN_KEYRING_FILE are both set: keep one of them',
    ]);
  });
});

test('a keyring in the variable itself can be read and not be written', async () => {
  const fixed = provider({ SESSION_TOKEN_KEYRING: JSON_KEYRING });
  expect(await fixed.load()).toBe(JSON_KEYRING);
  expect(await failure(fixed.save('{}'))).toContain(
    'put it into a file and name that in SESSION_TOKEN_KEYRING_FILE',
  );
});

describe('a keyring that Vault wraps', () => {
  test("lies in the file as Vault's ciphertext only, and comes back as it was", async () => {
    const wrapped = provider(vaultEnv());
    await wrapped.save(JSON_KEYRING);
    const stored = await readFile(file, 'utf8');
    expect(stored).toMatch(/^vault:v1:[A-Za-z0-9+/=]+\n$/);
    expect(Buffer.from(stored.slice(9), 'base64').toString('latin1')).not.toContain(KEY);
    expect(await wrapped.load()).toBe(JSON_KEYRING);
    expect(
      vault.requests.slice(-2).map(({ method, path, status }) => [method, path, status]),
    ).toEqual([
      ['POST', `/v1/transit/encrypt/${vault.key}`, 200],
      ['POST', `/v1/transit/decrypt/${vault.key}`, 200],
    ]);
    const problems: string[] = [];
    expect((await loadKeyring(vaultEnv(), problems))['SESSION_TOKEN_KEYRING']).toBe(JSON_KEYRING);
    expect(problems).toEqual([]);
  });

  test('may also stand in the variable', async () => {
    await provider(vaultEnv()).save(JSON_KEYRING);
    const inVariable = {
      ...vaultEnv(),
      SESSION_TOKEN_KEYRING_FILE: undefined,
      SESSION_TOKEN_KEYRING: (await readFile(file, 'utf8')).trim(),
    };
    expect(await provider(inVariable).load()).toBe(JSON_KEYRING);
  });

  test('outlives new versions of the outer key, until Vault forbids the old ones', async () => {
    const outer = await startVault();
    const wrapped = provider({ ...vaultEnv(), VAULT_ADDR: outer.url, VAULT_TOKEN: outer.token });
    await wrapped.save(JSON_KEYRING);
    outer.rotate();
    expect(await wrapped.load()).toBe(JSON_KEYRING);
    const old = await readFile(file, 'utf8');
    await wrapped.save(JSON_KEYRING);
    expect(await readFile(file, 'utf8')).toMatch(/^vault:v2:/);
    outer.forbidOldVersions();
    expect(await wrapped.load()).toBe(JSON_KEYRING);
    await writeFile(file, old);
    expect(await failure(wrapped.load())).toBe(
      'key_provider_rejected: Vault refuses to decrypt the keyring (VAULT_TRANSIT_KEY): it answered 400',
    );
    await outer.dispose();
  });

  test.each([
    [
      'a changed byte',
      (text: string) => text.replace(/.(?=.{20}\n$)/s, (letter) => (letter === 'A' ? 'B' : 'A')),
    ],
    ['a cut end', (text: string) => `${text.trim().slice(0, -8)}\n`],
    ['another version', (text: string) => text.replace('vault:v1:', 'vault:v9:')],
  ])('with %s does not open', async (_, tamper) => {
    const wrapped = provider(vaultEnv());
    await wrapped.save(JSON_KEYRING);
    const stored = await readFile(file, 'utf8');
    expect(tamper(stored)).not.toBe(stored);
    await writeFile(file, tamper(stored));
    expect(await failure(wrapped.load())).toBe(
      'key_provider_rejected: Vault refuses to decrypt the keyring (VAULT_TRANSIT_KEY): it answered 400',
    );
  });

  test('and one that nobody wrapped are not taken for each other', async () => {
    expect(await failure(provider(vaultEnv()).load())).toContain(
      'is not wrapped, although VAULT_TRANSIT_KEY is set',
    );
    await provider(vaultEnv()).save(JSON_KEYRING);
    expect(await failure(provider({ SESSION_TOKEN_KEYRING_FILE: file }).load())).toBe(
      'key_provider_rejected: SESSION_TOKEN_KEYRING is wrapped by Vault: set VAULT_TRANSIT_KEY, VAULT_ADDR and VAULT_TOKEN',
    );
  });

  test('is found in a namespace and under another mount', async () => {
    const elsewhere = await startVault({ mount: 'team/keys', namespace: 'platform/eu' });
    const env = { ...vaultEnv(), VAULT_ADDR: `${elsewhere.url}/`, VAULT_TOKEN: elsewhere.token };
    expect(await failure(provider(env).save(JSON_KEYRING))).toBe(
      'key_provider_rejected: Vault refuses to encrypt the keyring (VAULT_TRANSIT_KEY): it answered 404',
    );
    const wrapped = provider({
      ...env,
      VAULT_TRANSIT_MOUNT: 'team/keys',
      VAULT_NAMESPACE: 'platform/eu',
    });
    await wrapped.save(JSON_KEYRING);
    expect(await wrapped.load()).toBe(JSON_KEYRING);
    await elsewhere.dispose();
  });

  test("cannot be had with a token that may not, or with another key's name", async () => {
    await provider(vaultEnv()).save(JSON_KEYRING);
    expect(await failure(provider({ ...vaultEnv(), VAULT_TOKEN: 'hvs.another' }).load())).toBe(
      'key_provider_rejected: VAULT_TOKEN may not decrypt with the transit key that VAULT_TRANSIT_KEY names',
    );
    vault.permit(false);
    expect(await failure(provider(vaultEnv()).load())).toContain('VAULT_TOKEN may not decrypt');
    vault.permit(true);
    expect(
      await failure(
        provider({ ...vaultEnv(), VAULT_TRANSIT_KEY: 'nobody/../session-keyring' }).load(),
      ),
    ).toContain('it answered 400');
  });

  test('is out of reach, not refused, while Vault is sealed or gone; the token is read anew for each try', async () => {
    const tokenFile = join(folder, 'token');
    await writeFile(tokenFile, `${vault.token}\n`);
    const wrapped = provider({
      ...vaultEnv(),
      VAULT_TOKEN: undefined,
      VAULT_TOKEN_FILE: tokenFile,
    });
    await wrapped.save(JSON_KEYRING);
    vault.seal();
    expect(await failure(wrapped.load())).toBe(
      'key_provider_unavailable: Vault cannot serve just now (VAULT_ADDR): it answered 503',
    );
    vault.unseal();
    await vault.stop();
    expect(await failure(wrapped.load())).toBe(
      'key_provider_unavailable: Vault cannot be reached (VAULT_ADDR)',
    );
    await vault.start();
    await writeFile(tokenFile, 'hvs.expired');
    expect(await failure(wrapped.load())).toContain('VAULT_TOKEN may not decrypt');
    await writeFile(tokenFile, vault.token);
    expect(await wrapped.load()).toBe(JSON_KEYRING);
  });

  test('is given up on after a few seconds when Vault takes the request and says nothing', async () => {
    const wrapped = provider(vaultEnv());
    await wrapped.save(JSON_KEYRING);
    vault.hang(true);
    expect(await failure(wrapped.load())).toBe(
      'key_provider_unavailable: Vault cannot be reached (VAULT_ADDR)',
    );
    vault.hang(false);
  });

  test('needs its variables, all of which are named at once, and https in production', () => {
    const problems = (env: Record<string, string | undefined>): string[] => {
      const found: string[] = [];
      expect(
        keyProviderOf({ SESSION_TOKEN_KEYRING_FILE: file, VAULT_TRANSIT_KEY: 'k', ...env }, found),
      ).toBeNull();
      return found;
    };
    expect(problems({})).toEqual([
      'VAULT_ADDR must be the URL of Vault, without white space or control characters, as VAULT_TRANSIT_KEY is set',
      'VAULT_TOKEN or VAULT_TOKEN_FILE must hold a token, as VAULT_TRANSIT_KEY is set',
    ]);
    expect(problems({ VAULT_ADDR: 'ftp://vault', VAULT_TOKEN: 'two words' })).toHaveLength(2);
    expect(
      problems({ VAULT_ADDR: 'http://vault:8200', VAULT_TOKEN: 't', NODE_ENV: 'production' }),
    ).toEqual([expect.stringMatching(/^VAULT_ADDR uses http in production/)]);
    expect(
      keyProviderOf(
        {
          SESSION_TOKEN_KEYRING_FILE: file,
          VAULT_TRANSIT_KEY: 'k',
          VAULT_ADDR: 'http://vault:8200',
          VAULT_TOKEN: 't',
          NODE_ENV: 'production',
          ALLOW_INSECURE_HTTP: 'true',
        },
        [],
      ),
    ).not.toBeNull();
  });
});
