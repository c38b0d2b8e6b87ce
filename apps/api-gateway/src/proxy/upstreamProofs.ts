import type { IncomingMessage } from 'node:http';
import { credentialOf } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { type Credentials, upstreamPath } from './upstreamHeaders.js';

const SCHEME = 'DPoP ';

/** No token goes up, nor does the client's own proof, which is for none of ours. */
export const NO_TOKEN: Credentials = { authorization: null, dpop: null };
export const bearerToken = (token: string): Credentials => ({
  authorization: `Bearer ${token}`,
  dpop: null,
});
/** A token that is bound to a key of ours (RFC 9449 §7.1); its proof is made as the request goes out. */
export const boundToken = (token: string): Credentials => ({
  authorization: SCHEME + token,
  dpop: null,
});

/** Credentials with a new proof where the token in them needs one. */
export async function proven(
  { dpop }: Pick<Gateway, 'dpop'>,
  route: GatewayRoute,
  request: IncomingMessage,
  credentials: Credentials,
): Promise<Credentials> {
  if (dpop === null || !isBound(credentials)) return credentials;
  const url = new URL(upstreamPath(route, request.url ?? '/'), route.upstream.origin);
  const kept = credentials['authorization'].slice(SCHEME.length);
  return {
    ...credentials,
    authorization: SCHEME + credentialOf(kept).token,
    dpop: await dpop.proof(request.method ?? 'GET', url, kept),
  };
}

/**
 * Keeps the nonce that an answer brings (§8.2); whether it was refused for want of that nonce
 * (§9), and so never looked at.
 */
export function asksForNonce(
  { dpop }: Pick<Gateway, 'dpop'>,
  route: GatewayRoute,
  credentials: Credentials,
  status: number,
  rawHeaders: readonly string[],
): boolean {
  if (dpop === null || !isBound(credentials)) return false;
  const field = (wanted: string): string[] =>
    rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === wanted);
  const [nonce] = field('dpop-nonce');
  if (nonce === undefined) return false;
  dpop.useNonce(route.upstream.origin, nonce);
  return (
    status === 401 &&
    field('www-authenticate').some((challenge) =>
      /\bDPoP\b.*\berror="?use_dpop_nonce\b/i.test(challenge),
    )
  );
}

const isBound = (
  credentials: Credentials,
): credentials is Credentials & { authorization: string } =>
  credentials['authorization']?.startsWith(SCHEME) ?? false;
