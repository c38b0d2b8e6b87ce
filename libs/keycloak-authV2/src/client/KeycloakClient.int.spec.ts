import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type ProviderStub, startProviderStub } from '@session-gateway/testkit';
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader } from 'jose';
import type { KeycloakClientOptions } from './clientOptions.js';
import { credentialOf, DpopKeys } from './dpop.js';
import { KeycloakClient } from './KeycloakClient.js';

let provider: ProviderStub;
beforeAll(async () => {
  provider = await startProviderStub({ idTokenOnRefresh: false });
});
afterEach(() => provider.answerAlways(null));
afterAll(() => provider.dispose());

const REDIRECT_URI = 'https://app.example/auth/callback';
const clientOf = (options: Partial<KeycloakClientOptions> = {}): KeycloakClient =>
  new KeycloakClient({
    issuer: provider.issuer,
    clientId: provider.clientId,
    clientSecret: provider.clientSecret,
    ...options,
  });
const metadata = async (): Promise<Record<string, unknown>> =>
  (await (await fetch(`${provider.issuer}/.well-known/openid-configuration`)).json()) as Record<
    string,
    unknown
  >;
const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();
const seconds = (): number => Math.floor(Date.now() / 1000);

describe('a provider with an internal address', () => {
  const issuer = 'https://id.example/realms/neurotracker';

  // The second is Keycloak's hostname-backchannel-dynamic.
  test.each([
    ["the issuer's", '', ''],
    ['the internal', '', ''],
    ["the issuer's", '/', ''],
    ["the issuer's", '', '/'],
  ])(
    'whose metadata names endpoints at %s address is asked at the internal one, over http too, with slashes "%s" and "%s" behind them',
    async (whose, behindIssuer, behindInternal) => {
      const text = JSON.stringify(await metadata());
      const told =
        whose === 'the internal'
          ? {
              ...(JSON.parse(text) as object),
              authorization_endpoint: `${issuer}/protocol/openid-connect/auth`,
            }
          : (JSON.parse(text.replaceAll(provider.issuer, issuer)) as object);
      provider.answerNext({
        endpoint: 'discovery',
        body: { ...told, issuer: issuer + behindIssuer },
      });
      const client = clientOf({
        issuer: issuer + behindIssuer,
        internalUrl: provider.issuer + behindInternal,
      });
      const { refreshToken, sub } = await provider.grant();
      expect((await client.refresh(refreshToken, sub)).accessToken).toMatch(/^eyJ/);
      expect((await client.authorizationRequest(REDIRECT_URI)).url.href).toContain(
        `${issuer}/protocol/openid-connect/auth?`,
      );
    },
  );
});

describe('an issuer is compared as it is written', () => {
  test.each([
    ['', '/'],
    ['/', ''],
  ])('with "%s" behind ours and "%s" behind its own it is another', async (ours, its) => {
    provider.answerAlways({
      endpoint: 'discovery',
      body: { ...(await metadata()), issuer: provider.issuer + its },
    });
    const client = clientOf({ issuer: provider.issuer + ours });
    await expect(client.ready()).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'issuer_mismatch',
      message: expect.stringMatching(
        new RegExp(
          `calls itself ${provider.issuer}${its}, and KEYCLOAK_ISSUER says ${provider.issuer}${ours}:`,
        ),
      ),
    });
    expect(await client.health()).toMatchObject({
      reason: expect.stringContaining('calls itself'),
    });
  });

  test('with a slash behind both the whole login works', async () => {
    const issuer = `${provider.issuer}/`;
    provider.answerNext({ endpoint: 'discovery', body: { ...(await metadata()), issuer } });
    const client = clientOf({ issuer });
    const { subject } = (await login(client, { claims: { iss: issuer }, iss: issuer })).identity;
    expect(subject).toBe('s');
    expect(
      client.endSessionUrl('https://app.example/', { idTokenHint: null }).pathname,
    ).not.toContain('//');
    expect((await client.health()).reason).toBeNull();
  });
});

/** Redeems a code whose answer is made here. */
async function login(
  client: KeycloakClient,
  {
    claims = {},
    header = {},
    answer = {},
    iss = provider.issuer,
  }: {
    claims?: Record<string, unknown>;
    header?: Record<string, unknown>;
    answer?: Record<string, unknown>;
    iss?: string;
  } = {},
) {
  const idToken = await provider.sign(
    {
      iss: provider.issuer,
      aud: provider.clientId,
      sub: 's',
      nonce: 'n',
      iat: seconds(),
      exp: seconds() + 60,
      ...claims,
    },
    header,
  );
  provider.answerNext({
    body: {
      access_token: 'opaque',
      token_type: 'Bearer',
      expires_in: 60,
      id_token: idToken,
      ...answer,
    },
  });
  const callback = new URL(
    `${REDIRECT_URI}?${new URLSearchParams({ code: 'c', state: 's', iss })}`,
  );
  return client.exchangeCode(callback, {
    state: 's',
    oidcNonce: 'n',
    codeVerifier: 'v'.repeat(43),
  });
}

describe('a login', () => {
  test.each<[string, string, Parameters<typeof login>[1]]>([
    ['subject', 'an empty sub', { claims: { sub: '' } }],
    ['subject', 'a sub of 256 characters', { claims: { sub: 's'.repeat(256) } }],
    ['subject', 'a NUL in its sub', { claims: { sub: 'a\0' } }],
    ['authorized_party', "another client's azp beside one aud", { claims: { azp: 'other' } }],
    [
      'authorized_party',
      "another client's azp beside a list of one",
      { claims: { azp: 'other', aud: ['api-gateway'] } },
    ],
    ['audience', 'another audience', { claims: { aud: 'other' } }],
    ['issuer', 'another issuer', { claims: { iss: 'https://elsewhere.example' } }],
    ['nonce', 'another nonce', { claims: { nonce: 'other' } }],
    ['expired', 'a past expiry', { claims: { exp: 1 } }],
    ['critical_header', 'an extension that it demands', { header: { crit: ['b64'], b64: true } }],
    ['key_unknown', 'a key that the realm does not publish', { header: { kid: 'nobody' } }],
    ['token_type', 'an access token of type mac', { answer: { token_type: 'mac' } }],
    ['no_id_token', 'an answer without ID Token', { answer: { id_token: undefined } }],
    ['issuer_missing', 'a response without issuer', { iss: '' }],
  ])('is refused for its %s: %s', async (reason, _, answer) => {
    await expect(login(clientOf(), answer)).rejects.toMatchObject({
      code: 'callback_rejected',
      reason,
    });
  });

  test('whose ID Token names no key is good beside one key, and refused beside several', async () => {
    const client = clientOf();
    const header = { kid: undefined };
    expect((await login(client, { header })).identity.subject).toBe('s');
    await provider.rotateKeys(true);
    await expect(login(clientOf(), { header })).rejects.toMatchObject({
      code: 'callback_rejected',
      reason: 'kid_missing',
    });
    expect((await login(client, { claims: { sub: 's'.repeat(255) } })).identity.subject).toBe(
      's'.repeat(255),
    );
    await provider.rotateKeys();
    expect((await login(client)).identity.subject).toBe('s');
  });

  test('is held to the one algorithm that is set', async () => {
    provider.answerAlways({
      endpoint: 'discovery',
      body: { ...(await metadata()), id_token_signing_alg_values_supported: ['RS256', 'PS256'] },
    });
    await expect(login(clientOf({ idTokenAlgorithm: 'PS256' }))).rejects.toMatchObject({
      reason: 'algorithm',
    });
    const client = clientOf({ idTokenAlgorithm: 'RS256' });
    expect((await login(client)).identity.subject).toBe('s');
    expect(await client.providerAlgorithms()).toEqual(['RS256']);
    expect(await clientOf().providerAlgorithms()).toEqual(['RS256', 'PS256']);
  });

  test("that the provider refuses tells the provider's words, never more of the answer", async () => {
    provider.answerNext({
      status: 400,
      body: { error: 'invalid_grant', error_description: 'Code not valid\r\n', id_token: 'eyJ' },
    });
    const refused = clientOf().exchangeCode(
      new URL(
        `${REDIRECT_URI}?${new URLSearchParams({ code: 'c', state: 's', iss: provider.issuer })}`,
      ),
      { state: 's', oidcNonce: 'n', codeVerifier: 'v'.repeat(43) },
    );
    await expect(refused).rejects.toMatchObject({
      code: 'callback_rejected',
      reason: 'invalid_grant',
      providerSaid: 'invalid_grant: Code not valid',
    });
    const denied = new URLSearchParams({
      error: 'made_up',
      error_description: 'x'.repeat(300),
      state: 's',
      iss: provider.issuer,
    });
    await expect(
      clientOf().exchangeCode(new URL(`${REDIRECT_URI}?${denied}`), {
        state: 's',
        oidcNonce: 'n',
        codeVerifier: 'v'.repeat(43),
      }),
    ).rejects.toMatchObject({ reason: 'other_error', providerSaid: 'made_up: …' });
  });
});

describe('an access token', () => {
  test.each<[string, Record<string, unknown>, { iat?: number; exp: number }, number]>([
    ['its own exp', { expires_in: 300 }, { exp: 20 }, 20],
    ["the answer's expires_in", { expires_in: 10 }, { exp: 300 }, 10],
    [
      'the length of its life where the clocks differ',
      { expires_in: 300 },
      { iat: 3_600, exp: 3_630 },
      30,
    ],
    ['its own exp where the answer says nothing', { expires_in: undefined }, { exp: 40 }, 40],
  ])('ends by %s, whichever is earlier', async (_, answer, { iat = 0, exp }, left) => {
    const now = seconds();
    const accessToken = await provider.bearer({ iat: now + iat, exp: now + exp });
    const { tokenExpiresAt, tokenLifetimeSeconds } = await login(clientOf(), {
      answer: { access_token: accessToken, ...answer },
    });
    const ends = tokenExpiresAt.getTime() / 1000;
    expect(ends).toBeGreaterThanOrEqual(now + left);
    // Never later than the second in which the token itself is over.
    expect(ends).toBeLessThanOrEqual(exp === left ? now + left : seconds() + left + 1);
    expect(Math.abs(tokenLifetimeSeconds - left)).toBeLessThanOrEqual(1);
  });

  test('of type DPoP that is opaque is kept with the key that it is bound to', async () => {
    const dpop = await DpopKeys.from(pemOf(generateKeyPairSync('ed25519').privateKey));
    const client = clientOf({ dpop });
    const bound = await login(client, { answer: { token_type: 'DPoP' } });
    expect(credentialOf(bound.accessToken)).toEqual({
      token: 'opaque',
      thumbprint: dpop.thumbprint,
    });
    expect(dpop.binding(bound.accessToken)).toBe('ours');
    expect((await login(client)).accessToken).toBe('opaque');
    provider.answerNext({ body: { access_token: 'other', token_type: 'DPoP' } });
    expect(dpop.binding((await client.grant('urn:x', {})).accessToken)).toBe('ours');
  });
});

test('a refreshed ID Token about somebody else is told before userinfo is asked', async () => {
  const client = clientOf({ userinfo: true });
  const { refreshToken, sub } = await provider.grant();
  provider.settings.idTokenOnRefresh = true;
  provider.setUser('demo', { idTokenClaims: { sub: 'somebody else' } });
  provider.resetCounts();
  expect((await client.refresh(refreshToken, sub)).identity.subject).toBe('somebody else');
  expect(provider.counts.userinfo).toBe(0);
  provider.setUser('demo', { idTokenClaims: {} });
  provider.settings.idTokenOnRefresh = false;
});

describe("the client's own key", () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ed = generateKeyPairSync('ed25519');

  /** The headers of the assertion and the proof in one token request to a provider that lists these algorithms. */
  const shown = async (
    key: KeyObject,
    listed: string[] | undefined,
    options: Partial<KeycloakClientOptions> = {},
  ) => {
    provider.answerNext({
      endpoint: 'discovery',
      body: {
        ...(await metadata()),
        token_endpoint_auth_signing_alg_values_supported: listed,
        dpop_signing_alg_values_supported: listed,
      },
    });
    const sent: { form: URLSearchParams; proof: string | null }[] = [];
    const client = clientOf({
      clientAuth: 'private_key_jwt',
      clientKey: pemOf(key),
      dpop: await DpopKeys.from(pemOf(key), options.clientKeyAlgorithm),
      fetch: (url, init) => {
        if (init?.method === 'POST')
          sent.push({
            form: new URLSearchParams(init.body as URLSearchParams),
            proof: new Headers(init.headers).get('dpop'),
          });
        return fetch(url, init);
      },
      ...options,
    });
    const unlisted = await client.unlistedAlgorithms();
    await login(client);
    const assertion = sent[0]?.form.get('client_assertion') ?? '';
    return {
      header: decodeProtectedHeader(assertion),
      claims: decodeJwt(assertion),
      proof: decodeProtectedHeader(sent[0]?.proof ?? '').alg,
      unlisted,
    };
  };

  test.each<[string, KeyObject, string[] | undefined, string | undefined, string]>([
    ['RSA', rsa.privateKey, undefined, undefined, 'RS256'],
    ['RSA', rsa.privateKey, ['ES256', 'PS256', 'RS256'], undefined, 'RS256'],
    ['RSA', rsa.privateKey, ['ES256', 'PS256'], undefined, 'PS256'],
    ['RSA', rsa.privateKey, ['RS256'], 'PS256', 'PS256'],
    ['P-256', ec.privateKey, ['RS256', 'ES256'], undefined, 'ES256'],
    ['Ed25519', ed.privateKey, undefined, undefined, 'EdDSA'],
    ['Ed25519', ed.privateKey, ['EdDSA', 'Ed25519'], undefined, 'EdDSA'],
    ['Ed25519', ed.privateKey, ['Ed25519'], undefined, 'Ed25519'],
    ['Ed25519', ed.privateKey, ['EdDSA'], 'Ed25519', 'Ed25519'],
  ])(
    'of %s signs at a provider that lists %3$j, with %4$s set, as %5$s',
    async (_, key, listed, clientKeyAlgorithm, expected) => {
      const { header, proof, unlisted } = await shown(key, listed, { clientKeyAlgorithm });
      expect([header.alg, proof]).toEqual([expected, expected]);
      expect(unlisted).toHaveLength(listed?.includes(expected) === false ? 2 : 0);
    },
  );

  test('is named by its thumbprint, or as it is told, in an assertion for the issuer and a minute', async () => {
    const { header, claims } = await shown(ec.privateKey, undefined);
    expect(header.kid).toBe(await calculateJwkThumbprint(ec.publicKey.export({ format: 'jwk' })));
    expect(claims).toMatchObject({
      aud: provider.issuer,
      iss: provider.clientId,
      sub: provider.clientId,
      jti: expect.any(String),
    });
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(60);
    const named = await shown(ec.privateKey, undefined, { clientKeyId: 'gateway-2026' });
    expect(named.header.kid).toBe('gateway-2026');
  });
});
