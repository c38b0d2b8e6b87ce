import * as oidc from 'openid-client';
import { AuthError } from '../errors.js';
import { clientAuthentication } from './clientAuthentication.js';
import type { KeycloakClientOptions } from './clientOptions.js';
import type { DpopKeys } from './dpop.js';
import { record } from './identity.js';
import { CLOCK_TOLERANCE_SECONDS } from './jwtFaults.js';
import { providerFault } from './providerFaults.js';
import type { ProviderFetch } from './providerFetch.js';

export const METADATA_UNREADABLE = "the provider's metadata cannot be read";
const TIMEOUT_SECONDS = 5;
const MAX_ISSUER_LENGTH = 300;

/**
 * Reads the realm's metadata and chooses how the client speaks to it. The issuer that the metadata names is compared as
 * it is written (OpenID Connect Discovery §4.3): a slash more is another issuer, as it is in tokens.
 */
export async function discover(
  options: KeycloakClientOptions,
  send: ProviderFetch,
  secret: () => string,
): Promise<{ config: oidc.Configuration; authenticate: oidc.ClientAuth }> {
  const { issuer, internalUrl, idTokenAlgorithm } = options;
  // Asked for before it is known what the provider takes, and used later only.
  let chosen: oidc.ClientAuth = oidc.None();
  const authenticate: oidc.ClientAuth = (...request) => chosen(...request);
  const config = await oidc.discovery(
    new URL(issuer),
    options.clientId,
    {
      [oidc.clockTolerance]: CLOCK_TOLERANCE_SECONDS,
      ...(idTokenAlgorithm === undefined ? {} : { id_token_signed_response_alg: idTokenAlgorithm }),
    },
    authenticate,
    {
      // Whether http is acceptable at all was decided by the configuration. Metadata that is read at the internal
      // address may name endpoints there.
      execute: [issuer, internalUrl].some((url) => url?.startsWith('http:'))
        ? [oidc.allowInsecureRequests]
        : [],
      timeout: options.timeoutSeconds ?? TIMEOUT_SECONDS,
      [oidc.customFetch]: send as oidc.CustomFetch,
    },
  );
  const metadata = config.serverMetadata();
  if (metadata.issuer !== issuer) throw new IssuerMismatch(metadata.issuer);
  chosen = await clientAuthentication(
    options.clientAuth ?? 'client_secret_basic',
    {
      secret,
      clientKey: options.clientKey,
      keyId: options.clientKeyId,
      algorithm: options.clientKeyAlgorithm,
    },
    metadata.token_endpoint_auth_signing_alg_values_supported,
  );
  return { config, authenticate };
}

/** Makes the proofs for requests to the provider, with an algorithm that it lists. */
export async function dpopHandle(
  config: oidc.Configuration,
  dpop: DpopKeys,
): Promise<oidc.DPoPHandle> {
  await dpop.useSupported(config.serverMetadata().dpop_signing_alg_values_supported);
  const { algorithm, ...keyPair } = dpop.keyPair;
  return oidc.getDPoPHandle(config, keyPair, {
    [oidc.modifyAssertion]: (header) => {
      header['alg'] = algorithm;
    },
  });
}

class IssuerMismatch extends Error {
  constructor(readonly named: string) {
    super('the metadata names another issuer');
  }
}

/** Why the metadata cannot be used, in words for the operator. */
export function discoveryFault(error: unknown, issuer: string): AuthError {
  const named = issuerNamedBy(error);
  if (named !== null)
    return new AuthError(
      'provider_unavailable',
      `${METADATA_UNREADABLE}: the provider calls itself ${clean(named)}, and KEYCLOAK_ISSUER says ${issuer}: the issuer must be written the same, letter for letter`,
      { reason: 'issuer_mismatch', cause: error },
    );
  // The library's words are its own, never the answer's.
  const why = error instanceof Error ? `: ${error.message}` : '';
  return new AuthError('provider_unavailable', METADATA_UNREADABLE + why, {
    reason: 'discovery',
    retryAfterSeconds: providerFault(error, 'other').retryAfterSeconds,
    cause: error,
  });
}

function issuerNamedBy(error: unknown): string | null {
  if (error instanceof IssuerMismatch) return error.named;
  if (!(error instanceof oidc.ClientError)) return null;
  const { attribute, body } = record(error.cause);
  const { issuer } = record(body);
  return attribute === 'issuer' && typeof issuer === 'string' ? issuer : null;
}

const clean = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, ' ').slice(0, MAX_ISSUER_LENGTH);
