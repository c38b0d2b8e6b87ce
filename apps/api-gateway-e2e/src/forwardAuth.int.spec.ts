import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Stack, startStack } from './stack.js';

describe('forward-auth', () => {
  let stack: Stack;
  let cookie: string;
  let id: string;
  beforeAll(async () => {
    stack = await startStack({ redis: false });
    ({ cookie, id } = await stack.session());
  });
  afterAll(() => stack.dispose());

  test.each(['/auth/verify/', '/auth/verify/orders/1?state=open', '/auth/verify?for=/orders//1', '/auth/verify?extend=false'])('answers %s, as Envoy and others put it', async (path) => {
    for (const method of ['GET', 'POST', 'DELETE']) {
      const yes = await stack.ask(0, path, { cookie, method });
      expect([yes.status, yes.headers['x-auth-session'], yes.text]).toEqual([200, id, '']);
      expect((await stack.ask(0, path, { method })).status).toBe(401);
    }
  });

  test('is no answer to a path that only begins alike', async () => {
    expect((await stack.ask(0, '/auth/verifying', { cookie })).code).toBe('not_found');
    expect((await stack.ask(0, '/auth/verify/..%2fsession', { cookie })).code).toBe('path_ambiguous');
  });

  test.each(['x-forwarded-method', 'x-original-method'])('asks for proof of same origin where %s is unsafe, whatever else is named', async (name) => {
    const ask = (headers: Record<string, string>): Promise<{ status: number }> => stack.ask(0, '/auth/verify', { cookie, headers });
    const elsewhere = { 'sec-fetch-site': 'same-site', origin: 'https://other.example' };
    expect((await ask({ [name]: 'POST' })).status).toBe(200);
    expect((await ask({ [name]: 'GET', ...elsewhere })).status).toBe(200);
    expect((await ask({ [name]: 'POST', ...elsewhere })).status).toBe(403);
    const other = name === 'x-original-method' ? 'x-forwarded-method' : 'x-original-method';
    expect((await ask({ [name]: 'POST', [other]: 'GET', ...elsewhere })).status).toBe(403);
  });
});
