import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

describe('forward-auth', () => {
  let stack: Stack;
  let cookie: string;
  let id: string;
  beforeAll(async () => {
    stack = await startStack({ redis: false, env: { IDENTITY_ROLES: 'realm' } });
    ({ cookie, id } = await stack.session());
  });
  afterAll(() => stack.dispose());

  test.each([
    '/auth/verify/',
    '/auth/verify/orders/1?state=open',
    '/auth/verify?for=/orders//1',
    '/auth/verify?extend=false',
  ])('answers %s, as Envoy and others put it', async (path) => {
    for (const method of ['GET', 'POST', 'DELETE']) {
      const yes = await stack.ask(0, path, { cookie, method });
      expect([yes.status, yes.headers['x-auth-session'], yes.text]).toEqual([200, id, '']);
      expect(yes.headers['x-auth-acr']).toBe('');
      expect((await stack.ask(0, path, { method })).status).toBe(401);
    }
  });

  test('takes a person without a session to the login and back to the original address', async () => {
    const ask = (headers: Record<string, string>, query = '?login=redirect') =>
      stack.ask(0, `/auth/verify${query}`, { headers });
    const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
    const address = '/wiki/R&D?q=a%26b&to=//x#c%zz';
    const led = await ask({ ...navigation, 'x-forwarded-uri': address });
    expect([led.status, led.headers['cache-control'], led.headers['set-cookie']]).toEqual([
      302,
      'no-store',
      undefined,
    ]);
    const location = new URL(String(led.headers['location']));
    expect([location.origin, location.pathname]).toEqual([stack.url, '/auth/login']);
    const browser = new HttpBrowser();
    const callback = await browser.navigate((await browser.navigate(location)).location!);
    expect((await browser.navigate(callback.location!)).headers['location']).toBe(
      '/wiki/R&D?q=a%26b&to=//x%23c%zz',
    );
    await browser.close();

    const toHome = await ask({ ...navigation, 'x-original-uri': '//evil.example/' });
    expect(new URL(String(toHome.headers['location'])).searchParams.get('return_to')).toBe('/');
    for (const [headers, query] of [
      [{ ...navigation, 'x-forwarded-uri': '/x' }, ''],
      [{ ...navigation, 'x-forwarded-uri': '/x?login=redirect' }, undefined],
      [{ ...navigation, 'x-forwarded-method': 'POST', 'x-csrf': '1' }, undefined],
      [{ 'sec-fetch-mode': 'cors', accept: 'text/html' }, undefined],
      [{ ...navigation, authorization: 'Bearer garbage' }, undefined],
    ] as const)
      expect((await ask(headers, query)).status).toBe(401);
    expect((await stack.ask(0, '/auth/verify?login=redirect', { cookie })).status).toBe(200);
  });

  test('judges a bearer token before a cookie, as a route for any caller does', async () => {
    const ask = (authorization: string, more: { cookie?: string } = {}) =>
      stack.ask(0, '/auth/verify', { headers: { authorization }, ...more });
    const roles = { realm_access: { roles: ['a', 'b'] }, resource_access: { x: { roles: ['y'] } } };
    const bearer = await stack.provider!.bearer({ sub: 'a program', acr: 'gold', ...roles });
    const yes = await ask(`Bearer ${bearer}`, { cookie });
    expect([yes.status, yes.headers]).toEqual([
      200,
      expect.objectContaining({
        'x-auth-subject': 'a program',
        'x-auth-session': '',
        'x-auth-roles': 'realm:a,realm:b',
        'x-auth-acr': 'gold',
      }),
    ]);
    const no = await ask('Bearer garbage', { cookie });
    expect([no.status, no.code, no.headers['www-authenticate']]).toEqual([
      401,
      'bearer_invalid',
      'Bearer error="invalid_token"',
    ]);
    expect((await ask('Basic dTpw', { cookie })).headers['x-auth-session']).toBe(id);
  });

  test('is no answer to a path that only begins alike', async () => {
    expect((await stack.ask(0, '/auth/verifying', { cookie })).code).toBe('not_found');
    expect((await stack.ask(0, '/auth/verify/..%2fsession', { cookie })).code).toBe(
      'path_ambiguous',
    );
  });

  test.each(['x-forwarded-method', 'x-original-method'])(
    'asks for proof of same origin where %s is unsafe, whatever else is named',
    async (name) => {
      const ask = (headers: Record<string, string>): Promise<{ status: number }> =>
        stack.ask(0, '/auth/verify', { cookie, headers });
      const elsewhere = { 'sec-fetch-site': 'same-site', origin: 'https://other.example' };
      expect((await ask({ [name]: 'POST' })).status).toBe(200);
      expect((await ask({ [name]: 'GET', ...elsewhere })).status).toBe(200);
      expect((await ask({ [name]: 'POST', ...elsewhere })).status).toBe(403);
      const other = name === 'x-original-method' ? 'x-forwarded-method' : 'x-original-method';
      expect((await ask({ [name]: 'POST', [other]: 'GET', ...elsewhere })).status).toBe(403);
    },
  );
});
