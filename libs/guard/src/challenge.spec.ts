import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from '@jest/globals';
import {
  createGuard,
  GUARD_ERROR_STATUS,
  type GuardOptions,
  type GuardRequest,
  type Spec,
} from './index.js';
import {
  BASE_URL,
  CLAIMS,
  ISSUER,
  issuerOf,
  judge,
  newKey,
  now,
  requestOf,
  sign,
} from './testing/world.js';

let token: string;
let fetch: NonNullable<GuardOptions['fetch']>;
beforeAll(async () => {
  const key = await newKey('ES256', 'k1');
  ({ fetch } = issuerOf(key));
  token = await sign({ key, claims: CLAIMS });
});
const dpop = { baseUrls: BASE_URL, algorithms: ['ES256', 'PS256'] };
const challenge = async (
  request: GuardRequest,
  options: Partial<GuardOptions> = {},
  spec: Spec<null> = {},
) => {
  const guard = createGuard({ issuer: ISSUER, audience: 'orders', now, fetch, ...options });
  const { status, headers } = await judge(guard, request, spec);
  expect(headers['cache-control']).toBe('no-store');
  return [status, headers['www-authenticate']];
};

describe('a refusal', () => {
  test('without credentials asks for them, and names no error (RFC 6750 §3.1, RFC 9449 §7.1)', async () => {
    const none = requestOf(null);
    expect(await challenge(none)).toEqual([401, 'Bearer']);
    expect(await challenge(none, { realm: 'sh"op\n' })).toEqual([401, 'Bearer realm="shop"']);
    expect(await challenge(none, { dpop })).toEqual([401, 'Bearer, DPoP algs="ES256 PS256"']);
    expect(await challenge(none, { dpop: { ...dpop, required: true } })).toEqual([
      401,
      'DPoP algs="ES256 PS256"',
    ]);
  });

  test('of a token names the error with the scheme that was used', async () => {
    const text = 'error="invalid_token", error_description="the access token is not acceptable"';
    expect(await challenge(requestOf('Bearer x'))).toEqual([401, `Bearer ${text}`]);
    expect(await challenge(requestOf('Bearer x'), { dpop })).toEqual([
      401,
      `Bearer ${text}, DPoP algs="ES256 PS256"`,
    ]);
    expect(await challenge(requestOf('DPoP x'), { dpop })).toEqual([
      401,
      `Bearer, DPoP ${text}, algs="ES256 PS256"`,
    ]);
    expect(await challenge(requestOf('DPoP x'))).toEqual([
      401,
      'Bearer error="invalid_token", error_description="DPoP is not in use here"',
    ]);
    expect(await challenge(requestOf('Bearer x'), { dpop: { ...dpop, required: true } })).toEqual([
      401,
      `DPoP ${text}, algs="ES256 PS256"`,
    ]);
  });

  test('of a request is 400 invalid_request', async () => {
    expect(await challenge(requestOf('Bearer a b'))).toEqual([
      400,
      'Bearer error="invalid_request", error_description="the field Authorization is not one token"',
    ]);
  });

  test('for want of a scope names the scopes', async () => {
    const spec = { scopes: ['openid', 'orders.read'] };
    expect(await challenge(requestOf(`Bearer ${token}`), {}, spec)).toEqual([
      403,
      'Bearer error="insufficient_scope", error_description="the access token lacks a scope", scope="openid orders.read"',
    ]);
  });

  test('that wants a step-up says which (RFC 9470 §3)', async () => {
    const spec = { acr: ['gold', 'silver'], maxAgeSeconds: 60 };
    expect(await challenge(requestOf(`Bearer ${token}`), {}, spec)).toEqual([
      401,
      'Bearer error="insufficient_user_authentication", error_description="a stronger or newer login is needed", acr_values="gold silver", max_age="60"',
    ]);
  });

  test('for an outage has no challenge', async () => {
    const away = { fetch: () => Promise.reject(new TypeError('fetch failed')) };
    expect(await challenge(requestOf(`Bearer ${token}`), away)).toEqual([503, undefined]);
  });
});

test('the README lists every code with its status', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const listed = [...readme.matchAll(/^\| ((?:`\w+`(?:, )?)+) +\| (\d{3}) +\|/gm)].flatMap(
    ([, codes = '', status]) =>
      [...codes.matchAll(/`(\w+)`/g)].map(([, code]) => [code, Number(status)]),
  );
  expect(Object.fromEntries(listed)).toEqual(GUARD_ERROR_STATUS);
  expect(listed).toHaveLength(Object.keys(GUARD_ERROR_STATUS).length);
});
