import type { IncomingMessage } from 'node:http';
import { describe, expect, jest, test } from '@jest/globals';
import type { Gateway } from '../gateway.js';
import { GatewayCookies } from '../request/sessionCookie.js';
import { parseRoutes } from '../settings/gatewayRoutes.js';
import { answerHeaders, requestHeaders } from './upstreamHeaders.js';

const warn = jest.fn();
const gateway = {
  config: { publicUrl: new URL('https://app.example'), trustedProxies: () => false },
  cookies: new GatewayCookies({ https: false, sameSite: 'lax' }),
  log: { warn },
} as unknown as Gateway;
const routeOf = (fields: object = {}) =>
  parseRoutes(JSON.stringify([{ path: '/api', upstream: 'http://h', ...fields }])).routes[0]!;

function sent(names: readonly string[], fields: object = {}): string[] {
  const rawHeaders = names.flatMap((name) => [name, 'root']);
  const request = { rawHeaders, headers: {}, socket: { remoteAddress: '192.0.2.9' } };
  const headers = requestHeaders(
    gateway,
    routeOf(fields),
    request as unknown as IncomingMessage,
    {},
  );
  return headers.filter((_, i) => headers[i + 1] === 'root');
}

describe('a request to an upstream', () => {
  test.each([
    'Proxy',
    'PROXY',
    'X-Auth-User',
    'X-Forwarded-User',
    'X_Forwarded_Groups',
    'X-Forwarded',
    'X-Original-URI',
    'X-Original-Method',
    'X.Original.Host',
  ])('never has a client’s %s, whatever its route says', (name) => {
    expect(sent([name, 'Accept'])).toEqual(['Accept']);
    expect(
      parseRoutes(JSON.stringify([{ path: '/a', upstream: 'http://h', passHeaders: [name] }]))
        .problems,
    ).toHaveLength(1);
  });

  test.each([
    'Remote-User',
    'REMOTE_USER',
    'Remote.User',
    'Remote-Groups',
    'X-Remote-User',
    'X-Remote-Extra-Scopes',
    'Impersonate-User',
    'X-HTTP-Method-Override',
    'X-Method-Override',
    'True-Client-IP',
    'CF-Connecting-IP',
    'X-Client-IP',
    'X-Cluster-Client-IP',
    'Fastly-Client-IP',
    'X-WEBAUTH-USER',
    'X-Consumer-Username',
    'X-Goog-Authenticated-User-Email',
    'X-Amzn-Oidc-Data',
    'X-MS-CLIENT-PRINCIPAL',
    'Cf-Access-Authenticated-User-Email',
    'Tailscale-User-Login',
    'SM_USER',
    'OIDC_CLAIM_sub',
    'Shib-Identity-Provider',
    'X-User-Id',
    'X-Scope-OrgID',
    'SSL-Client-Cert',
    'X-SSL-Client-Verify',
    'Client-Cert',
    'X-Middleware-Subrequest',
    'Forwarded-For',
    'DO-Connecting-IP',
    'X-Vercel-Forwarded-For',
    'GAP-Auth',
    'SMUSER',
    'X-Endpoint-API-UserInfo',
    'X-Auth',
  ])('has a client’s %s only where its route lets it pass', (name) => {
    expect(sent([name, 'Accept'])).toEqual(['Accept']);
    expect(sent([name, 'Accept'], { passHeaders: [name.toLowerCase()] })).toEqual([name, 'Accept']);
  });

  test('has everything else, but for what its route drops, in any spelling', () => {
    const names = ['X-User-Agent', 'X-Client-Info', 'X-Requested-With', 'X-Api-Key', 'Tenant'];
    expect(sent(names)).toEqual(names);
    expect(
      sent([...names, 'X_Api_Key', 'TENANT'], { dropHeaders: ['x-api-key', 'Tenant'] }),
    ).toEqual(['X-User-Agent', 'X-Client-Info', 'X-Requested-With']);
  });

  test('has the gateway’s own fields first, with PUBLIC_URL’s host and scheme', () => {
    const request = {
      rawHeaders: ['Accept', '*/*'],
      headers: { 'x-forwarded-proto': 'http', 'x-forwarded-host': 'evil.example' },
      socket: { remoteAddress: '192.0.2.9' },
    } as unknown as IncomingMessage;
    expect(requestHeaders(gateway, routeOf(), request, { authorization: 'Bearer t' })).toEqual([
      'x-forwarded-for',
      '192.0.2.9',
      'x-forwarded-proto',
      'https',
      'x-forwarded-host',
      'app.example',
      'forwarded',
      'for=192.0.2.9;proto=https;host="app.example"',
      'authorization',
      'Bearer t',
      'Accept',
      '*/*',
    ]);
  });
});

describe('an answer of an upstream', () => {
  const passed = (...raw: string[]): string[] => answerHeaders(raw, routeOf(), gateway);

  test.each([
    '=session=x',
    ' = session=x',
    '==session=x',
    'session',
    '; Path=/',
    'session=x; Path=/',
    ' SESSION =x',
    'login-0123456789abcdef=x',
  ])('sets no cookie %j', (cookie) => {
    expect(passed('Set-Cookie', cookie, 'Set-Cookie', 'a=session=1')).toEqual([
      'Set-Cookie',
      'a=session=1',
    ]);
  });

  test('with the name of the session cookie is told once', () => {
    warn.mockClear();
    const cookies = new GatewayCookies({ https: true, sameSite: 'lax', name: 'sid' });
    const other = { ...gateway, cookies };
    for (let i = 0; i < 3; i++)
      expect(
        answerHeaders(
          ['Set-Cookie', '__Host-sid=x; Secure', 'Set-Cookie', 'sid=1', 'Set-Cookie', 'session=2'],
          routeOf(),
          other,
        ),
      ).toEqual(['Set-Cookie', 'sid=1', 'Set-Cookie', 'session=2']);
    expect(warn.mock.calls).toEqual([
      [{ event: 'cookie', route: '/api' }, expect.stringContaining('SESSION_COOKIE_NAME')],
    ]);
  });

  test.each([
    'Clear-Site-Data',
    'Strict-Transport-Security',
    'X-Request-Id',
    'Alt-Svc',
    'NEL',
    'Public-Key-Pins',
  ])('says no %s for the whole host', (name) => {
    expect(passed(name, 'x', 'ETag', '"1"')).toEqual(['ETag', '"1"']);
  });
});
