import { createPrivateKey, type KeyObject } from 'node:crypto';
import { importPKCS8 } from 'jose';
import * as oidc from 'openid-client';

/** How the relying party proves to the provider who it is (OpenID Connect Core §9). */
export type ClientAuthMethod = 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt';

const EC_ALGORITHMS: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

/** Whether a PEM is a private key to sign with: RSA, EC on a NIST curve, or Ed25519. */
export const isSigningKey = (pem: string): boolean => signingKey(pem) !== null;

/**
 * The secret is asked for at each request, since it may be renewed meanwhile.
 * @throws TypeError when `clientKey` is no signing key, which the configuration has ruled out
 */
export async function clientAuthentication(method: ClientAuthMethod, credentials: { secret: () => string; clientKey?: string | undefined }): Promise<oidc.ClientAuth> {
  if (method === 'private_key_jwt') return oidc.PrivateKeyJwt(await importSigningKey(credentials.clientKey ?? ''));
  const withSecret = method === 'client_secret_post' ? oidc.ClientSecretPost : oidc.ClientSecretBasic;
  return (...request) => withSecret(credentials.secret())(...request);
}

/** A signing key as WebCrypto has it, whichever PEM it came in (PKCS #1, SEC 1 or PKCS #8). */
async function importSigningKey(pem: string): Promise<oidc.CryptoKey> {
  const found = signingKey(pem);
  if (found === null) throw new TypeError('the client key is no private key to sign with');
  return importPKCS8(found.key.export({ type: 'pkcs8', format: 'pem' }).toString(), found.algorithm);
}

/** A private key and what it signs with; null for anything else. */
export function signingKey(pem: string): { key: KeyObject; algorithm: string } | null {
  try {
    const key = createPrivateKey(pem);
    const algorithm = key.asymmetricKeyType === 'rsa' ? 'RS256'
      : key.asymmetricKeyType === 'ed25519' ? 'Ed25519'
        : EC_ALGORITHMS[key.asymmetricKeyDetails?.namedCurve ?? ''];
    return algorithm === undefined ? null : { key, algorithm };
  } catch {
    return null;
  }
}
