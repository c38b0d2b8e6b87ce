import { describe, expect, test } from '@jest/globals';
import { rolesOf } from './KeycloakClient.js';
import { hasRole } from './permissions.js';

describe('role expressions', () => {
  const roles = ['api-gateway:reader', 'realm:admin', 'reports:viewer'];
  test.each([['realm:admin', true], ['reader', true], ['api-gateway:reader', true], ['reports:viewer', true], ['realm:user', false], ['viewer', false], ['admin', false], ['realm:reader', false], ['other:viewer', false], ['__proto__:x', false]])('%s: %s', (expression, expected) => {
    expect(hasRole(roles, expression, 'api-gateway')).toBe(expected);
  });

  test('of the access token count before those of userinfo and ID Token', () => {
    expect(rolesOf({ realm_access: { roles: ['b', 'a', 'a'] } }, { realm_access: { roles: ['c'] } })).toEqual(['realm:a', 'realm:b']);
    expect(rolesOf({}, { resource_access: { app: { roles: ['x'] } } })).toEqual(['app:x']);
    expect(rolesOf({ realm_access: { roles: 'admin' }, resource_access: { app: null } })).toEqual([]);
  });

  test('of a client called realm do not pass for the realm\'s', () => {
    expect(rolesOf({ resource_access: { realm: { roles: ['session-admin'] }, 'realm:x': { roles: ['y'] }, realms: { roles: ['z'] } } })).toEqual(['realms:z']);
  });
});
