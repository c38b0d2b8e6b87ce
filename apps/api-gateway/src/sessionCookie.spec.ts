import { describe, expect, test } from '@jest/globals';
import { GatewayCookies } from './sessionCookie.js';

const http = new GatewayCookies({ https: false, sameSite: 'lax' });
const https = new GatewayCookies({ https: true, sameSite: 'strict' });

describe('the session cookie', () => {
  test('over https is pinned to the host and as strict as configured', () => {
    expect(https.setSession('v')).toBe('__Host-session=v; Path=/; HttpOnly; SameSite=Strict; Secure');
    expect(http.setSession('v')).toBe('session=v; Path=/; HttpOnly; SameSite=Lax');
    expect(http.clearSession()).toBe('session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0');
  });

  test('of login state is Lax even when the session cookie is strict', () => {
    expect(https.setLogin('__Host-login-x', 'v', 600)).toBe('__Host-login-x=v; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600');
  });

  test.each([[null, null], ['', null], ['a=b', null], ['session=abc', 'abc'], ['a={"x":1}; session=abc; b=c', 'abc'], ['Session=abc', null], ['session=', null], ['session=a b', null], ['session=é', null], [' session\t=\tabc ', 'abc'], ['\u00a0session=abc', null], ['session=abc\u00a0', null], ['session', null], ['=session=abc', null]])('in %j is %j', (header, value) => {
    expect(http.session(header)).toBe(value);
  });

  test('sent twice is refused, whatever the values and their order', () => {
    for (const header of ['session=a; session=b', 'session=b; session=a', 'session=a; session=a', 'session=; session=a']) {
      expect(() => http.session(header)).toThrow(expect.objectContaining({ code: 'cookie_ambiguous' }));
    }
  });

  test('is taken out of what upstreams see, and nothing else is', () => {
    expect(http.withoutOwn('a=1; session=s; login-x=t; b={"c": 2}; sessions=3')).toBe('a=1; b={"c": 2}; sessions=3');
    expect(http.withoutOwn('session=s')).toBeNull();
    expect(http.withoutOwn('session; login-x; =session=s; = Session; \u00a0session=s; \tsession =s; opaque; =a=b')).toBe('opaque; =a=b');
    expect(https.withoutOwn('session=upstream; __host-session=s')).toBe('session=upstream');
  });
});
