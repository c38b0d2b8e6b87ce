import { describe, expect, test } from '@jest/globals';
import { CookieJar } from './cookieJar.js';

describe('the cookie jar', () => {
  test('sends a cookie back to its host and below its path only', () => {
    const jar = new CookieJar();
    jar.take('a=1; Path=/realms/x', 'http://a.test/realms/x/login');
    jar.take('b=2', 'http://a.test/one/two');
    expect(jar.header('http://a.test:8080/realms/x/auth')).toBe('a=1');
    expect(jar.header('http://a.test/realms/xy')).toBe('');
    expect(jar.header('http://a.test/one/three')).toBe('b=2');
    expect(jar.header('http://b.a.test/one/three')).toBe('');
  });

  test('drops a cookie that is set into the past', () => {
    const jar = new CookieJar();
    jar.take('session=x; Path=/; HttpOnly; SameSite=Lax', 'http://a.test/');
    expect(jar.get('session')).toMatchObject({ httpOnly: true, sameSite: 'Lax', expiresAt: null });
    jar.take('session=; Path=/; Max-Age=0', 'http://a.test/');
    expect(jar.list()).toEqual([]);
  });

  test('keeps secure cookies from plain connections other than loopback', () => {
    const jar = new CookieJar();
    jar.take('s=1; Secure; Path=/', 'https://a.test/');
    jar.take('l=1; Secure; Path=/', 'http://127.0.0.1:3000/');
    expect([
      jar.header('http://a.test/'),
      jar.header('https://a.test/'),
      jar.header('http://127.0.0.1/'),
    ]).toEqual(['', 's=1', 'l=1']);
  });
});
