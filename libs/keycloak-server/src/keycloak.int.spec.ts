import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { whyNoKeycloak } from './install.js';
import { type KeycloakServer, startKeycloak } from './keycloak.js';
import { freePort } from './ports.js';
import { until } from './until.js';

interface Tokens {
  access_token: string;
  refresh_token: string;
  id_token: string;
  refresh_expires_in: number;
}

const name = 'a real Keycloak with the development realm';
const missing = whyNoKeycloak();
if (missing !== null) {
  if (process.env['REQUIRE_SERVICES'] === '1')
    throw new Error(`REQUIRE_SERVICES=1, but: ${missing}`);
  if (process.env['SKIP_LOG']) appendFileSync(process.env['SKIP_LOG'], `${name}: ${missing}\n`);
}

(missing === null ? describe : describe.skip)(name, () => {
  let keycloak: KeycloakServer;
  let gateway: Server;
  let gatewayUrl: string;
  const logoutTokens: string[] = [];
  const endpoint = (name: string): string => `${keycloak.issuer}/protocol/openid-connect/${name}`;

  beforeAll(async () => {
    const port = await freePort();
    gatewayUrl = `http://127.0.0.1:${port}`;
    gateway = createServer((request, response) => {
      let body = '';
      request.on('data', (piece: Buffer) => (body += piece.toString()));
      request.on('end', () => {
        if (request.url === '/auth/backchannel-logout')
          logoutTokens.push(new URLSearchParams(body).get('logout_token') ?? '');
        response.end();
      });
    });
    await new Promise<void>((resolve) => gateway.listen(port, '127.0.0.1', resolve));
    keycloak = await startKeycloak({ gatewayUrl, accessTokenLifespanSeconds: 30 });
  });

  afterAll(async () => {
    await keycloak?.dispose();
    gateway.closeAllConnections();
    await new Promise((resolve) => gateway.close(resolve));
  });

  /** The code flow as a browser walks it, up to the redirect to the gateway. */
  async function login(username: string): Promise<{ code: string; verifier: string }> {
    const verifier = randomBytes(32).toString('base64url');
    const query = new URLSearchParams({
      client_id: keycloak.clientId,
      response_type: 'code',
      scope: 'openid',
      redirect_uri: `${gatewayUrl}/auth/callback`,
      state: 's',
      nonce: 'n',
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
    });
    const page = await fetch(`${endpoint('auth')}?${query}`, { redirect: 'manual' });
    const action =
      /<form[^>]+action="([^"]+)"/.exec(await page.text())?.[1]?.replaceAll('&amp;', '&') ?? '';
    const answer = await fetch(action, {
      method: 'POST',
      redirect: 'manual',
      body: new URLSearchParams({ username, password: username }),
      headers: {
        cookie: page.headers
          .getSetCookie()
          .map((cookie) => cookie.split(';')[0])
          .join('; '),
      },
    });
    const back = new URL(answer.headers.get('location') ?? 'about:blank');
    expect(back.origin).toBe(gatewayUrl);
    expect(back.searchParams.get('iss')).toBe(keycloak.issuer);
    return { code: back.searchParams.get('code') ?? '', verifier };
  }

  async function token(
    form: Record<string, string>,
    client = keycloak.clientId,
  ): Promise<{ status: number; body: Tokens & { error?: string } }> {
    const response = await fetch(endpoint('token'), {
      method: 'POST',
      body: new URLSearchParams({
        client_id: client,
        client_secret: keycloak.clientSecret,
        ...form,
      }),
    });
    return {
      status: response.status,
      body: (await response.json()) as Tokens & { error?: string },
    };
  }

  const redeem = ({
    code,
    verifier,
  }: {
    code: string;
    verifier: string;
  }): ReturnType<typeof token> =>
    token({
      grant_type: 'authorization_code',
      code,
      code_verifier: verifier,
      redirect_uri: `${gatewayUrl}/auth/callback`,
    });
  const refresh = (refreshToken: string): ReturnType<typeof token> =>
    token({ grant_type: 'refresh_token', refresh_token: refreshToken });
  const claims = (jwt: string): Record<string, unknown> =>
    JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString()) as Record<
      string,
      unknown
    >;

  test('gives tokens for a code with PKCE, and none without it', async () => {
    const { body } = await redeem(await login('demo'));
    expect(claims(body.access_token)).toMatchObject({
      iss: keycloak.issuer,
      azp: 'api-gateway',
      preferred_username: 'demo',
      realm_access: { roles: ['user'] },
      resource_access: { 'api-gateway': { roles: ['reader'] } },
    });
    expect(claims(body.id_token)).toMatchObject({
      aud: 'api-gateway',
      nonce: 'n',
      email: 'demo@example.com',
      name: 'Demo User',
    });

    expect((await redeem({ ...(await login('demo')), verifier: 'x'.repeat(43) })).body.error).toBe(
      'invalid_grant',
    );
    const query = new URLSearchParams({
      client_id: keycloak.clientId,
      response_type: 'code',
      scope: 'openid',
      redirect_uri: `${gatewayUrl}/auth/callback`,
    });
    const refused = await fetch(`${endpoint('auth')}?${query}`, { redirect: 'manual' });
    expect(
      new URL(refused.headers.get('location') ?? 'about:blank').searchParams.get('error'),
    ).toBe('invalid_request');
  });

  test('replaces the refresh token at each use, and ends the session when a used one comes again', async () => {
    await keycloak.clearEvents();
    const first = (await redeem(await login('alice'))).body;
    const second = (await refresh(first.refresh_token)).body;
    const third = (await refresh(second.refresh_token)).body;
    expect(new Set([first, second, third].map((tokens) => tokens.refresh_token)).size).toBe(3);

    // The one used last: Keycloak tells still older ones by whole seconds, so that within one second they may pass.
    expect(await refresh(second.refresh_token)).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    });
    expect(await refresh(third.refresh_token)).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    });

    const types = (await keycloak.events({ username: 'alice', clientId: 'api-gateway' }))
      .map(({ type }) => type)
      .reverse();
    expect(types).toEqual(['LOGIN', 'CODE_TO_TOKEN', 'REFRESH_TOKEN', 'REFRESH_TOKEN']);
    // A refused refresh is stored without the user.
    const refused = await keycloak.events({ type: 'REFRESH_TOKEN_ERROR', clientId: 'api-gateway' });
    expect(refused.map(({ error }) => error)).toEqual(['invalid_token', 'invalid_token']);
  });

  test('sends the gateway a logout token with the sid when the user is logged out', async () => {
    const { body } = await redeem(await login('bob'));
    const { sid, sub } = claims(body.id_token);
    expect((await keycloak.sessionsOf('bob')).map(({ id }) => id)).toContain(sid);
    logoutTokens.length = 0;
    await keycloak.logoutUser('bob');
    const logoutToken = await until(() => logoutTokens[0], { what: 'a logout token' });
    expect(claims(logoutToken)).toMatchObject({
      iss: keycloak.issuer,
      aud: 'api-gateway',
      sub,
      sid,
    });
    expect(await keycloak.sessionsOf('bob')).toEqual([]);
    expect(await refresh(body.refresh_token)).toMatchObject({
      status: 400,
      body: { error: 'invalid_grant' },
    });
  });

  test('gives other clients of the realm bearer tokens for the gateway', async () => {
    const { body } = await token(
      { grant_type: 'password', username: 'admin', password: 'admin', scope: 'openid' },
      'reports',
    );
    expect(claims(body.access_token)).toMatchObject({ aud: 'api-gateway', azp: 'reports' });
    expect(claims(body.access_token)['realm_access']).toEqual({
      roles: expect.arrayContaining(['user', 'admin', 'session-admin']),
    });
  });

  test('does not offer the gateway the password grant', async () => {
    expect(
      (await token({ grant_type: 'password', username: 'demo', password: 'demo' })).body.error,
    ).toBe('unauthorized_client');
  });

  test('keeps realm and sessions over a stop and a start', async () => {
    const { body } = await redeem(await login('demo'));
    await keycloak.stop();
    expect(keycloak.pid).toBeNull();
    await expect(fetch(keycloak.issuer)).rejects.toThrow();
    await keycloak.start();
    const again = await refresh(body.refresh_token);
    expect(again.status).toBe(200);
    expect(claims(again.body.access_token)['sid']).toBe(claims(body.access_token)['sid']);
  });

  test('is changed by tests: realm, client and users', async () => {
    await keycloak.setRealm({ accessTokenLifespan: 5 });
    await keycloak.setClient({
      attributes: { 'client.use.lightweight.access.token.enabled': 'true' },
    });
    const { body } = await redeem(await login('alice'));
    expect(
      Number(claims(body.access_token)['exp']) - Number(claims(body.access_token)['iat']),
    ).toBe(5);
    expect(claims(body.access_token)).not.toHaveProperty('realm_access');
    await keycloak.setUserEnabled('alice', false);
    expect((await refresh(body.refresh_token)).body.error).toBe('invalid_grant');
  });

  test('runs beside a second one', async () => {
    const other = await startKeycloak();
    try {
      expect(other.issuer).not.toBe(keycloak.issuer);
      expect(await other.sessionsOf('demo')).toEqual([]);
    } finally {
      await other.dispose();
    }
  });
});
