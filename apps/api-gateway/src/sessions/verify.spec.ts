import { expect, test } from '@jest/globals';
import { fieldValue, rolesTold } from './identityFields.js';
import { operatorsQuery, originalAddress } from './verify.js';

test.each([
  ['realm:session-admin', 'realm:session-admin'],
  ['realm:session-admin ', 'realm:session-admin%20'],
  ['realm:  session-admin', 'realm:%20%20session-admin'],
  [' realm:x ', '%20realm:x%20'],
  ['realm :x', 'realm%20:x'],
  ['realm:two words', 'realm:two words'],
  ['realm:a,realm:session-admin', 'realm:a%2Crealm:session-admin'],
  ['realm:100%', 'realm:100%25'],
  ['realm:a\tb\r\nX-Auth-Roles: c', 'realm:a%09b%0D%0AX-Auth-Roles: c'],
  ['realm:\u00e9\u20ac\u{1f600}', 'realm:%C3%A9%E2%82%AC%F0%9F%98%80'],
  ['realm:\ud800', 'realm:%EF%BF%BD'],
  ['realm:\u00a0x', 'realm:%C2%A0x'],
  ['realm:\x7f', 'realm:%7F'],
])('%j goes into a header field as %j', (text, value) => {
  expect(fieldValue(text)).toBe(value);
});

test.each<[string, Record<string, string>, string | null]>([
  ['/auth/verify', {}, null],
  ['/auth/verify?extend=false', {}, 'false'],
  ['/auth/verify/?extend=false', {}, 'false'],
  ['/auth/verify?a=1&extend=false', { 'x-forwarded-uri': '/page' }, 'false'],
  ['/auth/verify?extend=false', { 'x-forwarded-uri': '/page?extend=true' }, 'false'],
  // Caddy hangs the query of the request in question on the question.
  ['/auth/verify?extend=false', { 'x-forwarded-uri': '/page?extend=false' }, null],
  ['/auth/verify?a=1&extend=false', { 'x-original-uri': '/page?a=1&extend=false' }, null],
  // Envoy puts the path of the request in question behind the prefix, with its query.
  ['/auth/verify?for=/page?a=1&extend=false', {}, null],
  ['/auth/verify?extend=false&for=/page?extend=true', {}, 'false'],
  ['/auth/verify/page?extend=false', {}, null],
])('of %j with %j the operator wrote extend=%j', (url, headers, expected) => {
  const query = operatorsQuery(url, (name) => headers[name] ?? null);
  expect(query.get('extend')).toBe(expected);
});

test.each<[string, Record<string, string>, string]>([
  ['/auth/verify', { 'x-forwarded-uri': '/a?b=1&c=%26#d' }, '/a?b=1&c=%26%23d'],
  ['/auth/verify', { 'x-original-uri': '/R&D/100%' }, '/R&D/100%'],
  ['/auth/verify', { 'x-original-url': 'https://app.example:8443/x?y' }, '/x?y'],
  ['/auth/verify', { 'x-forwarded-uri': '/\u00c3\u00a4 b\\c' }, '/%C3%A4%20b%5Cc'],
  ['/auth/verify?login=redirect&for=/page?a=1&for=2', {}, '/page?a=1&for=2'],
  ['/auth/verify', {}, '/'],
])('a question %j with %j is about %j', (url, headers, address) => {
  expect(originalAddress(url, (name) => headers[name] ?? null)).toBe(address);
});

test('tells whole roles of those that are asked for, as many as there is room for', () => {
  const roles = ['app:reader', 'app2:x', 'realm:a,b', 'realm:user'];
  const told = (whose: 'all' | string[], rolesMaxBytes = 4_096) =>
    rolesTold(roles, { roles: whose, rolesMaxBytes });
  expect(told('all')).toEqual({ told: 'app:reader,app2:x,realm:a%2Cb,realm:user', isCut: false });
  expect(told(['app'])).toEqual({ told: 'app:reader', isCut: false });
  expect(told(['realm', 'app2'], 20)).toEqual({ told: 'app2:x,realm:a%2Cb', isCut: true });
  expect(told('all', 21)).toEqual({ told: 'app:reader,app2:x', isCut: true });
  expect(told([], 0)).toEqual({ told: '', isCut: false });
  expect(told('all', 0)).toEqual({ told: '', isCut: true });
});
