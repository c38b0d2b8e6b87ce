import 'reflect-metadata';
import { createServer, request as ask, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Controller, Get, HttpException, Logger, Req, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Elysia } from 'elysia';
import { WebStandardAdapter } from 'elysia/adapter/web-standard';
import express, { type Request as ExpressRequest } from 'express';
import fastify from 'fastify';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { elysiaGuard } from './elysia.js';
import { expressGuard } from './express.js';
import { fetchGuard } from './fetch.js';
import { fastifyGuard } from './fastify.js';
import { honoGuard } from './hono.js';
import { createGuard, identityIfAny, identityOf, rotatingNonces } from './index.js';
import { nestGuard } from './nest.js';
import { nodeGuard } from './node.js';
import {
  CLAIMS,
  ISSUER,
  issuerOf,
  newKey,
  now,
  proofFor,
  sign,
  thumbprintOf,
} from './testing/world.js';

const key = await newKey('ES256', 'k1');
let time = now();
const nonces = rotatingNonces({ secret: 's', now: () => time });
const guard = createGuard({
  issuer: ISSUER,
  audience: 'orders',
  now,
  fetch: issuerOf(key).fetch,
  dpop: { baseUrls: 'http://orders:8080', nonces },
});
const subjectOf = (request: object) => identityOf(request).subject;
type Service = (...exchange: Parameters<RequestListener>) => unknown;

/** What every service below has: a mounted path for one role, and one for another. */
const services: Record<string, () => Promise<Service> | Service> = {
  node: () => {
    const { protect } = nodeGuard(guard);
    const user = protect('realm:user', (request, response) => response.end(subjectOf(request)));
    const admin = protect('realm:admin', (request, response) => response.end(subjectOf(request)));
    return (request, response) =>
      void (request.url?.startsWith('/v1/user') ? user : admin)(request, response);
  },
  express: () => {
    const { protect } = expressGuard<ExpressRequest>(guard);
    const router = express.Router();
    router.get('/user', protect('realm:user'), (request, response) => {
      response.end(subjectOf(request));
    });
    router.get('/admin', protect('realm:admin'), (request, response) => {
      response.end(subjectOf(request));
    });
    return express().use('/v1', router);
  },
  fastify: async () => {
    const { protect } = fastifyGuard(guard);
    const app = fastify();
    app.get('/v1/user', { onRequest: protect('realm:user') }, (request) => subjectOf(request));
    app.get('/v1/admin', { onRequest: protect('realm:admin') }, (request) => subjectOf(request));
    await app.ready();
    return (request, response) => app.routing(request, response);
  },
  hono: () => {
    const { protect } = honoGuard(guard);
    const app = new Hono();
    app.get('/v1/user', protect('realm:user'), (c) => c.text(subjectOf(c.req.raw)));
    app.get('/v1/admin', protect('realm:admin'), (c) => c.text(subjectOf(c.req.raw)));
    return getRequestListener(app.fetch);
  },
  fetch: () => {
    const { protect } = fetchGuard(guard);
    const answer = (request: Request) => new Response(subjectOf(request));
    const [user, admin] = [protect('realm:user', answer), protect('realm:admin', answer)];
    return getRequestListener((request) =>
      new URL(request.url).pathname === '/v1/user' ? user(request) : admin(request),
    );
  },
  elysia: () => {
    const { protect } = elysiaGuard(guard);
    const app = new Elysia({ adapter: WebStandardAdapter })
      .get('/v1/user', ({ request }) => subjectOf(request), { beforeHandle: protect('realm:user') })
      .get('/v1/admin', ({ request }) => subjectOf(request), {
        beforeHandle: protect('realm:admin'),
      });
    return getRequestListener(app.fetch);
  },
  nest: async () => {
    const exceptions = nestGuard(guard, {
      exception: (error) => new HttpException(JSON.parse(error.problem()) as object, error.status),
    });
    const { protect } = nestGuard(guard);
    @Controller('v1')
    class Orders {
      @Get('user')
      @UseGuards(protect('realm:user'))
      user(@Req() request: ExpressRequest) {
        return subjectOf(request);
      }
      @Get('admin')
      @UseGuards(protect('realm:admin'))
      admin(@Req() request: ExpressRequest) {
        return subjectOf(request);
      }
      @Get('exception')
      @UseGuards(exceptions.protect('realm:admin'))
      exception() {
        return 'never';
      }
    }
    Logger.overrideLogger(false);
    const app = await NestFactory.create({ module: Orders, controllers: [Orders] });
    await app.init();
    return app.getHttpAdapter().getInstance() as RequestListener;
  },
};

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

describe.each(Object.keys(services))('a service with %s', (name) => {
  let server: Server;
  beforeAll(async () => {
    const listener = await services[name]?.();
    server = createServer(listener).listen(0, '127.0.0.1');
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  const get = (path: string, fields: string[]): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const { port } = server.address() as AddressInfo;
      const headers = ['Host', 'evil.example', ...fields];
      ask({ port, host: '127.0.0.1', path, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
        );
      })
        .on('error', reject)
        .end();
    });
  const bearer = async () => `Bearer ${await sign({ key, claims: CLAIMS })}`;

  test('lets a token with the role pass, and says who it is', async () => {
    const answer = await get('/v1/user?a=b', ['Authorization', await bearer()]);
    expect([answer.status, answer.text]).toEqual([200, CLAIMS.sub]);
  });

  test('refuses others with status, challenge and code', async () => {
    const none = await get('/v1/user', []);
    expect([none.status, none.headers['www-authenticate']]).toEqual([
      401,
      expect.stringMatching(/^Bearer, DPoP algs="/),
    ]);
    const role = await get('/v1/admin', ['Authorization', await bearer()]);
    expect(role.status).toBe(403);
    expect(role.headers['www-authenticate']).toMatch(/error="insufficient_scope"/);
    expect(role.headers['cache-control']).toBe('no-store');
    if (name === 'nest') {
      expect(JSON.parse(role.text)).toEqual({ statusCode: 403, message: 'a role is missing' });
      const own = await get('/v1/exception', ['Authorization', await bearer()]);
      expect([own.status, JSON.parse(own.text)]).toMatchObject([403, { code: 'role_missing' }]);
    } else {
      expect(role.headers['content-type']).toMatch(/^application\/problem\+json/);
      expect(JSON.parse(role.text)).toMatchObject({ code: 'role_missing', status: 403 });
    }
  });

  test('refuses two tokens in one request, in one field or in two', async () => {
    const [one, other] = [await bearer(), await bearer()];
    for (const fields of [
      ['Authorization', one, 'authorization', other],
      ['Authorization', `${one}, ${other}`],
    ])
      expect((await get('/v1/user', fields)).status).toBe(400);
  });

  test('takes a DPoP proof for the whole path, and tells the next nonce', async () => {
    const token = await sign({ key, claims: { ...CLAIMS, cnf: { jkt: await thumbprintOf(key) } } });
    const nonce = await nonces.current();
    const claims = { htu: 'http://orders:8080/v1/user', nonce };
    const fields = async (more = {}) => [
      'Authorization',
      `DPoP ${token}`,
      'DPoP',
      await proofFor(token, key, { ...claims, ...more }),
    ];
    const first = await get('/v1/user?q', await fields({ nonce: 'old' }));
    expect([first.status, first.headers['dpop-nonce']]).toEqual([401, nonce]);
    expect((await get('/v1/user?q', await fields())).status).toBe(200);
    expect((await get('/v1/user', await fields({ htu: 'http://orders:8080/user' }))).status).toBe(
      401,
    );
    expect(
      (await get('/v1/user', await fields({ htu: 'http://evil.example/v1/user' }))).status,
    ).toBe(401);
    const twice = await fields();
    expect((await get('/v1/user', [...twice, 'DPoP', twice[3] ?? ''])).status).toBe(401);
    time += 60_000;
    const later = await get('/v1/user', await fields());
    expect([later.status, later.headers['dpop-nonce']]).toEqual([200, await nonces.current()]);
    time -= 60_000;
  });
});

test('an open route has no identity, and an optional one may have nobody', async () => {
  const request = { method: 'GET', url: '/', rawHeaders: [] };
  expect(() => identityOf(request)).toThrow(TypeError);
  const { protect } = expressGuard(guard);
  const response = { statusCode: 0, setHeader: () => undefined, end: () => undefined };
  await new Promise((next) => protect({ optional: true })(request, response, next));
  expect(identityIfAny(request)).toBeNull();
  expect(() => identityOf(request)).toThrow(TypeError);
});

test("what a decision of one's own throws is the framework's to answer", async () => {
  const own = new Error('mine');
  const { protect } = expressGuard(guard);
  const request = {
    method: 'GET',
    url: '/',
    rawHeaders: ['authorization', `Bearer ${await sign({ key, claims: CLAIMS })}`],
  };
  const response = { statusCode: 0, setHeader: () => undefined, end: () => undefined };
  const decide = protect(() => Promise.reject(own));
  expect(await new Promise((next) => decide(request, response, next))).toBe(own);
  expect(response.statusCode).toBe(0);
});

test('Express leaves the answer to the service that wants it', async () => {
  const seen: unknown[] = [];
  const { protect } = expressGuard(guard, {
    onRefused: (error, _request, _response, next) => {
      seen.push(error.code);
      next('route');
    },
  });
  const request = { method: 'GET', url: '/', rawHeaders: [] };
  const response = { statusCode: 0, setHeader: () => undefined, end: () => undefined };
  expect(await new Promise((next) => protect()(request, response, next))).toBe('route');
  expect(seen).toEqual(['credentials_missing']);
});
