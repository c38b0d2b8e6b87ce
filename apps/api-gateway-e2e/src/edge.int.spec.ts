import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser, type TestGateway } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

const tokenForm = (token: string): URLSearchParams => new URLSearchParams({ logout_token: token });

/** What comes back for a head that no HTTP client would write, until the other side closes or has answered. */
function rawAnswer(port: number, lines: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('data', (piece) => {
      socket.destroy();
      resolve(String(piece));
    });
    socket.once('error', () => resolve('cut'));
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  });
}

/** One cluster for all of these: the first gateway as most have it, the second under other settings. */
describe('at its edge the gateway', () => {
  let stack: Stack;
  let other: TestGateway;
  const nobody = new HttpBrowser();
  beforeAll(async () => {
    stack = await startStack({
      redis: false,
      env: { RATE_LIMIT_CALLBACK: '3', RATE_LIMIT_LOGOUT_TOKEN: '3' },
    });
    const { url: upstream } = stack.upstream;
    other = await stack.startGateway({
      POST_LOGOUT_URL: '/goodbye?from=gateway',
      KEYCLOAK_ID_TOKEN_ALG: 'PS256',
      SESSION_COOKIE_NAME: 'sid',
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/bearer', upstream, auth: 'bearer', cors: ['https://spa.example'] },
        { path: '/prefixed', upstream, auth: 'none', stripPrefix: true, preserveHost: true },
        { path: '/open', upstream, auth: 'none', passHeaders: ['X-HTTP-Method-Override'] },
        { path: '/', upstream },
      ]),
    });
  });
  afterAll(async () => {
    await nobody.close();
    await stack.dispose();
  });

  test('has pages for the end of a session, which begin no login, also where a route takes /', async () => {
    for (const [url, heading] of [
      [`${stack.url}/auth/logged-out`, 'You are logged out'],
      [`${stack.url}/auth/ended`, 'Your session is over'],
      [`${other.url}/auth/ended`, 'Your session is over'],
    ] as const) {
      const page = await nobody.navigate(url);
      expect([page.status, page.setCookies, page.headers['cache-control']]).toEqual([
        200,
        [],
        'no-store',
      ]);
      expect(page.text).toContain(`<h1>${heading}</h1>`);
      expect(page.text).not.toMatch(/http-equiv/i);
    }
    const onward = await nobody.navigate(`${other.url}/auth/logged-out`);
    expect([onward.status, onward.headers['location']]).toEqual([303, '/goodbye?from=gateway']);
    const script = await nobody.get(`${other.url}/account/page.js`);
    expect(script.text).toContain('/auth/ended');
    const start = await nobody.navigate(`${stack.url}/`);
    expect([start.status, start.text.includes('You are not logged in')]).toEqual([200, true]);
    const routed = await nobody.navigate(`${other.url}/`);
    expect([routed.status, routed.location?.pathname]).toEqual([302, '/auth/login']);
  });

  test("takes the provider's logout tokens and people's logins although strangers' have used up the limit of their address", async () => {
    const { cookie, id, subject } = await stack.session('alice');
    const garbage = async (): Promise<number[]> => [
      (await stack.ask(0, '/auth/callback?code=x&state=y')).status,
      (await nobody.post(`${stack.url}/auth/backchannel-logout`, tokenForm('x.y.z'))).status,
    ];
    for (let i = 0; i < 4; i++) await garbage();
    expect(await garbage()).toEqual([429, 429]);
    const login = await stack.login('bob');
    expect((await login.get(`${stack.url}/auth/session`)).status).toBe(200);
    // A response that belongs to a login, with a code that the provider never gave.
    const begun = await login.navigate(`${stack.url}/auth/login`);
    const state = begun.location!.searchParams.get('state')!;
    const statuses = [];
    for (let i = 0; i < 7; i++)
      statuses.push(
        (await login.navigate(`${stack.url}/auth/callback?code=x&state=${state}`)).status,
      );
    expect([statuses[0], statuses.at(-1)]).toEqual([400, 429]);
    const [{ keycloak_session_id: sid } = { keycloak_session_id: '' }] = await stack.sql<{
      keycloak_session_id: string;
    }>('SELECT keycloak_session_id FROM user_sessions WHERE id = $1', [id]);
    const token = await stack.provider!.logoutToken({ sub: subject, sid });
    expect(
      (await nobody.post(`${stack.url}/auth/backchannel-logout`, tokenForm(token))).status,
    ).toBe(200);
    expect((await stack.ask(0, '/auth/session', { cookie })).status).toBe(401);
    expect(await garbage()).toEqual([429, 429]);
  });

  test('takes no logout token with another algorithm than KEYCLOAK_ID_TOKEN_ALG, however well it is signed', async () => {
    const { cookie, id, subject } = await stack.session('carol');
    const [{ sid } = { sid: '' }] = await stack.sql<{ sid: string }>(
      'SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1',
      [id],
    );
    const token = await stack.provider!.logoutToken({ sub: subject, sid });
    const sendTo = async (url: string): Promise<[number, string]> => {
      const answer = await nobody.post(`${url}/auth/backchannel-logout`, tokenForm(token));
      return [answer.status, answer.text];
    };
    expect(await sendTo(other.url)).toEqual([400, expect.stringContaining('logout_token_invalid')]);
    await other.said(/"event":"logout_token_refused","reason":"algorithm"/);
    expect((await stack.ask(0, '/auth/session', { cookie })).status).toBe(200);
    // The very same where any algorithm that the metadata lists will do.
    expect(await sendTo(stack.url)).toEqual([200, '']);
    expect((await stack.ask(0, '/auth/session', { cookie })).status).toBe(401);
  });

  test('warns once of X-Forwarded-For from a peer that it does not trust', async () => {
    for (let i = 0; i < 3; i++)
      await stack.ask(0, '/auth/session', { headers: { 'x-forwarded-for': '192.0.2.9' } });
    const [gateway] = stack.gateways;
    await gateway!.said('TRUSTED_PROXIES does not name');
    expect(gateway!.output().split('TRUSTED_PROXIES does not name')).toHaveLength(2);
  });

  test('clears a few of many login-state cookies, and only what is one', async () => {
    const id = (i: number): string => `login-${String(i).padStart(16, '0')}`;
    const many = Array.from({ length: 900 }, (_, i) => `${id(i)}=`).join('; ');
    const answer = await nobody.navigate(`${stack.url}/auth/login`, {
      cookies: false,
      headers: { cookie: `login-theme=dark; ${id(0)}=; ${many}` },
    });
    expect([answer.status, answer.setCookies.length]).toEqual([302, 17]);
    expect(answer.setCookies.join().length).toBeLessThan(8_000);
    expect(answer.setCookies.some((set) => set.startsWith('login-theme'))).toBe(false);
    expect(new Set(answer.setCookies).size).toBe(17);
  });

  test('says in every 401 what would do, without an error where nothing was shown', async () => {
    const challenge = async (gateway: number, path: string, authorization?: string) => {
      const answer = await stack.ask(gateway, path, {
        headers: authorization === undefined ? {} : { authorization },
      });
      return [answer.status, answer.headers['www-authenticate']];
    };
    const login = 'Cookie form-action="/auth/login"';
    expect(await challenge(0, '/auth/session')).toEqual([401, login]);
    expect(await challenge(0, '/auth/verify')).toEqual([401, expect.stringContaining(login)]);
    expect(await challenge(0, '/api/x')).toEqual([401, `Bearer, ${login}`]);
    expect(await challenge(1, '/bearer/x')).toEqual([401, 'Bearer']);
    expect(await challenge(1, '/bearer/x', 'Basic eDp5')).toEqual([401, 'Bearer']);
    expect(await challenge(1, '/bearer/x', 'Bearer x.y.z')).toEqual([
      401,
      'Bearer error="invalid_token"',
    ]);
  });

  test("lets pages of a route's origins, and no others, call it with bearer tokens", async () => {
    const origin = 'https://spa.example';
    const ask = async (headers: Record<string, string>, method = 'GET') => {
      const answer = await stack.ask(1, '/bearer/moved', {
        method,
        headers: { 'sec-fetch-site': 'cross-site', ...headers },
      });
      const told = Object.entries(answer.headers).filter(([name]) => /^access-control-/.test(name));
      return { ...Object.fromEntries(told), status: answer.status, vary: answer.headers['vary'] };
    };
    const shared = {
      'access-control-allow-origin': origin,
      'access-control-expose-headers': '*',
    };
    const preflight = {
      'access-control-request-method': 'PUT',
      'access-control-request-headers': 'authorization,x-a',
    };
    const before = stack.upstream.count();
    expect(await ask({ origin, ...preflight }, 'OPTIONS')).toEqual({
      ...shared,
      'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
      'access-control-allow-headers': 'authorization,x-a',
      'access-control-max-age': '600',
      status: 204,
      vary: 'Origin, Access-Control-Request-Headers',
    });
    expect(await ask({ origin })).toEqual({ ...shared, status: 401, vary: 'Origin' });
    for (const [headers, method] of [
      [{ origin: 'https://evil.example', ...preflight }, 'OPTIONS'],
      [{ origin: 'null' }, 'GET'],
      [{}, 'GET'],
    ] as [Record<string, string>, string][])
      expect(await ask(headers, method)).toEqual({ status: 401, vary: 'Origin' });
    expect(stack.upstream.count()).toBe(before);
    const authorization = `Bearer ${await stack.provider!.bearer()}`;
    expect(await ask({ origin, authorization })).toEqual({
      ...shared,
      status: 302,
      vary: ['Accept', 'Origin'],
    });
  });

  test('tells an upstream its prefix and, where that is asked for, the host, and leads to addresses as they are outside', async () => {
    const { status, headers } = await stack.ask(1, '/prefixed/moved');
    expect([status, headers['location'], headers['set-cookie']]).toEqual([
      302,
      '/prefixed/there?x',
      'a=1; Path=/prefixed',
    ]);
    expect(stack.upstream.requests.at(-1)!.headers).toMatchObject({
      host: new URL(stack.url).host,
      'x-forwarded-prefix': '/prefixed',
    });
    await stack.ask(1, '/open/x', { headers: { 'x-forwarded-prefix': '/evil' } });
    const plain = stack.upstream.requests.at(-1)!.headers;
    expect([plain['host'], plain['x-forwarded-prefix']]).toEqual([
      new URL(stack.upstream.url).host,
      undefined,
    ]);
  });

  test('refuses a path that another server would read as one under another rule', async () => {
    const { cookie } = await stack.session();
    for (const path of ['/api/admin%3fx', '/api/admin.', '/api/admin%20', '/api/ADMIN'])
      expect([path, (await stack.ask(0, path, { cookie })).code]).toEqual([path, 'path_ambiguous']);
    for (const path of ['/api/a%20b.txt', '/api/what%3f', '/open/X.'])
      expect([path, (await stack.ask(0, path, { cookie })).status]).toEqual([path, 200]);
  });

  test('looks up what an address names as an own property', async () => {
    const browser = await stack.login();
    for (const done of ['__proto__', 'constructor', 'toString', 'none'])
      expect([done, (await browser.get(`${stack.url}/account?done=${done}`)).status]).toEqual([
        done,
        200,
      ]);
  });

  test('takes a form of a page that names no referrer, and none of another site', async () => {
    const { cookie } = await stack.session();
    const post = async (headers: Record<string, string>): Promise<number> => {
      const headersOfForm = { 'sec-fetch-site': 'same-origin', origin: 'null', ...headers };
      return (await stack.ask(0, '/api/x', { cookie, method: 'POST', headers: headersOfForm }))
        .status;
    };
    expect(await post({})).toBe(200);
    expect(await post({ 'sec-fetch-site': 'cross-site' })).toBe(403);
    const bare = await nobody.request('POST', `${stack.url}/api/x`, {
      headers: { cookie, origin: 'null' },
      cookies: false,
    });
    expect(bare.status).toBe(403);
  });

  test('has its cookie under the name that is configured, and leaves `session` to the application', async () => {
    const theirs = { cookie: 'session=theirs; sid=ours', 'x-http-method-override': 'DELETE' };
    const answer = await stack.ask(1, '/open/cookies', { headers: theirs });
    expect([answer.headers['set-cookie']].flat()).toContain('session=theirs; Path=/');
    const { headers } = stack.upstream.requests.at(-1)!;
    expect([headers['cookie'], headers['x-http-method-override']]).toEqual([
      'session=theirs',
      'DELETE',
    ]);
    await stack.ask(0, '/open/cookies', { headers: theirs });
    await stack.gateways[0]!.said('(SESSION_COOKIE_NAME)');
    expect(stack.upstream.requests.at(-1)!.headers['x-http-method-override']).toBeUndefined();
  });

  test('is asked by a reverse proxy about a WebSocket only with proof of same origin', async () => {
    const { cookie } = await stack.session();
    const ask = async (headers: Record<string, string>): Promise<number> =>
      (
        await nobody.request('GET', `${stack.url}/auth/verify`, {
          headers: { cookie, ...headers },
          cookies: false,
        })
      ).status;
    expect(await ask({})).toBe(200);
    for (const sign of [{ 'sec-websocket-key': 'x' }, { 'sec-websocket-version': '13' }] as Record<
      string,
      string
    >[]) {
      expect([sign, await ask(sign)]).toEqual([sign, 403]);
      expect([sign, await ask({ ...sign, origin: 'https://evil.example' })]).toEqual([sign, 403]);
      expect([sign, await ask({ ...sign, origin: stack.url })]).toEqual([sign, 200]);
    }
    // As Caddy asks: a handshake in all its fields.
    const shaken = async (origin: string): Promise<string> =>
      rawAnswer(stack.gateways[0]!.port, [
        'GET /auth/verify HTTP/1.1',
        `Host: ${new URL(stack.url).host}`,
        `Cookie: ${cookie}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        `Origin: ${origin}`,
      ]);
    expect(await shaken('https://evil.example')).toMatch(/^HTTP\/1\.1 403 /);
    expect(await shaken(stack.url)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('sends a person who logs out back to the one address that is registered', async () => {
    const browser = await stack.login();
    const answer = await browser.post(`${stack.url}/auth/logout`, undefined, {
      headers: { accept: 'application/json' },
    });
    const { logout_url: logoutUrl } = answer.json() as { logout_url: string };
    expect(new URL(logoutUrl).searchParams.get('post_logout_redirect_uri')).toBe(
      `${stack.url}/auth/logged-out`,
    );
  });
});
