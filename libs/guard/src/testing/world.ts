import { createHash, randomUUID } from 'node:crypto';
import {
  calculateJwkThumbprint,
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  type JWK,
  SignJWT,
} from 'jose';
import { createGuard, type GuardOptions, type GuardRequest, type Spec } from '../index.js';
import { GuardError } from '../errors.js';

export const ISSUER = 'https://id.example/realms/shop';
export const BASE_URL = 'https://orders.example/v1';
/** Of every clock in these suites, in seconds. */
export const NOW = 1_800_000_000;

export interface Key {
  privateKey: CryptoKey;
  jwk: JWK;
  alg: string;
}

export async function newKey(alg = 'ES256', kid?: string): Promise<Key> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(publicKey);
  return { privateKey, alg, jwk: kid === undefined ? jwk : { ...jwk, kid, alg, use: 'sig' } };
}

/** Claims as Keycloak writes them into an access token. */
export const CLAIMS = {
  iss: ISSUER,
  aud: ['orders', 'account'],
  sub: 'f:1:demo',
  typ: 'Bearer',
  azp: 'api-gateway',
  acr: '1',
  auth_time: NOW - 100,
  exp: NOW + 300,
  iat: NOW,
  jti: 'at-1',
  scope: 'openid profile',
  realm_access: { roles: ['user', 'a:b'] },
  resource_access: { orders: { roles: ['reader'] }, billing: { roles: ['clerk'] } },
};

export interface Signing {
  key: Key;
  claims?: Record<string, unknown>;
  header?: Record<string, unknown>;
}

/** A JWT with any claims and header; what is undefined is left out. */
export const sign = ({ key, claims, header }: Signing): Promise<string> =>
  new SignJWT(claims)
    .setProtectedHeader({ alg: key.alg, ...(key.jwk.kid ? { kid: key.jwk.kid } : {}), ...header })
    .sign(key.privateKey);

export const thumbprintOf = (key: Key): Promise<string> => calculateJwkThumbprint(key.jwk);

export const athOf = (token: string): string =>
  createHash('sha256').update(token).digest('base64url');

/** A DPoP proof for GET `BASE_URL`/x, all of it right unless it is replaced. */
export const proofFor = (
  token: string,
  key: Key,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): Promise<string> =>
  sign({
    key,
    claims: {
      jti: randomUUID(),
      htm: 'GET',
      htu: `${BASE_URL}/x`,
      iat: NOW,
      ath: athOf(token),
      ...claims,
    },
    header: { typ: 'dpop+jwt', jwk: key.jwk, ...header },
  });

export const requestOf = (authorization: string | null, more: Partial<GuardRequest> = {}) => ({
  method: 'GET',
  url: '/x?q=1',
  authorization: authorization === null ? [] : [authorization],
  dpop: [],
  ...more,
});

/** An issuer whose key set a test can change and take away, and what it was asked. */
export function issuerOf(...keys: Key[]) {
  const issuer = {
    keys: keys.map(({ jwk }) => jwk),
    away: false,
    asked: [] as string[],
    answer: (url: string): Response => {
      if (issuer.away) throw new TypeError('fetch failed');
      return url.endsWith('/certs')
        ? Response.json({ keys: issuer.keys })
        : new Response(null, { status: 404 });
    },
    fetch: async (url: string): Promise<Response> => {
      issuer.asked.push(url);
      return issuer.answer(url);
    },
  };
  return issuer;
}

/** What a guard makes of a request: the code of its refusal, or `passed`. */
export async function outcome(
  options: Partial<GuardOptions>,
  request: GuardRequest,
  spec?: Spec<null>,
): Promise<string> {
  return (
    await judge(createGuard({ issuer: ISSUER, audience: 'orders', now, ...options }), request, spec)
  ).code;
}

export const now = (): number => NOW * 1000;

/** The same with the fields of the answer. What is not a GuardError breaks the test. */
export async function judge(
  guard: ReturnType<typeof createGuard>,
  request: GuardRequest,
  spec?: Spec<null>,
): Promise<{ code: string; status: number; headers: Readonly<Record<string, string>> }> {
  try {
    const { headers } = await guard.checker(spec)(request, null);
    return { code: 'passed', status: 200, headers };
  } catch (error) {
    if (error instanceof GuardError) return error;
    throw error;
  }
}
