import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import * as oidc from 'openid-client';
import { createDevelopmentProvider, type DevelopmentProvider } from './developmentProvider.js';

const dataDir = mkdtempSync(join(tmpdir(), 'session-gateway-provider-'));
const logoutTokens: string[] = [];
let server: Server;
let origin: string;
let provider: DevelopmentProvider;
let client: oidc.Configuration;

/** The provider on the server's port, as the gateway mounts it. */
async function mount(): Promise<DevelopmentProvider> {
  return createDevelopmentProvider({
    issuer: `${origin}/realms/neurotracker`,
    dataDir,
    clientId: 'api-gateway',
    clientSecret: 'secret',
    redirectUris: [`${origin}/auth/callback`],
    postLogoutRedirectUris: [`${origin}/`],
    backchannelLogoutUri: `${origin}/auth/backchannel-logout`,
  });
}

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url?.startsWith('/realms/')) return provider.handler(request, response);
    if (request.url === '/auth/backchannel-logout')
      return void text(request).then((body) => {
        logoutTokens.push(new URLSearchParams(body).get('logout_token') ?? '');
        response.end();
      });
    response.end('the application');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://localhost:${(server.address() as AddressInfo).port}`;
  provider = await mount();
  client = await oidc.discovery(
    new URL(`${origin}/realms/neurotracker`),
    'api-gateway',
    {},
    oidc.ClientSecretBasic('secret'),
    { execute: [oidc.allowInsecureRequests] },
  );
});
afterAll(async () => {
  await provider.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dataDir, { recursive: true, force: true });
});

async function text(request: IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of request) body += String(chunk);
  return body;
}

interface Step {
  url: string;
  status: number;
  body: string;
}

/** A browser's walk: cookies by path, redirects up to the application. */
class Walk {
  readonly cookies = new Map<string, { value: string; path: string }>();

  async go(url: string, form?: Record<string, string>): Promise<Step> {
    const path = new URL(url).pathname;
    const cookie = [...this.cookies]
      .filter(([, { path: at }]) => path.startsWith(at))
      .map(([name, { value }]) => `${name}=${value}`)
      .join('; ');
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { cookie },
      ...(form ? { method: 'POST', body: new URLSearchParams(form) } : {}),
    });
    for (const header of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(header) ?? [];
      this.cookies.set(name, { value, path: /path=([^;]+)/i.exec(header)?.[1] ?? '/' });
    }
    const location = response.headers.get('location');
    if (location === null) return { url, status: response.status, body: await response.text() };
    const next = new URL(location, url).href;
    return next.startsWith(`${origin}/realms/`)
      ? this.go(next)
      : { url: next, status: response.status, body: '' };
  }
}
const form = (page: Step): string =>
  new URL(
    (/action="([^"]+)"/.exec(page.body)?.[1] ?? '')
      .replaceAll('&amp;', '&')
      .replaceAll('&#38;', '&'),
    page.url,
  ).href;

async function login(
  walk = new Walk(),
): Promise<oidc.TokenEndpointResponse & oidc.TokenEndpointResponseHelpers> {
  const [verifier, state, nonce] = [
    oidc.randomPKCECodeVerifier(),
    oidc.randomState(),
    oidc.randomNonce(),
  ];
  const start = oidc.buildAuthorizationUrl(client, {
    redirect_uri: `${origin}/auth/callback`,
    scope: 'openid profile email',
    state,
    nonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const page = await walk.go(start.href);
  const wrong = await walk.go(form(page), { username: 'demo', password: 'wrong' });
  expect(wrong.body).toContain('User name or password is wrong.');
  const back = await walk.go(form(wrong), { username: 'demo', password: 'demo' });
  return oidc.authorizationCodeGrant(client, new URL(back.url), {
    expectedState: state,
    expectedNonce: nonce,
    pkceCodeVerifier: verifier,
    idTokenExpected: true,
  });
}

test("the development provider speaks as its issuer under whatever address it is reached, with Keycloak's routes", async () => {
  const metadata = (await (
    await fetch(
      `${origin.replace('localhost', '127.0.0.1')}/realms/neurotracker/.well-known/openid-configuration`,
    )
  ).json()) as Record<string, string>;
  const issuer = `${origin}/realms/neurotracker`;
  expect(metadata).toMatchObject({
    issuer,
    authorization_endpoint: `${issuer}/protocol/openid-connect/auth`,
    token_endpoint: `${issuer}/protocol/openid-connect/token`,
    jwks_uri: `${issuer}/protocol/openid-connect/certs`,
    end_session_endpoint: `${issuer}/protocol/openid-connect/logout`,
    revocation_endpoint: `${issuer}/protocol/openid-connect/revoke`,
    authorization_response_iss_parameter_supported: true,
  });
});

test("it gives tokens with Keycloak's claims, and keeps its cookies to itself", async () => {
  const walk = new Walk();
  const tokens = await login(walk);
  expect(tokens).toMatchObject({ expires_in: 300, refresh_expires_in: 1800 });
  const access = decodeJwt(tokens.access_token);
  expect(access).toMatchObject({
    typ: 'Bearer',
    azp: 'api-gateway',
    aud: 'account',
    preferred_username: 'demo',
    realm_access: { roles: ['user'] },
    resource_access: { 'api-gateway': { roles: ['reader'] } },
  });
  const id = tokens.claims()!;
  expect(id).toMatchObject({
    sub: access.sub,
    preferred_username: 'demo',
    email: 'demo@example.com',
    name: 'Demo User',
    sid: access['sid'],
  });
  for (const [name, { path }] of walk.cookies)
    expect([name, path.startsWith('/realms/neurotracker/')]).toEqual([name, true]);
});

test('it requires PKCE', async () => {
  const page = await new Walk().go(
    oidc.buildAuthorizationUrl(client, {
      redirect_uri: `${origin}/auth/callback`,
      scope: 'openid',
      state: 'x',
    }).href,
  );
  expect(new URL(page.url).searchParams.get('error')).toBe('invalid_request');
});

test('it replaces a refresh token at each use, and ends the grant when an old one comes back', async () => {
  const first = await login();
  const second = await oidc.refreshTokenGrant(client, first.refresh_token!);
  expect(second.refresh_token).not.toBe(first.refresh_token);
  expect(decodeJwt(second.access_token)).toMatchObject({
    typ: 'Bearer',
    sid: decodeJwt(first.access_token)['sid'],
  });
  await expect(oidc.refreshTokenGrant(client, first.refresh_token!)).rejects.toMatchObject({
    error: 'invalid_grant',
  });
  await expect(oidc.refreshTokenGrant(client, second.refresh_token!)).rejects.toMatchObject({
    error: 'invalid_grant',
  });
});

test('it remembers grants and keys over a restart', async () => {
  const tokens = await login();
  await provider.close();
  provider = await mount();
  const refreshed = await oidc.refreshTokenGrant(client, tokens.refresh_token!);
  expect(decodeProtectedHeader(refreshed.access_token).kid).toBe(
    decodeProtectedHeader(tokens.access_token).kid,
  );
});

test('it ends a session from server to server, for the browser too', async () => {
  const walk = new Walk();
  const tokens = await login(walk);
  const loginUrl = oidc.buildAuthorizationUrl(client, {
    redirect_uri: `${origin}/auth/callback`,
    scope: 'openid',
    code_challenge: await oidc.calculatePKCECodeChallenge(oidc.randomPKCECodeVerifier()),
    code_challenge_method: 'S256',
  }).href;
  expect((await walk.go(loginUrl)).url).toContain('/auth/callback?code=');
  const sent = logoutTokens.length;
  const logout = (secret: string, refreshToken: string) =>
    fetch(client.serverMetadata().end_session_endpoint!, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`api-gateway:${secret}`).toString('base64')}`,
      },
      body: new URLSearchParams({ refresh_token: refreshToken }),
    });
  expect((await logout('wrong', tokens.refresh_token!)).status).toBe(401);
  expect((await logout('secret', 'unknown')).status).toBe(400);
  expect((await logout('secret', tokens.refresh_token!)).status).toBe(204);
  await expect(oidc.refreshTokenGrant(client, tokens.refresh_token!)).rejects.toMatchObject({
    error: 'invalid_grant',
  });
  const again = await walk.go(loginUrl);
  expect(again.body).toContain('type="password"');
  expect(logoutTokens.length).toBe(sent + 1);
});

test('it logs out and tells the application through the back channel', async () => {
  const walk = new Walk();
  const tokens = await login(walk);
  const page = await walk.go(
    oidc.buildEndSessionUrl(client, {
      post_logout_redirect_uri: `${origin}/`,
      id_token_hint: tokens.id_token!,
    }).href,
  );
  expect(page.body).toContain('document.forms[0].submit()');
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.body)?.[1] ?? '';
  const end = await walk.go(form(page), { xsrf, logout: 'yes' });
  expect(end.url).toBe(`${origin}/`);
  expect(decodeProtectedHeader(logoutTokens.at(-1)!)).toMatchObject({ typ: 'logout+jwt' });
  expect(decodeJwt(logoutTokens.at(-1)!)).toMatchObject({
    sub: tokens.claims()!.sub,
    sid: tokens.claims()!['sid'],
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
  });
  await expect(oidc.refreshTokenGrant(client, tokens.refresh_token!)).rejects.toMatchObject({
    error: 'invalid_grant',
  });
});
