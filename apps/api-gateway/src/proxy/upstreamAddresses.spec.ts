import { describe, expect, test } from '@jest/globals';
import { parseRoutes } from '../settings/gatewayRoutes.js';
import { translated } from './upstreamAddresses.js';

const routeOf = (fields: object) =>
  parseRoutes(JSON.stringify([{ upstream: 'http://internal:8080', ...fields }])).routes[0]!;
const plain = routeOf({ path: '/app' });
const stripped = routeOf({ path: '/app', stripPrefix: true });
const based = routeOf({ path: '/app', stripPrefix: true, upstream: 'http://internal:8080/base' });

describe('an address in an answer', () => {
  test.each([
    [plain, 'http://internal:8080/app/x?a=1#b', '/app/x?a=1#b'],
    [plain, 'HTTP://INTERNAL:8080/app', '/app'],
    [plain, '//internal:8080/app/x', '/app/x'],
    [plain, '/other', '/other'],
    [plain, 'x/y', 'x/y'],
    [plain, 'https://internal:8080/x', 'https://internal:8080/x'],
    [plain, 'http://internal:8080@evil.example/x', 'http://internal:8080@evil.example/x'],
    [plain, 'http://internal/x', 'http://internal/x'],
    [plain, '//evil.example/x', '//evil.example/x'],
    [stripped, 'http://internal:8080', '/app/'],
    [stripped, 'http://internal:8080?q', '/app/?q'],
    [stripped, '/x?to=/app', '/app/x?to=/app'],
    [stripped, '/', '/app/'],
    [stripped, '/application', '/app/application'],
    // An upstream that knows its prefix has said it already.
    [stripped, '/app/x', '/app/x'],
    [stripped, '/app?x', '/app?x'],
    // The gateway's own login.
    [stripped, '/auth/login?return_to=%2Fapp', '/auth/login?return_to=%2Fapp'],
    [stripped, 'http://internal:8080/auth/x', '/app/auth/x'],
    [stripped, '?page=2', '?page=2'],
    [based, '/base/x', '/app/x'],
    [based, '/base', '/app/'],
    [based, '/base/auth/x', '/app/auth/x'],
    [based, '/basement', '/basement'],
    [based, 'http://internal:8080/base/x', '/app/x'],
    [based, 'http://internal:8080/elsewhere', 'http://internal:8080/elsewhere'],
  ])('%#: %3$s', (route, inside, outside) => {
    expect(translated('location', inside, route)).toBe(outside);
    expect(translated('content-location', inside, route)).toBe(outside);
    expect(translated('link', inside, route)).toBe(inside);
  });

  test.each([
    ['5; url=http://internal:8080/x', '5; url=/app/x'],
    ["0;URL='/x'", "0;URL='/app/x'"],
    ['3, /x', '3, /app/x'],
    ['5', '5'],
  ])('of Refresh: %s', (inside, outside) => {
    expect(translated('refresh', inside, stripped)).toBe(outside);
  });
});

test.each([
  [plain, 'a=1; Path=/app/x; Domain=internal; HttpOnly', 'a=1; Path=/app/x; HttpOnly'],
  [plain, 'a=1;domain=.example.com', 'a=1'],
  [plain, 'a=Domain=x; Path=/', 'a=Domain=x; Path=/'],
  [stripped, 'a=1; path=/; Secure', 'a=1; path=/app; Secure'],
  [stripped, 'a=1; Path = /x ', 'a=1; Path=/app/x'],
  [stripped, 'a=1; Path=/app/x', 'a=1; Path=/app/x'],
  [stripped, 'a=1; Path=/auth', 'a=1; Path=/app/auth'],
  [stripped, 'a=1; Path=x; Max-Age=5', 'a=1; Path=x; Max-Age=5'],
  [stripped, '__Host-a=1; Path=/; Secure; Domain=x', '__Host-a=1; Path=/; Secure'],
  [based, 'a=1; Path=/base', 'a=1; Path=/app'],
  [based, 'a=1; Path=/base/x', 'a=1; Path=/app/x'],
  [based, 'a=1; Path=/', 'a=1; Path=/app'],
])('a cookie %#: %3$s', (route, inside, outside) => {
  expect(translated('set-cookie', inside, route)).toBe(outside);
});
