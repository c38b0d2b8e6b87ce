import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser, until, type UpstreamRequest } from '@session-gateway/testkit';
import { problemCode, type SessionBody, type Stack, startStack } from './stack.js';

let stack: Stack;
let browser: HttpBrowser;
let cookie: string;
beforeAll(async () => {
  stack = await startStack({ redis: false });
  browser = await stack.login();
  cookie = `session=${browser.cookies.get('session')!.value}`;
});
afterAll(() => stack.dispose());

/** Bytes as they are, and the bytes of the answer. */
function raw(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(stack.gateways[0]!.port, '127.0.0.1');
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1');
    });
    socket.on('close', () => resolve(answer)).on('error', reject);
    // Left open: a client that closes its half is taken to have gone away.
    socket.write(text.replaceAll('\n', '\r\n'), 'latin1');
  });
}
const get = (target: string, headers = `Cookie: ${cookie}\n`): Promise<string> =>
  raw(`GET ${target} HTTP/1.1\nHost: gateway\n${headers}Connection: close\n\n`);
const statusOf = (answer: string): number => Number(answer.split(' ')[1]);
const last = (): UpstreamRequest => stack.upstream.requests.at(-1)!;

describe('a route', () => {
  test('lets through who has a session or a bearer token, and a bearer token counts first', async () => {
    const bearer = await stack.provider!.bearer({ sub: 'from-the-token' });
    const with_ = (headers: Record<string, string>) =>
      browser.get(`${stack.url}/api/x`, { headers, cookies: false });
    expect((await with_({ cookie })).status).toBe(200);
    expect((await with_({ authorization: `Bearer ${bearer}` })).status).toBe(200);
    expect(last()).toMatchObject({ bearer, claims: { sub: 'from-the-token' } });
    expect((await with_({ cookie, authorization: `bearer ${bearer}` })).status).toBe(200);
    expect(last().bearer).toBe(bearer);
    const before = stack.upstream.count();
    for (const headers of [
      {},
      { authorization: 'Bearer garbage' },
      { cookie, authorization: 'Bearer garbage' },
      { authorization: 'Basic dTpw' },
      { cookie: 'session=unknown' },
    ]) {
      expect((await with_(headers as Record<string, string>)).status).toBe(401);
    }
    expect(stack.upstream.count()).toBe(before);
  });

  test('is guarded by the roles of the token that goes up, not by those of one that has ended', async () => {
    const brief = await startStack({ redis: false, provider: { accessTokenLifespanSeconds: 1 } });
    try {
      const roles = (username: string, realmRoles: string[]) =>
        brief.provider!.setUser(username, { realmRoles });
      roles('demoted', ['admin']);
      const [demoted, promoted] = [await brief.session('demoted'), await brief.session('promoted')];
      roles('demoted', ['user']);
      roles('promoted', ['admin']);
      const hasEnded = async ({ cookie: of }: { cookie: string }) =>
        Date.parse(
          (JSON.parse((await brief.ask(0, '/auth/session', { cookie: of })).text) as SessionBody)
            .session.token_expires_at,
        ) < Date.now();
      await until(async () => (await hasEnded(demoted)) && (await hasEnded(promoted)), {
        what: 'the end of the access tokens',
      });
      expect((await brief.ask(0, '/api/admin/x', { cookie: demoted.cookie })).code).toBe(
        'forbidden',
      );
      expect(brief.upstream.count()).toBe(0);
      expect((await brief.ask(0, '/api/admin/x', { cookie: promoted.cookie })).status).toBe(200);
    } finally {
      await brief.dispose();
    }
  });

  test('that asks for a stronger login leads people through it and back, and tells programs what is missing (RFC 9470)', async () => {
    const { provider, url } = stack;
    const acrIs = (acr: string) => provider!.setUser('stepping', { idTokenClaims: { acr } });
    acrIs('silver');
    const person = await stack.login('stepping');
    provider!.chooseUser('stepping');
    const acrOf = async () =>
      ((await person.get(`${url}/auth/session`)).json() as SessionBody).session.acr;
    const program = await person.get(`${url}/api/gold/x`);
    expect([program.status, problemCode(program), program.setCookies]).toEqual([
      401,
      'insufficient_user_authentication',
      [],
    ]);
    expect(program.headers['www-authenticate']).toMatch(
      /^Bearer error="insufficient_user_authentication", error_description="[^"]+", acr_values="gold"$/,
    );
    expect((await person.get(`${url}/auth/verify`)).headers['x-auth-acr']).toBe('silver');

    const target = '/api/gold/x?a=1&b=%2F';
    const refused = await person.follow(await person.navigate(url + target));
    expect([refused.status, refused.url.pathname, await acrOf()]).toEqual([
      400,
      '/auth/callback',
      'silver',
    ]);
    await stack.gateways[0]!.said(/"code":"callback_rejected","reason":"acr"/);

    acrIs('gold');
    const login = await person.navigate((await person.navigate(url + target)).location!);
    expect(login.location!.searchParams.get('acr_values')).toBe('gold');
    const page = await person.follow(login);
    expect([page.status, page.url.pathname + page.url.search, await acrOf()]).toEqual([
      200,
      target,
      'gold',
    ]);

    const asked = async (claims: object) =>
      (
        await browser.get(`${url}/api/gold/x`, {
          headers: { authorization: `Bearer ${await provider!.bearer({ ...claims })}` },
          cookies: false,
        })
      ).status;
    expect([await asked({ acr: 'gold' }), await asked({ acr: 'silver' }), await asked({})]).toEqual(
      [200, 401, 401],
    );
    provider!.chooseUser('demo');
  });

  test('tells programs 401 and takes people to the login', async () => {
    const anonymous = new HttpBrowser();
    const program = await anonymous.get(`${stack.url}/api/x`);
    expect([program.status, program.headers['content-type'], problemCode(program)]).toEqual([
      401,
      'application/problem+json',
      'session_not_found',
    ]);
    const person = await anonymous.navigate(`${stack.url}/api/x?a=1&b=2`);
    expect([
      person.status,
      person.location!.pathname,
      person.location!.searchParams.get('return_to'),
    ]).toEqual([302, '/auth/login', '/api/x?a=1&b=2']);
    await anonymous.close();
  });

  test('is open without a caller where it says so, takes its prefix off, and adds no token', async () => {
    const answer = await browser.get(`${stack.url}/open/a/b?c`, {
      headers: { cookie },
      cookies: false,
    });
    expect(answer.status).toBe(200);
    expect(last()).toMatchObject({ url: '/a/b?c', bearer: null });
    expect(last().headers['cookie']).toBeUndefined();
  });

  test('passes other cookies and hides its own in both directions', async () => {
    const answer = await browser.get(`${stack.url}/api/cookies`, {
      headers: { cookie: `a=1; ${cookie}; login-0123456789abcdef=y; b={"c":2}` },
      cookies: false,
    });
    expect(answer.setCookies).toEqual(['a=1; Path=/', 'b=2; Path=/; HttpOnly']);
    expect(last().headers['cookie']).toBe('a=1; b={"c":2}');
  });

  test('streams a body of any size up and down unchanged', async () => {
    const body = randomBytes(3_000_000);
    const up = await browser.request('POST', `${stack.url}/api/upload`, {
      body,
      headers: { cookie, 'sec-fetch-site': 'same-origin' },
      cookies: false,
    });
    expect([up.status, last().bodyBytes, last().bodySha256]).toEqual([
      200,
      body.length,
      createHash('sha256').update(body).digest('hex'),
    ]);
    const chunked = await fetch(`${stack.url}/api/upload`, {
      method: 'POST',
      body: Readable.toWeb(Readable.from([body])),
      duplex: 'half',
      headers: { cookie, 'x-csrf': '1' },
    });
    expect([chunked.status, last().bodyBytes]).toEqual([200, body.length]);
    await chunked.arrayBuffer();
    const down = await fetch(`${stack.url}/api/download/5000000`, { headers: { cookie } });
    expect((await down.arrayBuffer()).byteLength).toBe(5_000_000);
  });

  test("passes events on as they come, and a client's going away", async () => {
    const events = await fetch(`${stack.url}/api/sse/3`, { headers: { cookie } });
    expect([
      events.headers.get('content-type'),
      (await events.text()).match(/^data:/gm)?.length,
    ]).toEqual([expect.stringContaining('text/event-stream'), 3]);
    const aborted = stack.upstream.aborted();
    const abort = new AbortController();
    const hanging = fetch(`${stack.url}/api/hang`, { headers: { cookie }, signal: abort.signal });
    await until(() => stack.upstream.open() === 1, { what: 'the request reaching the API' });
    abort.abort();
    await expect(hanging).rejects.toThrow();
    await until(() => stack.upstream.aborted() > aborted, { what: 'the API being told' });
  });

  test('cuts an event stream when its session ends, and no other', async () => {
    const [leaving, staying] = [await stack.session('leaving'), await stack.session('staying')];
    const open = async ({ cookie: of }: { cookie: string }) => {
      const stream = { cut: false };
      const { body } = await fetch(`${stack.url}/api/silent`, { headers: { cookie: of } });
      void new Response(body).text().catch(() => {
        stream.cut = true;
      });
      return stream;
    };
    const [theirs, other] = [await open(leaving), await open(staying)];
    const out = await stack.ask(0, '/auth/logout', {
      method: 'POST',
      cookie: leaving.cookie,
      headers: { 'x-csrf': '1' },
    });
    expect(out.status).toBeLessThan(400);
    await until(() => theirs.cut, { what: 'the end of the stream' });
    expect(other.cut).toBe(false);
  });

  test.each(['reset', 'cut'])(
    'behind which the API fails (%s) neither hangs nor harms the next request',
    async (how) => {
      const answer = await fetch(`${stack.url}/api/${how}`, { headers: { cookie } }).then(
        (response) =>
          response.text().then(
            () => response.status,
            () => 'cut',
          ),
        () => 'cut',
      );
      expect(answer).toBe(how === 'reset' ? 502 : 'cut');
      expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    },
  );
});

describe('an upstream that answers 401', () => {
  const tokenOf = async (): Promise<string> => {
    await browser.get(`${stack.url}/api/x`);
    return last().bearer!;
  };

  test('gets the request once more with a renewed token', async () => {
    const [old, refreshes] = [await tokenOf(), stack.provider!.counts.refresh];
    stack.upstream.refuse(old);
    const answers = await Promise.all(
      ['GET', 'PUT', 'DELETE'].map((method) =>
        browser.request(method, `${stack.url}/api/x`, { headers: { 'x-csrf': '1' } }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(stack.provider!.counts.refresh).toBe(refreshes + 1);
    expect(last().bearer).not.toBe(old);
  });

  test('has the last word where the request cannot be sent twice', async () => {
    const [old, refreshes] = [await tokenOf(), stack.provider!.counts.refresh];
    stack.upstream.refuse(old);
    for (const [method, body] of [
      ['POST', ''],
      ['PATCH', ''],
      ['PUT', 'a body'],
    ] as const) {
      const before = stack.upstream.count();
      const answer = await browser.request(method, `${stack.url}/api/x`, {
        headers: { 'x-csrf': '1' },
        ...(body === '' ? {} : { body }),
      });
      expect([answer.status, stack.upstream.count() - before]).toEqual([401, 1]);
    }
    const bearer = await stack.provider!.bearer();
    stack.upstream.refuse(bearer);
    expect(
      (
        await browser.get(`${stack.url}/api/x`, {
          headers: { authorization: `Bearer ${bearer}` },
          cookies: false,
        })
      ).status,
    ).toBe(401);
    expect(stack.provider!.counts.refresh).toBe(refreshes);
  });

  test('whatever the token makes nobody refresh again and again, and logs nobody out while the provider is away', async () => {
    const visitor = await stack.login('bob');
    stack.provider!.answerNext({ status: 503 });
    const away = await visitor.get(`${stack.url}/api/status/401`);
    expect([away.status, problemCode(away), away.headers['retry-after']]).toEqual([
      503,
      'provider_unavailable',
      expect.stringMatching(/^\d+$/),
    ]);
    const refreshes = stack.provider!.counts.refresh;
    for (let i = 0; i < 5; i++)
      expect((await visitor.get(`${stack.url}/api/status/401`)).status).toBe(401);
    expect(stack.provider!.counts.refresh).toBe(refreshes + 1);
    expect((await visitor.get(`${stack.url}/auth/session`)).status).toBe(200);
  });

  test('for a session that the provider has ended leads to a new login', async () => {
    const visitor = await stack.login('alice');
    await visitor.get(`${stack.url}/api/x`);
    stack.upstream.refuse(last().bearer!);
    stack.provider!.endSession(String(last().claims!['sid']));
    const answer = await visitor.get(`${stack.url}/api/x`);
    expect([answer.status, problemCode(answer)]).toEqual([401, 'reauthentication_required']);
  });
});

test('the head of a stream arrives before there is anything in it', async () => {
  const abort = new AbortController();
  const answer = await fetch(`${stack.url}/api/silent`, {
    headers: { cookie },
    signal: abort.signal,
  });
  expect(answer.status).toBe(200);
  abort.abort();
});

describe('an unsafe request with the cookie', () => {
  test.each<[string, Record<string, string>, number]>([
    ['from our own page', { 'sec-fetch-site': 'same-origin' }, 200],
    ['with our origin', { origin: 'OURS' }, 200],
    ['with the header', { 'x-csrf': '1' }, 200],
    ['that proves nothing', {}, 403],
    ['from a sibling', { 'sec-fetch-site': 'same-site', 'x-csrf': '1' }, 403],
    ['from elsewhere', { origin: 'https://evil.example' }, 403],
    ['from nowhere', { origin: 'null' }, 403],
  ])('%s gets %s %s', async (_, headers, status) => {
    const before = stack.upstream.count();
    const own = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, value === 'OURS' ? stack.url : value]),
    );
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      const answer = await browser.request(method, `${stack.url}/api/x`, {
        headers: { cookie, ...own },
        cookies: false,
      });
      expect(answer.status).toBe(status);
      if (status === 403) expect(problemCode(answer)).toBe('csrf_rejected');
    }
    expect(stack.upstream.count() - before).toBe(status === 200 ? 4 : 0);
  });

  test('is refused when it carries two session cookies, in either order', async () => {
    for (const two of [`${cookie}; session=x`, `session=x; ${cookie}`]) {
      const answer = await browser.get(`${stack.url}/auth/session`, {
        headers: { cookie: two },
        cookies: false,
      });
      expect([answer.status, problemCode(answer)]).toEqual([400, 'cookie_ambiguous']);
    }
  });
});

describe('on the wire', () => {
  test.each([
    '//api/x',
    '/api/../open/x',
    '/api/%2e%2e/open/x',
    '/open/..%2fapi/x',
    '/open/%252e%252e/api',
    '/open/..;/api',
    '/open\\..\\api',
    '/open/%5c..%5capi',
    '/api/x%00',
    '/open/.%2e/api',
    '/api/x#y',
    '/%2561uth/session/../x',
    'http://elsewhere.example/api/x',
  ])('the path %s is refused before any rule is looked at', async (target) => {
    const before = stack.upstream.count();
    const answer = await get(target, '');
    expect(statusOf(answer)).toBe(400);
    expect(stack.upstream.count()).toBe(before);
  });

  test('letters that are encoded do not lead past a rule', async () => {
    const before = stack.upstream.count();
    for (const target of ['/%61pi/x', '/a%70i/x', '/%2561pi/x'])
      expect([400, 401]).toContain(statusOf(await get(target, '')));
    expect(stack.upstream.count()).toBe(before);
  });

  test('TRACE, whose answer would show the token, goes nowhere', async () => {
    const before = stack.upstream.count();
    for (const target of ['/api/x', '/open/x', '/auth/session', `${stack.url}/api/x`]) {
      const answer = await raw(
        `TRACE ${target} HTTP/1.1\nHost: gateway\nCookie: ${cookie}\nConnection: close\n\n`,
      );
      expect([statusOf(answer), answer]).toEqual([
        405,
        expect.stringMatching(/\r\nAllow: GET, HEAD, .*"code":"method_not_allowed"/s),
      ]);
    }
    expect(stack.upstream.count()).toBe(before);
  });

  test('the absolute form of our own address is as good as the path', async () => {
    expect(statusOf(await get(`${stack.url}/api/absolute`))).toBe(200);
    expect(last().url).toBe('/api/absolute');
  });

  test.each([
    [
      'both lengths',
      'POST /api/x HTTP/1.1\nHost: g\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n',
    ],
    [
      'two lengths',
      'POST /api/x HTTP/1.1\nHost: g\nContent-Length: 5\nContent-Length: 6\n\nhello!',
    ],
    ['an unknown coding', 'POST /api/x HTTP/1.1\nHost: g\nTransfer-Encoding: xchunked\n\n0\n\n'],
    ['a folded header', 'GET /api/x HTTP/1.1\nHost: g\nX-A: 1\n 2: 3\nX-Auth-Subject\n: root\n\n'],
    ['a space before the colon', 'GET /api/x HTTP/1.1\nHost: g\nX-Auth-Subject : root\n\n'],
  ])('a request with %s is refused', async (_, text) => {
    const before = stack.upstream.count();
    expect(statusOf(await raw(text))).toBe(400);
    expect(stack.upstream.count()).toBe(before);
  });

  test('identity cannot be claimed in any spelling, nor stripped by naming it in Connection', async () => {
    const spoofed = [
      'X-Auth-Subject',
      'X-AUTH-ROLES',
      'X_Auth_Subject',
      'x_forwarded_for',
      'X-Forwarded-User',
      'Forwarded',
      'X-Real-IP',
      'X_Real_IP',
      'X-Forwarded_Host',
    ]
      .map((name) => `${name}: root\n`)
      .join('');
    const answer = await raw(
      `GET /api/x HTTP/1.1\nHost: g\nCookie: ${cookie}\n${spoofed}Connection: close, authorization, x-forwarded-proto\nX-Named: 1\n\n`,
    );
    expect(statusOf(answer)).toBe(200);
    expect(last().rawHeaders.join(' ')).not.toContain('root');
    expect(last().bearer).toMatch(/^eyJ/);
    expect(last().headers).toMatchObject({
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': new URL(stack.url).host,
    });
  });

  test('a trusted proxy is believed about the client, upstream and in the list of sessions, but not about host and scheme', async () => {
    const behind = await startStack({
      redis: false,
      env: { TRUSTED_PROXIES: '10.0.0.0/8, 127.0.0.1' },
    });
    const claims = {
      'x-forwarded-for': '1.1.1.1, 192.0.2.9, 10.1.2.3',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'app.example',
    };
    const visitor = new HttpBrowser({ headers: claims });
    const { host } = new URL(behind.url);
    try {
      await visitor.get(`${behind.url}/open/x`);
      const seen = behind.upstream.requests.at(-1)!;
      expect(seen.headers).toMatchObject({
        'x-forwarded-for': '192.0.2.9, 10.1.2.3, 127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': host,
        forwarded: `for=192.0.2.9;proto=http;host="${host}", for=10.1.2.3, for=127.0.0.1`,
      });
      expect(
        seen.rawHeaders.filter((name, i) => i % 2 === 0 && /forwarded/i.test(name)),
      ).toHaveLength(5);
      await visitor.loginThroughKeycloak(behind.url, 'demo', 'demo');
      expect(
        (
          (await visitor.get(`${behind.url}/auth/sessions`)).json() as {
            sessions: { ip_address: string }[];
          }
        ).sessions,
      ).toMatchObject([{ ip_address: '192.0.2.9' }]);
    } finally {
      await visitor.close();
      await behind.dispose();
    }
  });
});

test('a strict session cookie arrives although the login came from another site', async () => {
  const strict = await startStack({ redis: false, env: { SESSION_COOKIE_SAMESITE: 'strict' } });
  try {
    const visitor = new HttpBrowser();
    const page = await visitor.loginThroughKeycloak(strict.url, 'demo', 'demo', {
      returnTo: '/api/x?a="b',
    });
    expect([page.status, page.text]).toEqual([200, expect.stringContaining('url=/api/x?a=%22b')]);
    expect(visitor.cookies.get('session')).toMatchObject({ sameSite: 'Strict' });
    expect((await visitor.get(`${strict.url}/auth/session`)).status).toBe(200);
    await visitor.close();
  } finally {
    await strict.dispose();
  }
});
