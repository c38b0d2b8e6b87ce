import { createPublicKey } from 'node:crypto';
import { calculateJwkThumbprint, importPKCS8, type JWK } from 'jose';
import * as oidc from 'openid-client';
import { chooseAlgorithm, signingKey } from './signingKey.js';

/** How the relying party proves to the provider who it is (OpenID Connect Core §9). */
export type ClientAuthMethod = 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt';

export interface ClientCredentials {
  /** Asked for at each request, since it may be renewed meanwhile. */
  secret: () => string;
  /** PEM, for `private_key_jwt`. */
  clientKey?: string | undefined;
  /** `kid` of client assertions; default: the key's JWK SHA-256 thumbprint (RFC 7638). */
  keyId?: string | undefined;
  /** `alg` of client assertions, where the key can sign so. */
  algorithm?: string | undefined;
}

/** What a client assertion says of its key. */
export interface AssertionKey {
  readonly kid: string;
  readonly algorithm: string;
}

/**
 * How the client's key is named and what it signs with at a provider that lists `supported`
 * (`token_endpoint_auth_signing_alg_values_supported`); null where there is no key to sign with.
 */
export async function assertionKey(
  { clientKey, keyId, algorithm: wanted }: Omit<ClientCredentials, 'secret'>,
  supported?: readonly string[],
): Promise<AssertionKey | null> {
  const found = signingKey(clientKey ?? '');
  if (found === null) return null;
  const publicJwk = createPublicKey(found.key).export({ format: 'jwk' }) as JWK;
  return {
    kid: keyId ?? (await calculateJwkThumbprint(publicJwk)),
    algorithm: chooseAlgorithm(found, { wanted, supported }),
  };
}

/** @throws TypeError when `clientKey` is no signing key, which the configuration has ruled out */
export async function clientAuthentication(
  method: ClientAuthMethod,
  credentials: ClientCredentials,
  supported?: readonly string[],
): Promise<oidc.ClientAuth> {
  if (method === 'private_key_jwt') return withAssertion(credentials, supported);
  const withSecret =
    method === 'client_secret_post' ? oidc.ClientSecretPost : oidc.ClientSecretBasic;
  return (...request) => withSecret(credentials.secret())(...request);
}

async function withAssertion(
  credentials: ClientCredentials,
  supported?: readonly string[],
): Promise<oidc.ClientAuth> {
  const found = signingKey(credentials.clientKey ?? '');
  const named = await assertionKey(credentials, supported);
  if (found === null || named === null)
    throw new TypeError('the client key is no private key to sign with');
  const { kid, algorithm } = named;
  const pkcs8 = found.key.export({ type: 'pkcs8', format: 'pem' }).toString();
  const key = await importPKCS8(pkcs8, algorithm);
  return oidc.PrivateKeyJwt(
    { key, kid },
    {
      // The library knows Ed25519 by its new name only.
      [oidc.modifyAssertion]: (header) => {
        header['alg'] = algorithm;
      },
    },
  );
}
