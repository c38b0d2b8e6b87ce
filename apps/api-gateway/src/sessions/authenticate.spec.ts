import { describe, expect, test } from '@jest/globals';
import { authenticate } from './authenticate.js';
import type { Gateway } from '../gateway.js';
import { GatewayCookies } from '../request/sessionCookie.js';

const gateway = {
  config: { publicUrl: new URL('https://app.example') },
  cookies: new GatewayCookies({ https: false, sameSite: 'lax' }),
  validator: {
    validate: async (token: string) => ({ subject: token, acr: null, roles: [], expiresAt: 0 }),
  },
  store: {
    find: async () => ({ state: 'live', session: { id: 'session' } }),
    touch: () => undefined,
  },
} satisfies Partial<Record<keyof Gateway, unknown>> as unknown as Gateway;
const callerOf = (authorization: string, accepts: 'session' | 'bearer' | 'any' = 'any') =>
  authenticate(gateway, 'GET', (name) => ({ authorization, cookie: 'session=abc' })[name] ?? null, {
    accepts,
  });

describe('a request with a cookie and an Authorization header', () => {
  test.each(['Bearer a.b.c', 'bearer  a.b.c', 'BEARER a.b.c'])(
    '%j is from its bearer',
    async (header) => {
      expect(await callerOf(header)).toMatchObject({ kind: 'bearer', token: 'a.b.c' });
    },
  );

  test.each(['Basic eA==', 'Bearerish a', 'Bearer-x a', '', 'x Bearer a'])(
    '%j is from its session: the header is for someone else',
    async (header) => {
      expect(await callerOf(header)).toMatchObject({ kind: 'session' });
    },
  );

  test.each(['Bearer', 'Bearer ', 'Bearer a b', 'Bearer a,b', 'bearer\ta', 'Bearer,a', 'Bearer=a'])(
    '%j is refused: a bearer token that is none never falls back to the cookie',
    async (header) => {
      await expect(callerOf(header)).rejects.toMatchObject({ code: 'bearer_invalid' });
      expect(await callerOf(header, 'session')).toMatchObject({ kind: 'session' });
    },
  );
});
