import { beforeAll, describe, expect, test } from '@jest/globals';
import { SignJWT, UnsecuredJWT } from 'jose';
import { createGuard, type GuardOptions, type Spec } from './index.js';
import {
  CLAIMS,
  ISSUER,
  issuerOf,
  judge,
  type Key,
  newKey,
  NOW,
  now,
  outcome,
  requestOf,
  sign,
  type Signing,
} from './testing/world.js';

let key: Key;
let stranger: Key;
let options: Partial<GuardOptions>;

beforeAll(async () => {
  [key, stranger] = await Promise.all([newKey('RS256', 'k1'), newKey('RS256', 'k1')]);
  options = { fetch: issuerOf(key).fetch };
});

const tokenWith = (claims: Record<string, unknown> = {}, more: Partial<Signing> = {}) =>
  sign({ key, claims: { ...CLAIMS, ...claims }, header: { typ: 'JWT' }, ...more });
const bearer = async (claims?: Record<string, unknown>, more?: Partial<Signing>) =>
  requestOf(`Bearer ${await tokenWith(claims, more)}`);

describe('access tokens', () => {
  test('of the issuer for this service pass, by every asymmetric algorithm', async () => {
    for (const alg of ['RS256', 'PS384', 'ES256', 'ES512', 'EdDSA']) {
      const other = await newKey(alg, alg);
      const request = await bearer({}, { key: other });
      expect([alg, await outcome({ fetch: issuerOf(key, other).fetch }, request)]).toEqual([
        alg,
        'passed',
      ]);
    }
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['of another issuer', { iss: `${ISSUER}/x` }, 'token_issuer'],
    ['for another audience', { aud: 'billing' }, 'token_audience'],
    ['for nobody', { aud: undefined }, 'token_audience'],
    ['that have expired', { exp: NOW - 11 }, 'token_expired'],
    ['that have expired within the tolerance', { exp: NOW - 9 }, 'passed'],
    ['that never expire', { exp: undefined }, 'token_claims'],
    ['that expire in words', { exp: 'tomorrow' }, 'token_claims'],
    ['from the future', { nbf: NOW + 11 }, 'token_not_yet_valid'],
    ['without a subject', { sub: undefined }, 'token_claims'],
    ['with an empty subject', { sub: '' }, 'token_claims'],
    ['that are ID Tokens by Keycloak', { typ: 'ID' }, 'token_type'],
    ['that are refresh tokens', { typ: 'Refresh' }, 'token_type'],
    ['that are logout tokens', { events: {} }, 'token_type'],
    ['that are bound to a key', { cnf: { jkt: 'x' } }, 'token_bound'],
    ['that are bound to a certificate', { cnf: { 'x5t#S256': 'x' } }, 'token_bound'],
    ['of type DPoP without a key', { typ: 'DPoP' }, 'token_bound'],
  ])('%s', async (_what, claims, code) => {
    expect(await outcome(options, await bearer(claims))).toBe(code);
  });

  test('of other providers are told from ID Tokens by what they say', async () => {
    const plain = { typ: undefined, auth_time: undefined };
    expect(await outcome(options, await bearer(plain))).toBe('passed');
    expect(await outcome(options, await bearer({ ...plain, nonce: 'n' }))).toBe('token_type');
    const typed = { header: { typ: 'application/AT+JWT' } };
    expect(await outcome(options, await bearer({ ...plain, nonce: 'n' }, typed))).toBe('passed');
    expect(await outcome(options, await bearer({}, { header: { typ: 'dpop+jwt' } }))).toBe(
      'token_type',
    );
  });

  test('whose signature is another key’s, none, or a shared secret’s are refused', async () => {
    expect(await outcome(options, await bearer({}, { key: stranger }))).toBe('token_signature');
    const none = new UnsecuredJWT(CLAIMS).encode();
    expect(await outcome(options, requestOf(`Bearer ${none}`))).toBe('token_malformed');
    expect(await outcome(options, requestOf(`Bearer ${none}eA`))).toBe('token_algorithm');
    const secret = new TextEncoder().encode(JSON.stringify(key.jwk));
    const shared = await new SignJWT(CLAIMS)
      .setProtectedHeader({ alg: 'HS256', kid: 'k1' })
      .sign(secret);
    expect(await outcome(options, requestOf(`Bearer ${shared}`))).toBe('token_algorithm');
  });

  test('by an algorithm that is not on the list, a key that nobody published, or with a demand are refused', async () => {
    expect(await outcome({ ...options, algorithms: ['ES256'] }, await bearer())).toBe(
      'token_algorithm',
    );
    const unknown = { header: { kid: 'k2', typ: 'JWT' } };
    expect(await outcome(options, await bearer({}, unknown))).toBe('token_key_unknown');
    const [head, ...rest] = (await tokenWith()).split('.');
    const header = { ...(JSON.parse(atob(head ?? '')) as object), crit: ['x'], x: 1 };
    const demanding = [Buffer.from(JSON.stringify(header)).toString('base64url'), ...rest];
    expect(await outcome(options, requestOf(`Bearer ${demanding.join('.')}`))).toBe(
      'token_malformed',
    );
  });

  test('count once more after they were verified, until they expire or are revoked', async () => {
    let time = NOW;
    const revoked = new Set<unknown>();
    const issuer = issuerOf(key);
    const guard = createGuard({
      issuer: ISSUER,
      audience: 'orders',
      fetch: issuer.fetch,
      now: () => time * 1000,
      isRevoked: ({ jti }) => revoked.has(jti),
    });
    const request = await bearer();
    for (let i = 0; i < 3; i++) expect((await judge(guard, request)).code).toBe('passed');
    revoked.add('at-1');
    expect((await judge(guard, request)).code).toBe('token_revoked');
    revoked.clear();
    time = NOW + 309;
    expect((await judge(guard, request)).code).toBe('passed');
    time = NOW + 310;
    expect((await judge(guard, request)).code).toBe('token_expired');
    expect((await judge(guard, request)).code).toBe('token_expired');
  });

  test('once verified cannot be changed by whoever handles a request', async () => {
    const guard = createGuard({ issuer: ISSUER, audience: 'orders', now, ...options });
    const { identity } = await guard.checker()(await bearer(), null);
    const { roles } = identity?.claims['realm_access'] as { roles: string[] };
    expect(() => roles.push('admin')).toThrow(TypeError);
    expect((await judge(guard, await bearer(), 'realm:admin')).code).toBe('role_missing');
  });

  test('of a client that may not call are refused', async () => {
    const only = { ...options, authorizedParties: ['api-gateway'] };
    expect(await outcome(only, await bearer())).toBe('passed');
    expect(await outcome(only, await bearer({ azp: 'reports' }))).toBe('token_party');
    expect(await outcome(only, await bearer({ azp: undefined }))).toBe('token_party');
  });
});

describe('credentials', () => {
  test('are one token in one field, else the request is refused', async () => {
    const token = await tokenWith();
    const code = (...authorization: string[]) =>
      outcome(options, requestOf(null, { authorization }));
    expect(await code(`bearer  ${token}`)).toBe('passed');
    expect(await code()).toBe('credentials_missing');
    expect(await code('Basic dTpw')).toBe('credentials_missing');
    expect(await code('Bearer')).toBe('request_invalid');
    expect(await code(`Bearer ${token} x`)).toBe('request_invalid');
    expect(await code(`Bearer ${token}, Bearer ${token}`)).toBe('request_invalid');
    expect(await code(`Bearer ${token}`, `Bearer ${token}`)).toBe('request_invalid');
    expect(await code('Basic dTpw', `Bearer ${token}`)).toBe('request_invalid');
    expect(await code('Bearer x')).toBe('token_malformed');
    expect(await code(`Bearer ${'x'.repeat(20_000)}`)).toBe('token_malformed');
    expect(await code(`DPoP ${token}`)).toBe('token_bound');
  });

  test('may be missing on an optional route, but not wrong', async () => {
    const guard = createGuard({ issuer: ISSUER, audience: 'orders', now, ...options });
    const check = guard.checker({ optional: true });
    expect((await check(requestOf(null), null)).identity).toBeNull();
    expect((await check(await bearer(), null)).identity?.subject).toBe('f:1:demo');
    await expect(check(requestOf('Bearer x'), null)).rejects.toMatchObject({
      code: 'token_malformed',
    });
  });
});

describe('what a route asks for', () => {
  test.each<[Spec<null>, string]>([
    ['realm:user', 'passed'],
    ['orders:reader', 'passed'],
    ['reader', 'passed'],
    ['billing:clerk', 'passed'],
    ['realm:a:b', 'passed'],
    ['realm:a', 'role_missing'],
    ['realm:reader', 'role_missing'],
    ['clerk', 'role_missing'],
    ['user', 'role_missing'],
    ['__proto__:x', 'role_missing'],
    ['constructor:name', 'role_missing'],
    ['realm:', 'role_missing'],
    [{ roles: ['realm:user', 'reader'] }, 'passed'],
    [{ roles: ['realm:user', 'writer'] }, 'role_missing'],
    [{ scopes: 'profile' }, 'passed'],
    [{ scopes: ['profile', 'email'] }, 'scope_missing'],
    [{ acr: ['1', '2'] }, 'passed'],
    [{ acr: '2' }, 'authentication_insufficient'],
    [{ maxAgeSeconds: 100 }, 'passed'],
    [{ maxAgeSeconds: 99 }, 'authentication_insufficient'],
    [(identity) => identity.hasRole('reader'), 'passed'],
    [async () => false, 'not_allowed'],
    [(() => 'yes') as unknown as Spec<null>, 'not_allowed'],
  ])('%j: %s', async (spec, code) => {
    expect(await outcome(options, await bearer(), spec)).toBe(code);
  });

  test('a role of a claim that is no list of roles is nobody’s', async () => {
    for (const roles of ['user', { 0: 'user' }, null])
      expect(await outcome(options, await bearer({ realm_access: { roles } }), 'realm:user')).toBe(
        'role_missing',
      );
  });

  test('a spec that is none is refused at the start', () => {
    const guard = createGuard({ issuer: ISSUER, audience: 'orders', ...options });
    for (const spec of [{ roles: '' }, { roles: [] }, { scopes: [''] }, '', { acr: [] }])
      expect(() => guard.checker(spec)).toThrow(TypeError);
    expect(() => guard.checker({ permissions: 'x', claims: () => ({}) })).toThrow('clientSecret');
  });
});

describe('options', () => {
  test.each<[Partial<GuardOptions>, string]>([
    [{ audience: [] }, 'audience'],
    [{ audience: '' }, 'audience'],
    [{ issuer: 'id.example' }, 'issuer'],
    [{ issuer: 'http://id.example/realms/shop' }, 'jwksUrl is plain http'],
    [{ internalUrl: 'http://keycloak:8080/realms/shop' }, 'jwksUrl is plain http'],
    [{ algorithms: ['HS256'] }, 'HS256'],
    [{ algorithms: [] }, 'algorithms'],
    [{ clockToleranceSeconds: -1 }, 'clockToleranceSeconds'],
    [{ dpop: { baseUrls: [] } }, 'baseUrls'],
    [{ dpop: { baseUrls: 'orders' } }, 'baseUrls'],
    [{ dpop: { baseUrls: 'https://x/?q' } }, 'baseUrls'],
    [{ dpop: { baseUrls: 'https://x', maxAgeSeconds: 0 } }, 'maxAgeSeconds'],
    [{ dpop: { baseUrls: 'https://x', algorithms: ['none'] } }, 'none'],
  ])('%j is refused by name', (wrong, name) => {
    expect(() => createGuard({ issuer: ISSUER, audience: 'orders', ...wrong })).toThrow(name);
  });

  test('plain http is for loopback, or where it is allowed', () => {
    const issuer = 'http://id.example/realms/shop';
    expect(() => createGuard({ issuer, audience: 'x', allowInsecureHttp: true })).not.toThrow();
    expect(() => createGuard({ issuer: 'http://localhost/r', audience: 'x' })).not.toThrow();
    const internalUrl = 'https://keycloak.internal/realms/shop/';
    expect(() => createGuard({ issuer, internalUrl, audience: 'x' })).not.toThrow();
  });
});
