// eslint-disable-next-line no-restricted-imports -- it stands in for a server that encrypts
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { readBody, startServer, type TestServer } from './httpServer.js';

export interface VaultOptions {
  /** Where the transit engine is mounted; default `transit`. */
  mount?: string;
  /** Only there is it mounted (`X-Vault-Namespace`). */
  namespace?: string;
}

/** One request, without its token. */
export interface VaultRequest {
  method: string;
  path: string;
  namespace: string | undefined;
  status: number;
}

export interface Vault extends TestServer {
  /** May encrypt and decrypt with `key`. */
  readonly token: string;
  /** The name of the one transit key. */
  readonly key: string;
  readonly requests: readonly VaultRequest[];
  /** A new version of the transit key: older ones decrypt, the newest encrypts. */
  rotate(): void;
  /** `min_decryption_version` is the newest version from now on. */
  forbidOldVersions(): void;
  /** Takes the token's rights away, or gives them back. */
  permit(allowed: boolean): void;
  seal(): void;
  unseal(): void;
  /** Takes requests and answers none, until this is ended. */
  hang(hanging: boolean): void;
  dispose(): Promise<void>;
}

type Answer = { status: number; body: object };
const errors = (status: number, ...lines: string[]): Answer => ({
  status,
  body: { errors: lines },
});

/**
 * HashiCorp Vault's transit engine as its HTTP API describes it (secret/transit): `encrypt`, `decrypt` and
 * `rotate` with versions of one AES-256-GCM key, and the answers of a Vault that is sealed, does not know the
 * token, or has no such mount or key.
 */
export async function startVault(options: VaultOptions = {}): Promise<Vault> {
  const { mount = 'transit', namespace } = options;
  const [token, key] = [`hvs.${randomBytes(18).toString('base64url')}`, 'session-keyring'];
  const versions = [randomBytes(32)];
  const state = { oldest: 1, sealed: false, permitted: true, hanging: false };
  const requests: VaultRequest[] = [];

  const encrypt = (plaintext: string): Answer => {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', versions.at(-1) ?? Buffer.alloc(0), nonce);
    const bytes = Buffer.concat([
      nonce,
      cipher.update(Buffer.from(plaintext, 'base64')),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    return found({
      ciphertext: `vault:v${versions.length}:${bytes.toString('base64')}`,
      key_version: versions.length,
    });
  };
  const decrypt = (ciphertext: string): Answer => {
    const [, version, encoded] = /^vault:v(\d+):(.*)$/.exec(ciphertext) ?? [];
    if (version === undefined || encoded === undefined)
      return errors(400, 'invalid ciphertext: no prefix');
    const secret = versions[Number(version) - 1];
    if (!secret) return errors(400, 'invalid ciphertext: version is too new');
    if (Number(version) < state.oldest)
      return errors(400, 'ciphertext or signature version is disallowed by policy (too old)');
    const bytes = Buffer.from(encoded, 'base64');
    if (bytes.length < 28) return errors(400, 'invalid ciphertext: wrong length');
    try {
      const decipher = createDecipheriv('aes-256-gcm', secret, bytes.subarray(0, 12), {
        authTagLength: 16,
      });
      decipher.setAuthTag(bytes.subarray(-16));
      return found({
        plaintext: Buffer.concat([
          decipher.update(bytes.subarray(12, -16)),
          decipher.final(),
        ]).toString('base64'),
      });
    } catch {
      return errors(400, 'cipher: message authentication failed');
    }
  };
  const answer = (request: IncomingMessage, body: string): Answer => {
    if (state.sealed) return errors(503, 'Vault is sealed');
    if (request.headers['x-vault-request'] !== 'true')
      return errors(412, "missing 'X-Vault-Request' header");
    if (request.headers['x-vault-token'] !== token)
      return errors(403, '2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n');
    const route = `/v1/${mount}/`;
    const path = request.url ?? '';
    if (
      !path.startsWith(route) ||
      (request.headers['x-vault-namespace'] as string | undefined) !== namespace
    )
      return errors(404, `no handler for route "${path.slice(4)}". route entry not found.`);
    if (!state.permitted) return errors(403, '1 error occurred:\n\t* permission denied\n\n');
    if (request.method !== 'POST' && request.method !== 'PUT')
      return errors(405, '1 error occurred:\n\t* unsupported operation\n\n');
    const [operation = '', name] = path.slice(route.length).split('/');
    if (path === `${route}keys/${key}/rotate`) {
      versions.push(randomBytes(32));
      return found({ name: key, latest_version: versions.length });
    }
    if (name !== key) return errors(400, 'encryption key not found');
    const { plaintext, ciphertext } = JSON.parse(body) as {
      plaintext?: string;
      ciphertext?: string;
    };
    if (operation === 'encrypt' && plaintext !== undefined) return encrypt(plaintext);
    if (operation === 'decrypt' && ciphertext !== undefined) return decrypt(ciphertext);
    return errors(
      400,
      `missing ${operation === 'encrypt' ? 'plaintext' : 'ciphertext'} to ${operation}`,
    );
  };

  const server = await startServer(async (request, response) => {
    const { status, body } = answer(request, await readBody(request));
    if (state.hanging) return;
    requests.push({
      method: request.method ?? '',
      path: request.url ?? '',
      namespace: request.headers['x-vault-namespace'] as string | undefined,
      status,
    });
    response
      .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
      .end(JSON.stringify(body));
  });
  return {
    ...server,
    token,
    key,
    requests,
    rotate: () => void versions.push(randomBytes(32)),
    forbidOldVersions() {
      state.oldest = versions.length;
    },
    permit(allowed) {
      state.permitted = allowed;
    },
    seal() {
      state.sealed = true;
    },
    unseal() {
      state.sealed = false;
    },
    hang(hanging) {
      state.hanging = hanging;
    },
    dispose: server.stop,
  };
}

const found = (body: object): Answer => ({
  status: 200,
  body: {
    request_id: randomUUID(),
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data: body,
    wrap_info: null,
    warnings: null,
    auth: null,
  },
});
