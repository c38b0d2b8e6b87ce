import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  describeWith,
  type HttpBrowser,
  type KeycloakServer,
  type UpstreamRequest,
} from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

const routes = (upstream: string): string =>
  JSON.stringify([
    { path: '/view', upstream, enforce: ['orders:view'] },
    { path: '/delete', upstream, enforce: ['orders:view', 'orders:delete'], token: 'none' },
    { path: '/unknown', upstream, enforce: ['nothing'] },
    { path: '/warehouse', upstream, token: { audience: 'warehouse' } },
    { path: '/elsewhere', upstream, token: { audience: 'elsewhere' } },
    { path: '/api', upstream },
  ]);

describeWith(['keycloak'], 'what a route asks of Keycloak', () => {
  let stack: Stack;
  let folder: string;
  let [demo, alice]: HttpBrowser[] = [];
  const last = (): UpstreamRequest => stack.upstream.requests.at(-1)!;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'client-key-'));
    const keys = [
      generateKeyPairSync('rsa', { modulusLength: 2048 }),
      generateKeyPairSync('ec', { namedCurve: 'P-256' }),
      generateKeyPairSync('ed25519'),
    ];
    for (const [i, { privateKey }] of keys.entries())
      await writeFile(
        join(folder, `client${i}.pem`),
        privateKey.export({ type: 'pkcs8', format: 'pem' }),
      );
    stack = await startStack({
      keycloak: { accessTokenLifespanSeconds: 300 },
      gateways: 3,
      redis: false,
      start: false,
    });
    // As while a key is rolled: the client has several at Keycloak, and each instance names its own.
    const jwks = await Promise.all(
      keys.map(async ({ publicKey }) => {
        const jwk = publicKey.export({ format: 'jwk' }) as JWK;
        return { ...jwk, kid: await calculateJwkThumbprint(jwk), use: 'sig' };
      }),
    );
    jwks[2]!.kid = 'named by hand';
    await setUp(stack.keycloak!, JSON.stringify({ keys: jwks }));
    for (const [i, more] of [
      { KEYCLOAK_CLIENT_KEY_ALG: 'PS256' },
      {},
      { KEYCLOAK_CLIENT_KEY_ID: 'named by hand' },
    ].entries()) {
      await stack.startGateway({
        GATEWAY_ROUTES: routes(stack.upstream.url),
        KEYCLOAK_CLIENT_AUTH: 'private_key_jwt',
        KEYCLOAK_CLIENT_KEY_FILE: join(folder, `client${i}.pem`),
        KEYCLOAK_CLIENT_SECRET: undefined,
        KEYCLOAK_PAR: 'true',
        ...more,
      });
    }
    [demo, alice] = [await stack.login('demo'), await stack.login('alice')];
  });
  afterAll(async () => {
    await stack?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  test('the gateway logs people in with a key in place of a secret, by a request sent ahead', async () => {
    const start = await demo!.navigate(`${stack.url}/auth/login`);
    expect([...start.location!.searchParams.keys()].sort()).toEqual(['client_id', 'request_uri']);
    expect((await demo!.get(`${stack.url}/auth/session`)).status).toBe(200);
    // RSA with PS256, EC with ES256 and Ed25519 with EdDSA, each of three keys that the client has there.
    for (const { url } of stack.gateways)
      expect(
        (
          await demo!.post(`${url}/auth/refresh?force=true`, undefined, {
            headers: { origin: stack.url },
          })
        ).status,
      ).toBe(200);
  });

  test('a permission is granted to whom Keycloak grants it, all that a route names are needed, and the verdict is kept', async () => {
    await stack.keycloak!.clearEvents();
    for (let i = 0; i < 5; i++) expect((await demo!.get(`${stack.url}/view/x`)).status).toBe(200);
    const refused = await demo!.get(`${stack.url}/delete/x`);
    expect([refused.status, problemCode(refused)]).toEqual([403, 'forbidden']);
    expect((await alice!.get(`${stack.url}/delete/x`)).status).toBe(200);
    expect(last().bearer).toBeNull();
    const asked = await stack.keycloak!.events({
      type: ['PERMISSION_TOKEN', 'PERMISSION_TOKEN_ERROR'],
    });
    expect(asked.length).toBeLessThanOrEqual(5);
  });

  test('a permission that Keycloak does not know lets nobody through', async () => {
    const answer = await alice!.get(`${stack.url}/unknown/x`);
    expect([answer.status, problemCode(answer)]).toEqual([502, 'provider_rejected']);
  });

  test('a bearer client is held to the same', async () => {
    const headers = { authorization: `Bearer ${await bearer(stack.keycloak!, 'demo')}` };
    expect((await demo!.get(`${stack.url}/view/x`, { headers, cookies: false })).status).toBe(200);
    expect((await demo!.get(`${stack.url}/delete/x`, { headers, cookies: false })).status).toBe(
      403,
    );
    expect((await demo!.get(`${stack.url}/warehouse/x`, { headers, cookies: false })).status).toBe(
      200,
    );
    expect(last().claims).toMatchObject({ aud: 'warehouse', preferred_username: 'demo' });
  });

  test('a token for another audience is exchanged once, however many instances ask, and kept sealed', async () => {
    await stack.keycloak!.clearEvents();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => demo!.get(`${stack.gateways[i % 2]!.url}/warehouse/x`)),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(last().claims).toMatchObject({ aud: 'warehouse', preferred_username: 'demo' });
    expect(
      new Set(
        stack.upstream.requests
          .filter(({ url }) => url.startsWith('/warehouse'))
          .slice(-20)
          .map((seen) => seen.bearer),
      ).size,
    ).toBe(1);
    expect(await stack.keycloak!.events({ type: 'TOKEN_EXCHANGE' })).toHaveLength(1);
    const rows = await stack.sql<{ audience: string; access_token: string }>(
      'SELECT audience, access_token FROM exchanged_tokens',
    );
    expect(rows).toEqual([
      { audience: 'warehouse', access_token: expect.stringMatching(/^v2\.k1\./) },
    ]);
  });

  test("an exchanged token is renewed with the session's own", async () => {
    await demo!.get(`${stack.url}/warehouse/x`);
    const before = last().bearer;
    await demo!.post(`${stack.url}/auth/refresh?force=true`);
    expect((await demo!.get(`${stack.url}/warehouse/x`)).status).toBe(200);
    expect(last().bearer).not.toBe(before);
    await stack.keycloak!.clearEvents();
    stack.upstream.refuse(last().bearer!);
    expect((await demo!.get(`${stack.url}/warehouse/x`)).status).toBe(200);
    expect(
      (await stack.keycloak!.events({ type: ['TOKEN_EXCHANGE', 'REFRESH_TOKEN'] }))
        .map(({ type }) => type)
        .sort(),
    ).toEqual(['REFRESH_TOKEN', 'TOKEN_EXCHANGE']);
  });

  test("an audience that Keycloak refuses is our fault, not the session's", async () => {
    for (let i = 0; i < 2; i++) {
      const answer = await demo!.get(`${stack.url}/elsewhere/x`);
      expect([answer.status, problemCode(answer)]).toEqual([502, 'provider_rejected']);
    }
    expect((await demo!.get(`${stack.url}/auth/session`)).status).toBe(200);
  });

  test('exchanged tokens go with their session', async () => {
    await demo!.get(`${stack.url}/warehouse/x`);
    expect(
      await stack.sql('SELECT 1 FROM exchanged_tokens WHERE access_token IS NOT NULL'),
    ).toHaveLength(1);
    await demo!.post(`${stack.url}/auth/logout`, undefined, {
      headers: { accept: 'application/json' },
    });
    expect(await stack.sql('SELECT 1 FROM exchanged_tokens')).toHaveLength(0);
  });

  test('a session that Keycloak does not serve any more is over at the first route that asks there', async () => {
    for (const path of ['/view/x', '/warehouse/x']) {
      const user = await stack.login('alice');
      await stack.keycloak!.setUserEnabled('alice', false);
      const answer = await user.get(stack.url + path);
      expect([path, answer.status, problemCode(answer)]).toEqual([
        path,
        401,
        'reauthentication_required',
      ]);
      await stack.keycloak!.setUserEnabled('alice', true);
    }
  });
});

async function bearer(keycloak: KeycloakServer, username: string): Promise<string> {
  const response = await fetch(`${keycloak.issuer}/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'password',
      client_id: 'reports',
      client_secret: 'development-only-secret',
      username,
      password: username,
    }),
  });
  return ((await response.json()) as { access_token: string }).access_token;
}

/** Authorization services with one resource, token exchange for one audience, and a key in place of the secret. */
async function setUp(keycloak: KeycloakServer, jwks: string): Promise<void> {
  const { admin, clientId } = keycloak;
  await keycloak.setClient({
    serviceAccountsEnabled: true,
    authorizationServicesEnabled: true,
    clientAuthenticatorType: 'client-jwt',
    attributes: {
      'standard.token.exchange.enabled': 'true',
      'use.jwks.string': 'true',
      'jwks.string': jwks,
    },
  });
  await admin('POST', '/clients', {
    clientId: 'warehouse',
    publicClient: false,
    standardFlowEnabled: false,
  });
  const [gateway] = (await admin('GET', `/clients?clientId=${clientId}`)) as { id: string }[];
  const client = `/clients/${gateway!.id}`;
  await admin('POST', `${client}/protocol-mappers/models`, {
    name: 'audience warehouse',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-audience-mapper',
    config: { 'included.client.audience': 'warehouse', 'access.token.claim': 'true' },
  });
  const server = `${client}/authz/resource-server`;
  await admin('POST', `${server}/resource`, {
    name: 'orders',
    scopes: [{ name: 'view' }, { name: 'delete' }],
  });
  const roles = (await admin('GET', `${client}/roles`)) as { id: string; name: string }[];
  for (const [scope, role] of [
    ['view', 'reader'],
    ['delete', 'writer'],
  ] as const) {
    await admin('POST', `${server}/policy/role`, {
      name: role,
      roles: [{ id: roles.find(({ name }) => name === role)!.id, required: true }],
    });
    await admin('POST', `${server}/permission/scope`, {
      name: `${scope} orders`,
      resources: ['orders'],
      scopes: [scope],
      policies: [role],
    });
  }
}
