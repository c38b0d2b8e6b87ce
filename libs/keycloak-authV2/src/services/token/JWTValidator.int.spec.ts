import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ProviderStub, startProviderStub } from '@session-gateway/testkit';
import type { AuthError } from '../../errors.js';
import { KeycloakClient } from '../../client/KeycloakClient.js';
import { validateLogoutToken } from '../logout/logoutToken.js';
import { JWTValidator } from './JWTValidator.js';

let provider: ProviderStub;
let client: KeycloakClient;
let now: number;
const validator = () =>
  new JWTValidator({
    issuer: provider.issuer,
    clientId: provider.clientId,
    jwks: () => client.jwks(),
    now: () => now,
  });

beforeAll(async () => {
  provider = await startProviderStub();
  client = new KeycloakClient({
    issuer: provider.issuer,
    clientId: provider.clientId,
    clientSecret: provider.clientSecret,
  });
  now = Date.now();
});
afterAll(() => provider.dispose());

describe('a bearer token', () => {
  test('of the realm, for this client, is valid, and its outcome is kept without the token', async () => {
    const one = validator();
    const token = await provider.bearer({ realm_access: { roles: ['admin'] } });
    const identity = await one.validate(token);
    expect(identity.roles).toContain('realm:admin');
    expect(await one.validate(token)).toBe(identity);
    expect(JSON.stringify(one)).not.toContain(token.slice(-20));
  });

  test.each<[string, () => Promise<string>]>([
    ["by Keycloak's claim, with the time of the login", () => provider.bearer({ auth_time: 1 })],
    ['by its header', () => provider.bearer({ typ: undefined }, { typ: 'at+jwt' })],
    [
      'by what only access tokens have',
      () => provider.bearer({ typ: undefined, realm_access: undefined, scope: 'api' }),
    ],
  ])('that is an access token %s is valid', async (_, make) => {
    await expect(validator().validate(await make())).resolves.toMatchObject({
      subject: expect.any(String),
    });
  });

  test('by a key that the realm has withdrawn is refused with the next look at the keys, and after a minute at the latest', async () => {
    const one = validator();
    const token = await provider.bearer({ exp: Math.floor(now / 1000) + 3_600 });
    await one.validate(token);
    await provider.rotateKeys();
    // Another token leads to the new keys, and takes the verdict by the old ones with it.
    await one.validate(await provider.bearer());
    await expect(one.validate(token)).rejects.toMatchObject({ reason: 'key_unknown' });

    let verdicts = 0;
    const counting = new JWTValidator({
      issuer: provider.issuer,
      clientId: provider.clientId,
      jwks: async () => {
        const keys = await client.jwks();
        return (...asked) => {
          verdicts++;
          return keys(...asked);
        };
      },
      now: () => now,
    });
    const another = await provider.bearer({ exp: Math.floor(now / 1000) + 3_600 });
    for (const later of [0, 59_000, 1_000]) {
      now += later;
      await counting.validate(another);
    }
    expect(verdicts).toBe(2);
    now = Date.now();
  });

  test('is held against its expiry again each time', async () => {
    const one = validator();
    const token = await provider.bearer();
    await one.validate(token);
    now += 3_600_000;
    await expect(one.validate(token)).rejects.toMatchObject({ code: 'bearer_invalid' });
    now = Date.now();
  });

  test.each<[string, () => Promise<string>]>([
    ['is expired', () => provider.bearer({ exp: Math.floor(now / 1000) - 60 })],
    ['is bound to a key, which it does not show', () => provider.bearer({ cnf: { jkt: 'x' } })],
    ['is not valid yet', () => provider.bearer({ nbf: Math.floor(now / 1000) + 600 })],
    ['is of another issuer', () => provider.bearer({ iss: 'https://elsewhere.example' })],
    ['is for another client', () => provider.bearer({ aud: 'other', azp: 'other' })],
    ['names another kind in its claims', () => provider.bearer({ typ: 'Refresh' })],
    ['names another kind in its header', () => provider.bearer({}, { typ: 'logout+jwt' })],
    [
      'is an ID Token without a type',
      () => provider.bearer({ typ: undefined, scope: 'openid', nonce: 'n' }),
    ],
    [
      'is an ID Token that tells of the login only',
      () => provider.bearer({ typ: undefined, auth_time: 1 }, { typ: 'application/jwt' }),
    ],
    [
      'shows nothing of an access token',
      () => provider.bearer({ typ: undefined, realm_access: undefined }),
    ],
    [
      'lives for longer than a day',
      () => provider.bearer({ exp: Math.floor(now / 1000) + 90_000 }),
    ],
    [
      'was made long ago to live for longer than a day',
      () =>
        provider.bearer({
          iat: Math.floor(now / 1000) - 86_300,
          exp: Math.floor(now / 1000) + 600,
        }),
    ],
    ['has no subject', () => provider.bearer({ sub: undefined })],
    ['has no expiry', () => provider.bearer({ exp: undefined })],
    ['is an ID Token', async () => (await provider.grant()).idToken],
    ['is a refresh token', async () => (await provider.grant()).refreshToken],
    ['is a logout token', () => provider.logoutToken({ sub: 'x' })],
    [
      'is not signed',
      async () =>
        `${Buffer.from('{"alg":"none"}').toString('base64url')}.${(await provider.bearer()).split('.')[1] ?? ''}.`,
    ],
    [
      'has another payload than was signed',
      async () => {
        const [head, , signature] = (await provider.bearer()).split('.');
        return `${head ?? ''}.${Buffer.from(JSON.stringify({ iss: provider.issuer, sub: 'admin', aud: provider.clientId, exp: 9e9 })).toString('base64url')}.${signature ?? ''}`;
      },
    ],
    [
      'is signed with a shared secret that is the public key',
      async () => {
        const { createHmac } = await import('node:crypto');
        const [, payload] = (await provider.bearer()).split('.');
        const head = Buffer.from('{"alg":"HS256","typ":"JWT"}').toString('base64url');
        return `${head}.${payload ?? ''}.${createHmac('sha256', 'public')
          .update(`${head}.${payload ?? ''}`)
          .digest('base64url')}`;
      },
    ],
    ['is no token', async () => 'garbage'],
    ['is spelled otherwise', async () => `${await provider.bearer()}=`],
    ['has a subject that is no text', () => provider.bearer({ sub: 7 })],
    ['has a subject of 256 characters', () => provider.bearer({ sub: 's'.repeat(256) })],
    ['has a NUL in its subject', () => provider.bearer({ sub: 's\0' })],
    [
      'has a type that is no text',
      () => provider.bearer({}, { typ: ['JWT'] as unknown as string }),
    ],
    [
      'has a type that cannot be made a text',
      () => provider.bearer({}, { typ: { toString: 1 } as unknown as string }),
    ],
    ['is longer than any token', async () => 'a.'.repeat(20_000)],
  ])('that %s is refused', async (_, make) => {
    await expect(validator().validate(await make())).rejects.toMatchObject({
      code: 'bearer_invalid',
    });
  });

  test('cannot be judged while the keys cannot be fetched, which says nothing about it', async () => {
    const token = await provider.bearer();
    const fresh = new KeycloakClient({
      issuer: provider.issuer,
      clientId: provider.clientId,
      clientSecret: provider.clientSecret,
    });
    await provider.stop();
    const lonely = new JWTValidator({
      issuer: provider.issuer,
      clientId: provider.clientId,
      jwks: () => fresh.jwks(),
    });
    await expect(lonely.validate(token)).rejects.toMatchObject({ code: 'provider_unavailable' });
    await provider.start();
    await expect(lonely.validate(token)).resolves.toMatchObject({ subject: expect.any(String) });
  });
});

describe('a logout token', () => {
  const validate = (token: string, typ: 'required' | 'if-present' = 'required') =>
    validateLogoutToken(token, {
      issuer: provider.issuer,
      clientId: provider.clientId,
      jwks: () => client.jwks(),
      typ,
    });

  test('names a session or a subject', async () => {
    expect(await validate(await provider.logoutToken({ sub: 's', sid: 'x' }))).toMatchObject({
      subject: 's',
      sid: 'x',
    });
    expect(await validate(await provider.logoutToken({ sid: 'x', sub: undefined }))).toMatchObject({
      subject: null,
      sid: 'x',
    });
    expect(
      await validate(
        await provider.logoutToken({ sub: 's', sid: undefined }, { typ: 'JWT' }).catch(() => ''),
        'if-present',
      ).catch((error: unknown) => (error as AuthError).reason),
    ).toBe('type');
  });

  test('counts until its own exp, however long ago it was made, signed as the realm signs', async () => {
    const seconds = Math.floor(Date.now() / 1000);
    const token = await provider.logoutToken({ sub: 's', iat: seconds - 3_600, exp: seconds + 60 });
    expect(await validate(token)).toMatchObject({ expiresAt: new Date((seconds + 60) * 1000) });
    await expect(
      validateLogoutToken(token, {
        issuer: provider.issuer,
        clientId: provider.clientId,
        jwks: () => client.jwks('logout'),
        algorithms: ['PS256'],
        typ: 'required',
      }),
    ).rejects.toMatchObject({ code: 'logout_token_invalid', reason: 'algorithm' });
  });

  test('by a key that is newer than the last look at the keys counts at once', async () => {
    await validate(await provider.logoutToken({ sub: 's' }));
    await provider.rotateKeys();
    expect(await validate(await provider.logoutToken({ sub: 's' }))).toMatchObject({
      subject: 's',
    });
  });

  test.each<[string, Record<string, unknown>]>([
    ['a time to come', { iat: Math.floor(Date.now() / 1000) + 600 }],
    ['an expiry in a week', { exp: Math.floor(Date.now() / 1000) + 604_800 }],
    ['a nonce', { nonce: 'n' }],
    ['no events', { events: undefined }],
    ['another event', { events: { other: {} } }],
    [
      'an event that is no object',
      { events: { 'http://schemas.openid.net/event/backchannel-logout': true } },
    ],
    ['neither sub nor sid', { sub: undefined, sid: undefined }],
    ['no jti', { jti: undefined }],
    ['no iat', { iat: undefined }],
    ['no exp', { exp: undefined }],
    ['another audience', { aud: 'other' }],
    ['another issuer', { iss: 'https://elsewhere.example' }],
    ['a past expiry', { exp: 1 }],
    ['a sub that is a number', { sub: 7, sid: undefined }],
    ['an expiry beyond all dates', { exp: 1e300 }],
    ['a NUL in its jti', { jti: 'a\0b' }],
    ['a NUL in its sid', { sid: 'a\0b' }],
    ['half a character in its sid', { sid: '\ud800' }],
  ])('with %s is refused', async (_, claims) => {
    await expect(
      validate(await provider.logoutToken({ sub: 's', sid: 'x', ...claims })),
    ).rejects.toMatchObject({ code: 'logout_token_invalid' });
  });

  test('with a type that is no text, or in another spelling, is refused', async () => {
    for (const token of [
      await provider.logoutToken({ sub: 's' }, { typ: 7 as unknown as string }),
      `${await provider.logoutToken({ sub: 's' })}=`,
    ]) {
      await expect(validate(token, 'if-present')).rejects.toMatchObject({
        code: 'logout_token_invalid',
      });
    }
  });

  test('that is an ID Token or an access token is refused', async () => {
    const { idToken, accessToken } = await provider.grant();
    for (const token of [idToken, accessToken])
      await expect(validate(token)).rejects.toMatchObject({ code: 'logout_token_invalid' });
  });
});
