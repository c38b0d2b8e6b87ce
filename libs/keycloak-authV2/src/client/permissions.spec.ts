import { describe, expect, test } from '@jest/globals';
import { AuthError } from '../errors.js';
import { rolesOf } from './identity.js';
import type { Verdict } from './KeycloakClient.js';
import { hasRole, PermissionChecker } from './permissions.js';

describe('role expressions', () => {
  const roles = ['api-gateway:reader', 'realm:admin', 'reports:viewer'];
  test.each([
    ['realm:admin', true],
    ['reader', true],
    ['api-gateway:reader', true],
    ['reports:viewer', true],
    ['realm:user', false],
    ['viewer', false],
    ['admin', false],
    ['realm:reader', false],
    ['other:viewer', false],
    ['__proto__:x', false],
  ])('%s: %s', (expression, expected) => {
    expect(hasRole(roles, expression, 'api-gateway')).toBe(expected);
  });

  test('of the access token count before those of userinfo and ID Token', () => {
    expect(
      rolesOf({ realm_access: { roles: ['b', 'a', 'a'] } }, { realm_access: { roles: ['c'] } }),
    ).toEqual(['realm:a', 'realm:b']);
    expect(rolesOf({}, { resource_access: { app: { roles: ['x'] } } })).toEqual(['app:x']);
    expect(rolesOf({ realm_access: { roles: 'admin' }, resource_access: { app: null } })).toEqual(
      [],
    );
  });

  test("of a client called realm do not pass for the realm's", () => {
    expect(
      rolesOf({
        resource_access: {
          realm: { roles: ['session-admin'] },
          'realm:x': { roles: ['y'] },
          realms: { roles: ['z'] },
        },
      }),
    ).toEqual(['realms:z']);
  });
});

describe('verdicts of Keycloak', () => {
  /** Answers as told, and keeps what it was asked. */
  const provider = (answers: Record<string, Verdict | AuthError>) => {
    const asked: string[] = [];
    return {
      asked,
      async decision(token: string, permission: string): Promise<Verdict> {
        asked.push(`${token} ${permission}`);
        const answer = answers[permission] ?? 'denied';
        if (answer instanceof Error) throw answer;
        return answer;
      },
    };
  };

  test('all that a route names are needed, asked one by one', async () => {
    const client = provider({
      'orders#view': 'granted',
      orders: 'granted',
      'orders#delete': 'denied',
    });
    const checker = new PermissionChecker({ client });
    expect(await checker.check('t', ['orders:view', 'orders'])).toBe('granted');
    expect(await checker.check('t', ['orders:view', 'orders:delete', 'orders'])).toBe('denied');
    expect(client.asked).toEqual(['t orders#view', 't orders', 't orders#view', 't orders#delete']);
  });

  test('are shared by those who ask at once, kept for a while, and never passed to another token or permission', async () => {
    const client = provider({ 'orders#view': 'granted' });
    const checker = new PermissionChecker({ client });
    expect(
      await Promise.all(Array.from({ length: 5 }, () => checker.check('t', ['orders:view']))),
    ).toEqual(Array(5).fill('granted'));
    expect(client.asked).toHaveLength(1);
    await checker.check('other', ['orders:view']);
    expect(await checker.check('t', ['orders:delete'])).toBe('denied');
    expect(client.asked).toHaveLength(3);
    const forgetful = new PermissionChecker({ client, keptMs: -1 });
    await forgetful.check('t', ['orders:view']);
    await forgetful.check('t', ['orders:view']);
    expect(client.asked).toHaveLength(5);
  });

  test('failures and tokens that are not taken are asked about again', async () => {
    const client = provider({
      a: new AuthError('provider_unavailable', 'away'),
      b: 'token_rejected',
    });
    const checker = new PermissionChecker({ client });
    for (let i = 0; i < 2; i++) {
      await expect(checker.check('t', ['a'])).rejects.toMatchObject({
        code: 'provider_unavailable',
      });
      expect(await checker.check('t', ['b'])).toBe('token_rejected');
    }
    expect(client.asked).toEqual(['t a', 't b', 't a', 't b']);
  });

  test('take no more memory than they may', async () => {
    const client = provider({ a: 'granted' });
    const checker = new PermissionChecker({ client, maxEntries: 2 });
    for (const token of ['1', '2', '3', '3', '1']) await checker.check(token, ['a']);
    expect(client.asked).toEqual(['1 a', '2 a', '3 a', '1 a']);
  });
});
