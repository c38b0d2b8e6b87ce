import { describe, expect, test } from '@jest/globals';
import { GatewayCookies, isSessionCookieName } from './sessionCookie.js';

const http = new GatewayCookies({ https: false, sameSite: 'lax' });
const https = new GatewayCookies({ https: true, sameSite: 'strict' });

describe('the session cookie', () => {
  test('over https is pinned to the host and as strict as configured', () => {
    expect(https.setSession('v')).toBe(
      '__Host-session=v; Path=/; HttpOnly; SameSite=Strict; Secure',
    );
    expect(http.setSession('v')).toBe('session=v; Path=/; HttpOnly; SameSite=Lax');
    expect(http.clearSession()).toBe('session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0');
  });

  test('of login state is Lax even when the session cookie is strict', () => {
    expect(https.setLogin('__Host-login-x', 'v', 600)).toBe(
      '__Host-login-x=v; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600',
    );
  });

  test.each([
    [null, null],
    ['', null],
    ['a=b', null],
    ['session=abc', 'abc'],
    ['a={"x":1}; session=abc; b=c', 'abc'],
    ['Session=abc', null],
    ['session=', null],
    ['session=a b', null],
    ['session=é', null],
    [' session\t=\tabc ', 'abc'],
    ['\u00a0session=abc', null],
    ['session=abc\u00a0', null],
    ['session', null],
    ['=session=abc', null],
  ])('in %j is %j', (header, value) => {
    expect(http.session(header)).toBe(value);
  });

  test('sent twice is refused, whatever the values and their order', () => {
    for (const header of [
      'session=a; session=b',
      'session=b; session=a',
      'session=a; session=a',
      'session=; session=a',
    ]) {
      expect(() => http.session(header)).toThrow(
        expect.objectContaining({ code: 'cookie_ambiguous' }),
      );
    }
  });

  test('is taken out of what upstreams see, and nothing else is', () => {
    expect(
      http.withoutOwn('a=1; session=s; login-0123456789abcdef=t; b={"c": 2}; sessions=3'),
    ).toBe('a=1; b={"c": 2}; sessions=3');
    expect(http.withoutOwn('session=s')).toBeNull();
    expect(
      http.withoutOwn(
        'session; login-0123456789abcdef; =session=s; = Session; \u00a0session=s; \tsession =s; opaque; =a=b',
      ),
    ).toBe('opaque; =a=b');
    expect(https.withoutOwn('session=upstream; __host-session=s')).toBe('session=upstream');
    expect(http.withoutOwn('login-theme=dark; LOGIN-0123456789abcdef=t')).toBe('login-theme=dark');
  });

  test('may have another name, which alone is its own then', () => {
    const [plain, secure] = [false, true].map(
      (https) => new GatewayCookies({ https, sameSite: 'lax', name: 'sid' }),
    ) as [GatewayCookies, GatewayCookies];
    expect([plain.sessionName, secure.sessionName]).toEqual(['sid', '__Host-sid']);
    expect(plain.session('session=theirs; sid=ours')).toBe('ours');
    expect(plain.withoutOwn('session=theirs; sid=ours')).toBe('session=theirs');
    expect(['sid', 'a.b', '_s'].every(isSessionCookieName)).toBe(true);
    for (const name of ['', 'a b', 'a=b', 'a;b', '__Host-sid', '__secure-x', 'Login-x', 'é'])
      expect([name, isSessionCookieName(name)]).toEqual([name, false]);
  });

  test('of logins under way is named once, and nothing else that begins alike', () => {
    const id = '0123456789abcdef';
    expect(
      http.logins(
        `login-${id}=1; login-=2; login-x=3; login-${id}=4; LOGIN-${id}=5; login-${id}0=6`,
      ),
    ).toEqual([{ name: `login-${id}`, bytes: 2 * `login-${id}=1`.length }]);
  });
});
