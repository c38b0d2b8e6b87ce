import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser, type HttpAnswer, storm, type TestGateway } from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

const OWN = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
};
const ELSEWHERE = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };

describe('what a browser is told', () => {
  let stack: Stack;
  let https: TestGateway;
  beforeAll(async () => {
    stack = await startStack({
      redis: false,
      env: { RATE_LIMIT_LOGIN: '30', RATE_LIMIT_CALLBACK: '20', RATE_LIMIT_LOGOUT_TOKEN: '20' },
    });
    https = await stack.startGateway({ PUBLIC_URL: 'https://app.example' });
  });
  afterAll(() => stack.dispose());
  const own = async (answer: HttpAnswer): Promise<void> => {
    const { 'cross-origin-opener-policy': opener, ...others } = OWN;
    // A window that a page opened for the login is to stay in touch with it.
    const isLogin = /^\/auth\/(login|callback)$/.test(answer.url.pathname);
    expect([answer.url.pathname, answer.headers]).toEqual([
      answer.url.pathname,
      expect.objectContaining(others),
    ]);
    expect(answer.headers['cross-origin-opener-policy']).toBe(isLogin ? undefined : opener);
    expect(answer.headers['content-security-policy']).toMatch(
      /^default-src 'none';.*frame-ancestors/,
    );
  };

  test('holds for every answer of the gateway itself, also for refusals', async () => {
    const browser = await stack.login();
    for (const path of [
      '/',
      '/account',
      '/auth/session',
      '/auth/sessions',
      '/auth/verify',
      '/auth/client.js',
      '/health/live',
      '/nothing',
      '/auth/login?return_to=//evil',
      '/auth/callback',
      '/a//b',
      '/auth/login',
    ]) {
      await own(await browser.get(stack.url + path));
    }
    await own(await browser.get(`${stack.url}/api/x`, { cookies: false }));
    await own(await browser.post(`${stack.url}/auth/refresh`, undefined, { headers: ELSEWHERE }));
    expect((await browser.get(`${stack.url}/`)).headers['content-security-policy']).not.toContain(
      'unsafe',
    );
    const framed = await browser.get(
      `${stack.url}/auth/frontchannel-logout?iss=${encodeURIComponent(stack.provider!.issuer)}&sid=none`,
    );
    expect(framed.headers['content-security-policy']).toBe(
      `default-src 'none'; frame-ancestors ${new URL(stack.provider!.issuer).origin}`,
    );
  });

  test('is to use https only, where that is the address', async () => {
    const browser = new HttpBrowser();
    for (const path of ['/', '/auth/session', '/open/x', '/api/x', '/a//b']) {
      expect((await browser.get(https.url + path)).headers['strict-transport-security']).toBe(
        'max-age=63072000',
      );
      expect(
        (await browser.get(stack.url + path)).headers['strict-transport-security'],
      ).toBeUndefined();
    }
    await browser.close();
  });

  test('is to keep nothing that stands behind a login, whatever its upstream says', async () => {
    const browser = await stack.login();
    const told = async (path: string) => {
      const { headers } = await browser.get(stack.url + path);
      return [
        headers['cache-control'],
        headers['cdn-cache-control'],
        headers['surrogate-control'],
        headers['etag'],
      ];
    };
    expect(await told('/api/x')).toEqual(['no-store', undefined, undefined, undefined]);
    expect(await told('/api/sse/1')).toEqual(['no-store', undefined, undefined, undefined]);
    expect(await told('/api/cacheable')).toEqual(['no-store', undefined, undefined, '"1"']);
    expect(await told('/open/x')).toEqual([undefined, undefined, undefined, undefined]);
    expect(await told('/open/cacheable')).toEqual([
      ['public', 'max-age=60'],
      'max-age=60',
      'max-age=60',
      '"1"',
    ]);
  });

  test("is at logout to forget what its pages kept; another site's form makes it forget nothing", async () => {
    const browser = await stack.login();
    const foreign = await browser.request('POST', `${stack.url}/auth/logout`, {
      cookies: false,
      headers: ELSEWHERE,
    });
    expect([foreign.status, foreign.headers['clear-site-data'], foreign.setCookies]).toEqual([
      303,
      undefined,
      [],
    ]);
    const refused = await browser.request('POST', `${stack.url}/auth/refresh`, {
      cookies: false,
      headers: ELSEWHERE,
    });
    expect([refused.status, refused.setCookies]).toEqual([401, []]);
    const end = await browser.navigate(`${stack.url}/auth/logout`, {
      method: 'POST',
      from: new URL(stack.url),
    });
    expect([end.status, end.headers['clear-site-data'], end.setCookies.length]).toEqual([
      303,
      '"cache", "storage"',
      1,
    ]);
  });

  test('is 429 after too much of what makes work, by address, and finished logins are not counted', async () => {
    const browser = new HttpBrowser({ headers: { 'user-agent': 'busy' } });
    for (let i = 0; i < 40; i++) await stack.login();
    const statuses = (count: number, ask: () => Promise<HttpAnswer>) =>
      storm(
        count,
        async () => {
          const { status, headers } = await ask();
          if (status === 429) expect(Number(headers['retry-after'])).toBeGreaterThan(0);
          return status;
        },
        { parallel: 1 },
      );
    expect(
      (await statuses(60, () => browser.get(`${stack.url}/auth/callback?code=x&state=y`)))[429],
    ).toBeGreaterThanOrEqual(39);
    expect(
      (
        await statuses(60, () =>
          browser.post(
            `${stack.url}/auth/backchannel-logout`,
            new URLSearchParams({ logout_token: 'x' }),
          ),
        )
      )[429],
    ).toBeGreaterThanOrEqual(39);
    expect(await statuses(60, () => browser.navigate(`${stack.url}/auth/%6cogin`))).toEqual({
      404: 60,
    });
    expect(
      (await statuses(60, () => browser.navigate(`${stack.url}/auth/login`)))[429],
    ).toBeGreaterThanOrEqual(29);
    const refused = await browser.navigate(`${stack.url}/auth/login`);
    expect([refused.status, problemCode(refused)]).toEqual([429, 'rate_limited']);
    // Nothing else is held up.
    expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(401);
    await browser.close();
  });
});
