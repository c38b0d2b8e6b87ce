import 'reflect-metadata';
import { generateKeyPairSync } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Controller, Get, Logger, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { createGuard, type Guard, GuardError, rotatingNonces } from '@session-gateway/guard';
import { elysiaGuard } from '@session-gateway/guard/elysia';
import { expressGuard } from '@session-gateway/guard/express';
import { fastifyGuard } from '@session-gateway/guard/fastify';
import { honoGuard } from '@session-gateway/guard/hono';
import { nestGuard } from '@session-gateway/guard/nest';
import { nodeGuard } from '@session-gateway/guard/node';
import {
  freePort,
  type HttpBrowser,
  type KeycloakServer,
  describeWith,
} from '@session-gateway/testkit';
import { Elysia } from 'elysia';
import { WebStandardAdapter } from 'elysia/adapter/web-standard';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { type Guide, startGuides } from './guides.js';
import { type Stack, startStack } from './stack.js';

type Service = (...exchange: Parameters<RequestListener>) => unknown;

/** One service for each framework, which lets people with the realm role `user` in. */
const FRAMEWORKS: Record<string, (guard: Guard) => Promise<Service> | Service> = {
  node: (guard) =>
    nodeGuard(guard).protect('realm:user', (_request, response) => response.end('yes')),
  express: (guard) =>
    express().use(expressGuard(guard).protect('realm:user'), (_request, response) => {
      response.end('yes');
    }),
  fastify: async (guard) => {
    const app = fastify();
    app.get('/fastify/x', { onRequest: fastifyGuard(guard).protect('realm:user') }, () => 'yes');
    await app.ready();
    return (request, response) => app.routing(request, response);
  },
  hono: (guard) =>
    getRequestListener(
      new Hono().get('/hono/x', honoGuard(guard).protect('realm:user'), (c) => c.text('yes')).fetch,
    ),
  elysia: (guard) => {
    const beforeHandle = elysiaGuard(guard).protect('realm:user');
    const app = new Elysia({ adapter: WebStandardAdapter });
    return getRequestListener(app.get('/elysia/x', () => 'yes', { beforeHandle }).fetch);
  },
  nest: async (guard) => {
    class Orders {
      list(): string {
        return 'yes';
      }
    }
    const list = Object.getOwnPropertyDescriptor(Orders.prototype, 'list') ?? {};
    Get('x')(Orders.prototype, 'list', list);
    UseGuards(nestGuard(guard).protect('realm:user'))(Orders);
    Controller('nest')(Orders);
    Logger.overrideLogger(false);
    const app = await NestFactory.create({ module: Orders, controllers: [Orders] });
    await app.init();
    return app.getHttpAdapter().getInstance() as RequestListener;
  },
};

describeWith(['keycloak'], 'services behind the gateway', () => {
  let stack: Stack;
  let guides: Guide[] = [];
  const servers: Server[] = [];
  let [demo, admin]: HttpBrowser[] = [];

  beforeAll(async () => {
    stack = await startStack({
      keycloak: { accessTokenLifespanSeconds: 300 },
      gateways: 6,
      redis: false,
      start: false,
    });
    const keycloak = stack.keycloak!;
    await setUp(keycloak);
    guides = await startGuides(keycloak.issuer);
    for (const { routes } of guides) await stack.startGateway({ GATEWAY_ROUTES: routes });
    [demo, admin] = [await stack.login('demo'), await stack.login('admin')];
  });
  afterAll(async () => {
    await Promise.all(guides.map((guide) => guide.stop()));
    for (const server of servers) server.close().closeAllConnections();
    await stack?.dispose();
  });
  const urlOf = (name: string): string =>
    stack.gateways[guides.findIndex((guide) => guide.name === name)]!.url;
  const portOf = (name: string): number => guides.find((guide) => guide.name === name)!.port;

  test.each<[string, string, number, number]>([
    ['keycloak-connect', '/orders', 200, 200],
    ['keycloak-connect', '/orders/admin', 403, 200],
    ['keycloak-connect', '/orders/read', 200, 200],
    ['keycloak-connect', '/orders/own', 403, 200],
    ['keycloak-connect', '/orders/of/demo', 200, 200],
    ['keycloak-connect', '/orders/of/alice', 403, 200],
    ['keycloak-connect', '/orders/view', 200, 200],
    ['keycloak-connect', '/orders/delete', 403, 200],
    ['keycloak-connect', '/orders/hello', 200, 200],
    ['oauth2-proxy', '/', 200, 200],
    ['mod-auth-openidc', '/reports', 200, 200],
    ['mod-auth-openidc', '/reports/admin', 403, 200],
    ['express-openid-connect', '/', 200, 200],
    ['express-openid-connect', '/profile', 200, 200],
    ['express-openid-connect', '/staff', 403, 200],
    ['next-auth', '/api/me', 200, 200],
  ])(
    'the guide from %s: %s answers a user with %i and an administrator with %i',
    async (name, path, user, boss) => {
      const answers = [await demo!.get(urlOf(name) + path), await admin!.get(urlOf(name) + path)];
      expect(answers.map(({ status }) => status)).toEqual([user, boss]);
    },
  );

  test('they know who it is, and let nobody in who comes past the gateway', async () => {
    const seen = await demo!.get(`${urlOf('oauth2-proxy')}/`);
    expect(seen.json()).toEqual({ user: 'demo', email: 'demo@example.com' });
    for (const { name, port } of guides) {
      const path = name === 'express-openid-connect' ? '/profile' : '/reports';
      const known = name === 'keycloak-connect' ? '/orders' : path;
      const answer = await fetch(`http://127.0.0.1:${port}${known}`);
      expect([name, answer.status]).toEqual([name, 401]);
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
  });

  test('callers with tokens of their own are known on an optional route', async () => {
    const url = `${urlOf('keycloak-connect')}/orders/hello`;
    const { access_token: token } = await tokensOf(stack.keycloak!, 'orders');
    const headers = { authorization: `Bearer ${token}` };
    const answer = await demo!.get(url, { headers, cookies: false });
    expect(answer.json()).toEqual({ of: 'demo' });
    expect((await demo!.get(url, { cookies: false })).json()).toEqual({ of: 'nobody' });
  });

  test('only access tokens for the service count, of all that Keycloak gives', async () => {
    const ask = async (token: string | undefined) => {
      const answer = await fetch(`http://127.0.0.1:${portOf('keycloak-connect')}/orders`, {
        headers: { authorization: `Bearer ${token}` },
      });
      return answer.ok ? 'passed' : ((await answer.json()) as { code: string }).code;
    };
    const own = await tokensOf(stack.keycloak!, 'orders');
    expect(await ask(own.access_token)).toBe('passed');
    expect(await ask(own.id_token)).toBe('token_type');
    expect(await ask(own.refresh_token)).toBe('token_algorithm');
    const other = await tokensOf(stack.keycloak!, 'reports');
    expect(await ask(other.access_token)).toBe('token_audience');
    const [head, , signature] = (own.access_token ?? '').split('.');
    const [, claims] = (other.access_token ?? '').split('.');
    expect(await ask([head, claims, signature].join('.'))).toBe('token_signature');
  });

  test('bound tokens reach every framework with a proof and a nonce, and are no use without', async () => {
    const nonces = rotatingNonces();
    const routes: { path: string; upstream: string }[] = [];
    const guards: Record<string, Guard> = {};
    let stolen = '';
    for (const [name, listenerOf] of Object.entries(FRAMEWORKS)) {
      const port = await freePort();
      const upstream = `http://127.0.0.1:${port}`;
      const guard = createGuard({
        issuer: stack.keycloak!.issuer,
        audience: 'orders',
        dpop: { baseUrls: upstream, required: true, nonces },
      });
      guards[name] = guard;
      const listener = await listenerOf(guard);
      const server = createServer((request, response) => {
        stolen = (request.headers.authorization ?? '').replace(/^DPoP /, '');
        listener(request, response);
      });
      servers.push(server.listen(port, '127.0.0.1'));
      routes.push({ path: `/${name}`, upstream });
    }
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const gateway = await stack.startGateway({
      GATEWAY_ROUTES: JSON.stringify(routes),
      KEYCLOAK_DPOP_KEY: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    });
    const alice = await stack.login('alice');
    for (const name of Object.keys(FRAMEWORKS)) {
      const answer = await alice.get(`${gateway.url}/${name}/x?q=1`);
      expect([name, answer.status, answer.text]).toEqual([name, 200, 'yes']);
    }
    const token = stolen;
    for (const scheme of ['Bearer', 'DPoP'])
      for (const { path, upstream } of routes) {
        const headers = { authorization: `${scheme} ${token}` };
        expect((await fetch(`${upstream}${path}/x`, { headers })).status).toBe(401);
      }
  });

  test('with Keycloak away, known keys count on, and a service that has none answers 503', async () => {
    const fresh = createGuard({ issuer: stack.keycloak!.issuer, audience: 'orders' });
    const { access_token: token } = await tokensOf(stack.keycloak!, 'orders');
    await stack.keycloak!.stop();
    const request = { method: 'GET', url: '/', authorization: [`Bearer ${token}`], dpop: [] };
    const refusal: unknown = await fresh
      .checker()(request, null)
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(GuardError);
    expect(refusal).toMatchObject({ status: 503, code: 'issuer_unavailable' });
    expect((await demo!.get(`${urlOf('keycloak-connect')}/orders`)).status).toBe(200);
    expect((await demo!.get(`${urlOf('keycloak-connect')}/orders/view`)).status).toBe(503);
  });
});

interface Tokens {
  access_token?: string;
  id_token?: string;
  refresh_token?: string;
}

async function tokensOf(keycloak: KeycloakServer, client: string): Promise<Tokens> {
  const response = await fetch(`${keycloak.issuer}/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'password',
      scope: 'openid',
      client_id: client,
      client_secret: 'development-only-secret',
      username: 'demo',
      password: 'demo',
    }),
  });
  return (await response.json()) as Tokens;
}

/** The client `orders` with a role, a resource and permissions, and its name in the gateway's tokens. */
async function setUp(keycloak: KeycloakServer): Promise<void> {
  const { admin, clientId } = keycloak;
  await admin('POST', '/clients', {
    clientId: 'orders',
    secret: 'development-only-secret',
    publicClient: false,
    directAccessGrantsEnabled: true,
    serviceAccountsEnabled: true,
    authorizationServicesEnabled: true,
  });
  const idOf = async (name: string): Promise<string> =>
    ((await admin('GET', `/clients?clientId=${name}`)) as { id: string }[])[0]!.id;
  const orders = `/clients/${await idOf('orders')}`;
  const audience = {
    name: 'audience orders',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-audience-mapper',
    config: { 'included.client.audience': 'orders', 'access.token.claim': 'true' },
  };
  await admin('POST', `/clients/${await idOf(clientId)}/protocol-mappers/models`, audience);
  await admin('POST', `${orders}/protocol-mappers/models`, audience);
  await admin('POST', `${orders}/roles`, { name: 'picker' });
  const picker = await admin('GET', `${orders}/roles/picker`);
  await admin('POST', `/users/${await keycloak.userId('admin')}/role-mappings${orders}`, [picker]);
  const server = `${orders}/authz/resource-server`;
  await admin('POST', `${server}/resource`, {
    name: 'order',
    scopes: [{ name: 'view' }, { name: 'delete' }],
  });
  for (const [scope, role] of [
    ['view', 'user'],
    ['delete', 'admin'],
  ] as const) {
    const { id } = (await admin('GET', `/roles/${role}`)) as { id: string };
    await admin('POST', `${server}/policy/role`, { name: role, roles: [{ id, required: true }] });
    await admin('POST', `${server}/permission/scope`, {
      name: `${scope} order`,
      resources: ['order'],
      scopes: [scope],
      policies: [role],
    });
  }
}
