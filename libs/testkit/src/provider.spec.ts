import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose';
import { type ProviderStub, startProviderStub } from './provider.js';

interface TokenAnswer {
  access_token: string;
  refresh_token: string;
  id_token: string;
  error?: string;
}

describe('the provider stub', () => {
  let provider: ProviderStub;
  beforeEach(async () => void (provider = await startProviderStub()));
  afterEach(() => provider.dispose());
  const redirectUri = 'http://gateway.test/auth/callback';

  async function token(
    form: Record<string, string>,
  ): Promise<{ status: number; body: TokenAnswer }> {
    const basic = Buffer.from(`${provider.clientId}:${provider.clientSecret}`).toString('base64');
    const response = await fetch(`${provider.issuer}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams(form),
      headers: { authorization: `Basic ${basic}` },
    });
    return { status: response.status, body: (await response.json()) as TokenAnswer };
  }
  const refresh = (refreshToken: string): ReturnType<typeof token> =>
    token({ grant_type: 'refresh_token', refresh_token: refreshToken });

  async function authorize(verifier: string): Promise<URL> {
    const query = new URLSearchParams({
      client_id: provider.clientId,
      redirect_uri: redirectUri,
      response_type: 'code',
      scope: 'openid',
      state: 'st',
      nonce: 'no',
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
      login_hint: 'alice',
    });
    const response = await fetch(`${provider.issuer}/protocol/openid-connect/auth?${query}`, {
      redirect: 'manual',
    });
    return new URL(response.headers.get('location') ?? '');
  }
  const redeem = (code: string, verifier: string): ReturnType<typeof token> =>
    token({
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUri,
      code_verifier: verifier,
    });

  test('issues verifiable tokens for a code with the right verifier', async () => {
    const verifier = randomBytes(32).toString('base64url');
    const back = await authorize(verifier);
    expect([back.searchParams.get('state'), back.searchParams.get('iss')]).toEqual([
      'st',
      provider.issuer,
    ]);
    const { body } = await redeem(back.searchParams.get('code') ?? '', verifier);
    const keys = createRemoteJWKSet(new URL(`${provider.issuer}/protocol/openid-connect/certs`));
    const { payload } = await jwtVerify(body.id_token, keys, {
      issuer: provider.issuer,
      audience: provider.clientId,
    });
    expect(payload).toMatchObject({ nonce: 'no', preferred_username: 'alice' });
    expect((await jwtVerify(body.access_token, keys)).payload).toMatchObject({
      resource_access: { 'api-gateway': { roles: ['reader', 'writer'] } },
    });
  });

  test('refuses a wrong verifier, and a second use of a code ends its session', async () => {
    const wrong = (await authorize('a'.repeat(43))).searchParams.get('code') ?? '';
    expect((await redeem(wrong, 'b'.repeat(43))).body.error).toBe('invalid_grant');
    const code = (await authorize('a'.repeat(43))).searchParams.get('code') ?? '';
    const { body } = await redeem(code, 'a'.repeat(43));
    expect((await redeem(code, 'a'.repeat(43))).body.error).toBe('invalid_grant');
    expect((await refresh(body.refresh_token)).body.error).toBe('invalid_grant');
  });

  test('ends the whole family when a replaced refresh token is used again', async () => {
    const first = await provider.grant();
    const second = (await refresh(first.refreshToken)).body;
    expect((await refresh(first.refreshToken)).body.error).toBe('invalid_grant');
    expect((await refresh(second.refresh_token)).body.error).toBe('invalid_grant');
    expect(provider.counts).toMatchObject({ refresh: 3, invalidGrants: 2 });
    expect(provider.isSessionAlive(first.sid)).toBe(false);
  });

  test('lets one of six parallel refreshes win, and the winner loses too', async () => {
    const { refreshToken } = await provider.grant();
    const answers = await Promise.all(Array.from({ length: 6 }, () => refresh(refreshToken)));
    const [winner] = answers.filter(({ status }) => status === 200);
    expect(answers.filter(({ status }) => status === 400)).toHaveLength(5);
    expect((await refresh(winner?.body.refresh_token ?? '')).status).toBe(400);
  });

  test('accepts old refresh tokens as far as reuse or missing rotation allow', async () => {
    provider.settings.reuse = 1;
    const { refreshToken } = await provider.grant();
    expect((await refresh(refreshToken)).status).toBe(200);
    expect((await refresh(refreshToken)).status).toBe(200);
    expect((await refresh(refreshToken)).status).toBe(400);
    provider.settings.rotation = false;
    const other = await provider.grant();
    for (let i = 0; i < 3; i += 1) expect((await refresh(other.refreshToken)).status).toBe(200);
  });

  test('answers as it is told, once each', async () => {
    const { refreshToken } = await provider.grant();
    provider.answerNext(
      { status: 503, body: { error: 'temporarily_unavailable' }, headers: { 'retry-after': '1' } },
      { drop: true },
      { garbage: true },
    );
    expect((await refresh(refreshToken)).status).toBe(503);
    await expect(refresh(refreshToken)).rejects.toThrow();
    await expect(refresh(refreshToken)).rejects.toThrow('not valid JSON');
    provider.answerNext({ truncate: true, delayMs: 20 });
    await expect(refresh(refreshToken)).rejects.toThrow();
    expect((await refresh(refreshToken)).body.error).toBe('invalid_grant');
  });

  test('rotates and says nothing when it is cut off after the work', async () => {
    const { refreshToken, sid } = await provider.grant();
    provider.answerNext({ dropAfterSending: true });
    await expect(refresh(refreshToken)).rejects.toThrow();
    expect(provider.isSessionAlive(sid)).toBe(true);
    expect((await refresh(refreshToken)).body.error).toBe('invalid_grant');
  });

  test('refuses a wrong client and knows nothing of strangers', async () => {
    const response = await fetch(`${provider.issuer}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'refresh_token',
        client_id: 'api-gateway',
        client_secret: 'wrong',
      }),
    });
    expect([response.status, await response.json()]).toEqual([
      401,
      expect.objectContaining({ error: 'invalid_client' }),
    ]);
    expect((await refresh('unknown')).body.error).toBe('invalid_grant');
  });

  test('signs logout tokens with any claim replaced or removed', async () => {
    const jwt = await provider.logoutToken({ sub: 's', sid: 'i', jti: undefined });
    const certs = (await (
      await fetch(`${provider.issuer}/protocol/openid-connect/certs`)
    ).json()) as Parameters<typeof createLocalJWKSet>[0];
    const { payload, protectedHeader } = await jwtVerify(jwt, createLocalJWKSet(certs));
    expect(protectedHeader.typ).toBe('logout+jwt');
    expect(payload).toMatchObject({
      sub: 's',
      sid: 'i',
      events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
    });
    expect(payload).not.toHaveProperty('jti');
  });

  test('keeps its sessions over a stop and a start', async () => {
    const { refreshToken } = await provider.grant();
    await provider.stop();
    await expect(refresh(refreshToken)).rejects.toThrow();
    await provider.start();
    expect((await refresh(refreshToken)).status).toBe(200);
  });

  test('can show another subject, other roles and other keys from one answer to the next', async () => {
    const { refreshToken } = await provider.grant('bob');
    provider.setUser('bob', { realmRoles: ['boss'], idTokenClaims: { sub: 'someone-else' } });
    await provider.rotateKeys();
    const { body } = await refresh(refreshToken);
    const keys = createRemoteJWKSet(new URL(`${provider.issuer}/protocol/openid-connect/certs`));
    expect((await jwtVerify(body.id_token, keys)).payload.sub).toBe('someone-else');
    expect((await jwtVerify(body.access_token, keys)).payload).toMatchObject({
      realm_access: { roles: ['boss'] },
    });
  });
});
