import { AuthError } from '../../errors.js';

export interface VaultTransitOptions {
  address: string;
  token: () => string;
  /** The name of the transit key. */
  key: string;
  mount: string;
  namespace: string | undefined;
}

const TIMEOUT_MS = 5_000;
/** Of an answer: the keyring of a hundred keys is ten times smaller. */
const MAX_ANSWER_CHARACTERS = 1_000_000;

/**
 * Vault's transit engine: `POST /v1/<mount>/encrypt/<key>` and `…/decrypt/<key>` (HashiCorp Vault API, secret/transit).
 */
export function vaultTransit(options: VaultTransitOptions): {
  encrypt(text: string): Promise<string>;
  decrypt(wrapped: string): Promise<string>;
} {
  const call = async (
    operation: 'encrypt' | 'decrypt',
    body: object,
  ): Promise<Record<string, unknown>> => {
    const url = new URL(
      `v1/${options.mount}/${operation}/${encodeURIComponent(options.key)}`,
      options.address.replace(/\/*$/, '/'),
    );
    const { status, text } = await fetch(url, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'X-Vault-Token': options.token(),
        'X-Vault-Request': 'true',
        ...(options.namespace ? { 'X-Vault-Namespace': options.namespace } : {}),
      },
      body: JSON.stringify(body),
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
      .then(async (answer) => ({ status: answer.status, text: await answer.text() }))
      .catch((error: unknown) => {
        throw new AuthError('key_provider_unavailable', 'Vault cannot be reached (VAULT_ADDR)', {
          cause: error,
        });
      });
    // 412, 429, 472, 473 and all of 5xx: sealed, standby, or busy.
    if (status === 412 || status === 429 || status === 472 || status === 473 || status >= 500)
      throw new AuthError(
        'key_provider_unavailable',
        `Vault cannot serve just now (VAULT_ADDR): it answered ${status}`,
      );
    if (status === 403)
      throw new AuthError(
        'key_provider_rejected',
        `VAULT_TOKEN may not ${operation} with the transit key that VAULT_TRANSIT_KEY names`,
      );
    if (status !== 200)
      throw new AuthError(
        'key_provider_rejected',
        `Vault refuses to ${operation} the keyring (VAULT_TRANSIT_KEY): it answered ${status}`,
      );
    const given: unknown = text.length > MAX_ANSWER_CHARACTERS ? null : parsed(text);
    if (
      typeof given !== 'object' ||
      given === null ||
      typeof (given as { data?: unknown }).data !== 'object'
    )
      throw new AuthError('key_provider_rejected', 'VAULT_ADDR does not answer as Vault does');
    return (given as { data: Record<string, unknown> | null }).data ?? {};
  };
  return {
    async encrypt(text) {
      const { ciphertext } = await call('encrypt', {
        plaintext: Buffer.from(text, 'utf8').toString('base64'),
      });
      if (typeof ciphertext !== 'string' || !ciphertext.startsWith('vault:v'))
        throw new AuthError('key_provider_rejected', 'VAULT_ADDR does not answer as Vault does');
      return ciphertext;
    },
    async decrypt(wrapped) {
      const { plaintext } = await call('decrypt', { ciphertext: wrapped });
      if (typeof plaintext !== 'string')
        throw new AuthError('key_provider_rejected', 'VAULT_ADDR does not answer as Vault does');
      return Buffer.from(plaintext, 'base64').toString('utf8');
    },
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
