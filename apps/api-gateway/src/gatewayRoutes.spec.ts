import { describe, expect, test } from '@jest/globals';
import { matchRoute, parseRoutes } from './gatewayRoutes.js';
import { upstreamPath } from './upstreamHeaders.js';

const of = (...routes: unknown[]) => parseRoutes(JSON.stringify(routes));
const up = 'http://127.0.0.1:9';

describe('the routing table', () => {
  test('takes the first route whose path covers whole segments, in its own case', () => {
    const { routes } = of({ path: '/api/admin', upstream: up, protect: 'realm:admin' }, { path: '/api', upstream: up }, { path: '/', upstream: up, auth: 'none' });
    const match = (path: string) => matchRoute(routes, path)?.path;
    expect(['/api', '/api/', '/api/x', '/api/admin', '/api/administrator', '/apix', '/API', '/'].map(match)).toEqual(['/api', '/api', '/api', '/api/admin', '/api', '/', '/', '/']);
    expect(matchRoute(of({ path: '/api', upstream: up }).routes, '/other')).toBeNull();
  });

  test('defaults to any caller and the access token', () => {
    expect(of({ path: '/api', upstream: up }).routes[0]).toMatchObject({ auth: 'any', token: 'access', stripPrefix: false });
  });

  test.each([
    ['an unknown field', { path: '/a', upstream: up, proteccct: 'x' }], ['no upstream', { path: '/a' }], ['a relative path', { path: 'a', upstream: up }], ['an encoded path', { path: '/%61', upstream: up }],
    ['a dot segment', { path: '/a/../b', upstream: up }], ['an own path', { path: '/auth/x', upstream: up }], ['a bad auth', { path: '/a', upstream: up, auth: 'cookie' }],
    ['protect without a caller', { path: '/a', upstream: up, auth: 'none', protect: 'realm:x' }], ['a role with two colons', { path: '/a', upstream: up, protect: 'realm:a:b' }],
    ['credentials in the upstream', { path: '/a', upstream: 'http://u:sesame@h' }], ['a text', 'sesame'],
  ])('with %s is refused with the place of the fault', (_, route) => {
    const { problems } = of({ path: '/ok', upstream: up }, route);
    expect(problems.length).toBeGreaterThan(0);
    expect(problems.every((problem) => problem.startsWith('route 2'))).toBe(true);
    expect(problems.join()).not.toContain('sesame');
  });

  test('that is no JSON list is refused', () => {
    expect(parseRoutes('{').problems).toEqual(['not valid JSON']);
    expect(parseRoutes('{}').problems).toEqual(['must be a JSON list of routes']);
  });

  test('forwards the very bytes of the target, with the prefix off where asked', () => {
    const route = (path: string, upstream: string, stripPrefix: boolean) => ({ path, upstream: new URL(upstream), stripPrefix });
    expect(upstreamPath(route('/api', 'http://h', false), '/api/%61?q=%2F')).toBe('/api/%61?q=%2F');
    expect(upstreamPath(route('/api', 'http://h/base/', true), '/api/x?y')).toBe('/base/x?y');
    expect(upstreamPath(route('/api', 'http://h', true), '/api')).toBe('/');
    expect(upstreamPath(route('/api', 'http://h', true), '/api?y')).toBe('/?y');
    expect(upstreamPath(route('/', 'http://h/b', true), '/x')).toBe('/b/x');
  });
});
