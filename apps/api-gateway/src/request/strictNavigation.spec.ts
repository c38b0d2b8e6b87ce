import { describe, expect, test } from '@jest/globals';
import { GatewayCookies } from './sessionCookie.js';
import { mayHoldCookieBack } from './strictNavigation.js';

const navigation = {
  'sec-fetch-site': 'cross-site',
  'sec-fetch-mode': 'navigate',
  cookie: 'login-x=1; other=2',
};
const asked = (sessionCookieSameSite: 'lax' | 'strict', headers: Record<string, string>): boolean =>
  mayHoldCookieBack(
    {
      config: { sessionCookieSameSite },
      cookies: new GatewayCookies({ https: false, sameSite: sessionCookieSameSite }),
    },
    (name) => headers[name] ?? null,
  );

describe('a navigation', () => {
  test('from another site may lack a Strict session cookie that the browser has', () => {
    expect(asked('strict', navigation)).toBe(true);
  });

  test.each([
    ['with the cookie', { ...navigation, cookie: 'other=2; session=a' }],
    ['from this site', { ...navigation, 'sec-fetch-site': 'same-origin' }],
    ['from a sibling host', { ...navigation, 'sec-fetch-site': 'same-site' }],
    ['that a person typed', { ...navigation, 'sec-fetch-site': 'none' }],
    ["that is none, but a script's request", { ...navigation, 'sec-fetch-mode': 'cors' }],
    ['of a browser that says nothing', { cookie: 'other=2' }],
  ])('%s lacks nothing', (_, headers) => {
    expect(asked('strict', headers)).toBe(false);
  });

  test('lacks no Lax cookie', () => {
    expect(asked('lax', navigation)).toBe(false);
  });
});
