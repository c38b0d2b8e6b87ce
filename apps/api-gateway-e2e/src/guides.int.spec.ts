import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { type Guide, startGuides } from './guides.js';

/** What Keycloak's authorization services would decide. */
const GRANTED = 'order#view';

describe('the programs of the migration guides', () => {
  let issuer: string;
  let server: Server;
  let guides: Guide[] = [];
  let tokenWith: (claims?: Record<string, unknown>) => Promise<string>;

  beforeAll(async () => {
    const { publicKey, privateKey } = await generateKeyPair('RS256');
    const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'RS256' }] };
    server = createServer((request, response) => {
      let form = '';
      request.on('data', (piece) => (form += String(piece)));
      request.on('end', () => {
        const granted = new URLSearchParams(form).get('permission') === GRANTED;
        const decision = granted ? { result: true } : { error: 'access_denied' };
        const ofKeys = request.url?.endsWith('/certs') === true;
        response.writeHead(ofKeys || granted ? 200 : 403);
        response.end(JSON.stringify(ofKeys ? keys : decision));
      });
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}/realms/shop`;
    tokenWith = (claims = {}) =>
      new SignJWT({
        typ: 'Bearer',
        preferred_username: 'demo',
        email: 'demo@example.com',
        realm_access: { roles: ['user'] },
        resource_access: { 'api-gateway': { roles: ['reader'] } },
        ...claims,
      })
        .setProtectedHeader({ alg: 'RS256', kid: 'k', typ: 'JWT' })
        .setIssuer(issuer)
        .setSubject('1')
        .setAudience('orders')
        .setExpirationTime('5m')
        .sign(privateKey);
    guides = await startGuides(issuer);
  });
  afterAll(async () => {
    await Promise.all(guides.map((guide) => guide.stop()));
    server.closeAllConnections();
    server.close();
  });

  const ask = (name: string, path: string, token: string | null): Promise<Response> => {
    const port = guides.find((guide) => guide.name === name)?.port ?? 0;
    const headers = token === null ? {} : { authorization: `Bearer ${token}` };
    return fetch(`http://127.0.0.1:${port}${path}`, { headers });
  };

  test.each<[string, string, number, number, number]>([
    ['keycloak-connect', '/orders', 401, 200, 200],
    ['keycloak-connect', '/orders/admin', 401, 403, 200],
    ['keycloak-connect', '/orders/read', 401, 200, 403],
    ['keycloak-connect', '/orders/own', 401, 403, 200],
    ['keycloak-connect', '/orders/of/demo', 401, 200, 200],
    ['keycloak-connect', '/orders/of/alice', 401, 403, 200],
    ['keycloak-connect', '/orders/view', 401, 200, 200],
    ['keycloak-connect', '/orders/delete', 401, 403, 403],
    ['keycloak-connect', '/orders/hello', 200, 200, 200],
    ['oauth2-proxy', '/', 401, 200, 403],
    ['mod-auth-openidc', '/reports', 401, 200, 200],
    ['mod-auth-openidc', '/reports/admin', 401, 403, 200],
    ['express-openid-connect', '/', 200, 200, 200],
    ['express-openid-connect', '/profile', 401, 200, 200],
    ['express-openid-connect', '/staff', 401, 403, 200],
    ['next-auth', '/api/me', 401, 200, 200],
  ])(
    'from %s: %s answers nobody %i, a user %i, an administrator %i',
    async (name, path, ...expected) => {
      const boss = await tokenWith({
        realm_access: { roles: ['admin'] },
        resource_access: { orders: { roles: ['picker'] } },
      });
      const answers = [null, await tokenWith(), boss].map((token) => ask(name, path, token));
      expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(expected);
    },
  );

  test('let no token of another issuer in, and say who it is', async () => {
    const token = await tokenWith();
    for (const { name } of guides) {
      const path = { 'keycloak-connect': '/orders', 'mod-auth-openidc': '/reports' }[name];
      const forged = await ask(name, path ?? '/profile', `${token.slice(0, -9)}AAAAAAAAA`);
      expect([name, forged.status]).toEqual([name, 401]);
    }
    const seen = await ask('oauth2-proxy', '/', token);
    expect(await seen.json()).toEqual({ user: 'demo', email: 'demo@example.com' });
  });

  test('stand beside routes that are JSON, with the address of the program', () => {
    for (const { name, routes, port } of guides) {
      const upstreams = (JSON.parse(routes) as { upstream: string }[]).map((one) => one.upstream);
      expect([name, ...new Set(upstreams)]).toEqual([name, `http://127.0.0.1:${port}`]);
    }
  });
});
