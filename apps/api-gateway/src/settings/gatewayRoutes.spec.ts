import { describe, expect, test } from '@jest/globals';
import { unambiguousPath } from '../request/requestPath.js';
import { isUnderAnotherRule, matchRoute, parseRoutes } from './gatewayRoutes.js';
import { upstreamPath } from '../proxy/upstreamHeaders.js';

const of = (...routes: unknown[]) => parseRoutes(JSON.stringify(routes));
const up = 'http://127.0.0.1:9';

describe('the routing table', () => {
  test('takes the first route whose path covers whole segments, in its own case', () => {
    const { routes } = of(
      { path: '/api/admin', upstream: up, protect: 'realm:admin' },
      { path: '/api', upstream: up },
      { path: '/', upstream: up, auth: 'none' },
    );
    const match = (path: string) => matchRoute(routes, path)?.path;
    expect(
      ['/api', '/api/', '/api/x', '/api/admin', '/api/administrator', '/apix', '/API', '/'].map(
        match,
      ),
    ).toEqual(['/api', '/api', '/api', '/api/admin', '/api', '/', '/', '/']);
    expect(matchRoute(of({ path: '/api', upstream: up }).routes, '/other')).toBeNull();
  });

  test('defaults to any caller and the access token', () => {
    expect(of({ path: '/api', upstream: up }).routes[0]).toMatchObject({
      auth: 'any',
      token: 'access',
      stripPrefix: false,
    });
  });

  test.each([
    ['an unknown field', { path: '/a', upstream: up, proteccct: 'x' }],
    ['no upstream', { path: '/a' }],
    ['a relative path', { path: 'a', upstream: up }],
    ['an encoded path', { path: '/%61', upstream: up }],
    ['a dot segment', { path: '/a/../b', upstream: up }],
    ['an own path', { path: '/auth/x', upstream: up }],
    ['a bad auth', { path: '/a', upstream: up, auth: 'cookie' }],
    ['protect without a caller', { path: '/a', upstream: up, auth: 'none', protect: 'realm:x' }],
    ['cors with a path', { path: '/a', upstream: up, cors: ['https://sesame.example/'] }],
    ['cors with any origin', { path: '/a', upstream: up, cors: ['*'] }],
    ['cors with a default port', { path: '/a', upstream: up, cors: ['https://a.example:443'] }],
    ['cors for cookies', { path: '/a', upstream: up, auth: 'session', cors: ['https://a.b'] }],
    ['acr without a caller', { path: '/a', upstream: up, auth: 'none', acr: 'gold' }],
    ['an acr that is none', { path: '/a', upstream: up, acr: 'sesame"' }],
    ['an empty acr', { path: '/a', upstream: up, acr: '' }],
    ['a role with two colons', { path: '/a', upstream: up, protect: 'realm:a:b' }],
    ['credentials in the upstream', { path: '/a', upstream: 'http://u:sesame@h' }],
    ['a header that is none', { path: '/a', upstream: up, dropHeaders: ['a b'] }],
    [
      'a header that only the gateway sends',
      { path: '/a', upstream: up, passHeaders: ['X_Auth_Y'] },
    ],
    ['the header Proxy let through', { path: '/a', upstream: up, passHeaders: ['proxy'] }],
    ['a text', 'sesame'],
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
    const route = (path: string, upstream: string, stripPrefix: boolean) => ({
      path,
      upstream: new URL(upstream),
      stripPrefix,
    });
    expect(upstreamPath(route('/api', 'http://h', false), '/api/%61?q=%2F')).toBe('/api/%61?q=%2F');
    expect(upstreamPath(route('/api', 'http://h/base/', true), '/api/x?y')).toBe('/base/x?y');
    expect(upstreamPath(route('/api', 'http://h', true), '/api')).toBe('/');
    expect(upstreamPath(route('/api', 'http://h', true), '/api?y')).toBe('/?y');
    expect(upstreamPath(route('/', 'http://h/b', true), '/x')).toBe('/b/x');
  });
});

describe('a path that a lenient server reads otherwise', () => {
  const elsewhere = 'http://127.0.0.1:10';
  const { routes } = of(
    { path: '/api/administration', upstream: up, protect: 'realm:admin' },
    { path: '/api/admin', upstream: up, protect: 'realm:admin' },
    { path: '/api/jobs:run', upstream: up, protect: 'realm:admin' },
    { path: '/api', upstream: up },
    { path: '/files', upstream: up },
    { path: '/Other', upstream: elsewhere, auth: 'none' },
    { path: '/', upstream: up, auth: 'none' },
  );
  /** `refused`, or the path of the rule that holds. */
  const ruleOf = (target: string): string => {
    const path = unambiguousPath(target);
    const route = path && matchRoute(routes, path.raw);
    if (!path || !route || isUnderAnotherRule(routes, route, path)) return 'refused';
    return route.path;
  };

  test.each([
    '/api/admin%3fx',
    '/api/admin%253fx',
    '/api/admin%23x',
    '/api/admin.',
    '/api/admin...',
    '/api/admin%20',
    '/api/admin%2e',
    '/api/admin.%20.',
    '/api/admin%09',
    '/api/ad%09min',
    '/api/admin+',
    '/api/%20admin/x',
    '/api/admin./x',
    '/api/admin::$DATA',
    '/api/admin:$I30:$INDEX_ALLOCATION/x',
    '/api/admin%3A%3A%24DATA',
    '/api/jobs:run%20',
    '/api/ADMIN',
    '/api/adm%c4%b1n',
    '/api/%25u0061dmin',
    '/api/Admin/x',
    '/API/x',
    '/api/ADMIN.',
    '/api/ADMINI~1',
    '/api/admini~1/x',
    '/api/AD0B2C~1',
    '/api/%ef%bd%81dmin',
    '/api/%c3%a4dmin',
    '/api/a%e2%80%8bdmin',
    '/api/%e2%93%90dmin',
    '/api%3f/x',
    '/api./x',
    '/api%20/x',
    '/.../api/x',
    '/...;/api/x',
    '/.%2e%2e/api/x',
    '/%20/api/x',
  ])('%s is refused where another rule would hold', (target) => {
    expect(ruleOf(target)).toBe('refused');
  });

  test.each([
    ['/files/a%20b.txt', '/files'],
    ['/files/a%20', '/files'],
    ['/files/.hidden', '/files'],
    ['/files/What%3f.md', '/files'],
    ['/files/C%23/notes.', '/files'],
    ['/files/backup~1', '/files'],
    ['/files/12:30', '/files'],
    ['/files/caf%C3%A9%20au%20lait', '/files'],
    ['/files/%E6%97%A5%E6%9C%AC', '/files'],
    ['/files/README.TXT', '/files'],
    ['/api/Users/7', '/api'],
    ['/api/v1.2/items', '/api'],
    ['/api/administrators', '/api'],
    ['/api/admin.json', '/api'],
    ['/files/d%c4%b1%C5%9Far%C4%B1', '/files'],
    ['/files/100%25unit', '/files'],
    ['/api/jobs', '/api'],
    ['/api/jobs:run', '/api/jobs:run'],
    ['/api/jobs:run/1', '/api/jobs:run'],
    ['/api/admin', '/api/admin'],
    ['/Other/x', '/Other'],
    ['/other/x', '/'],
    ['/a.b/c', '/'],
  ])('%s passes under its one rule', (target, rule) => {
    expect(ruleOf(target)).toBe(rule);
  });
});
