import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type Browser,
  describeWith,
  type HttpAnswer,
  HttpBrowser,
  openBrowser,
  startGateway,
  type TestGateway,
} from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

let stack: Stack;
let silent: Server;
const nobody = new HttpBrowser();

beforeAll(async () => {
  silent = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  stack = await startStack({ redis: false, start: false });
  await stack.startGateway({
    RATE_LIMIT_LOGIN: '0',
    RATE_LIMIT_CALLBACK: '0',
    GATEWAY_ROUTES: JSON.stringify([
      { path: '/api/admin', upstream: stack.upstream.url, protect: 'realm:admin' },
      { path: '/api', upstream: stack.upstream.url },
      { path: '/open', upstream: stack.upstream.url, auth: 'none' },
      { path: '/gone', upstream: 'http://127.0.0.1:9', auth: 'none' },
      { path: '/slow', upstream: `http://127.0.0.1:${port}`, auth: 'none', timeoutMs: 100 },
    ]),
  });
});
afterAll(async () => {
  await nobody.close();
  silent.closeAllConnections();
  silent.close();
  await stack.dispose();
});

/** Where each page comes from. */
const PAGES: [path: string, status: number, code: string][] = [
  ['/nothing', 404, 'not_found'],
  ['/auth/nothing', 404, 'not_found'],
  ['/api/admin/x', 403, 'forbidden'],
  ['/admin/sessions', 403, 'forbidden'],
  ['/gone/x', 502, 'upstream_unavailable'],
  ['/slow/x', 504, 'upstream_timeout'],
  ['/api/x%2Fy', 400, 'path_ambiguous'],
  ['/auth/login?return_to=//evil.example', 400, 'return_to_rejected'],
  ['/auth/login?prompt=a&prompt=b', 400, 'request_invalid'],
  ['/auth/refresh', 405, 'method_not_allowed'],
  [`/open/${'x'.repeat(8_200)}`, 414, 'address_too_long'],
];

describe('a problem', () => {
  let person: HttpBrowser;
  beforeAll(async () => {
    person = await stack.login('pat');
  });

  test.each(PAGES)(
    'at %s is a page for a person and a document for a program',
    async (path, status, code) => {
      const [page, document] = [
        await person.navigate(stack.url + path),
        await person.get(stack.url + path, { headers: { 'sec-fetch-dest': 'document' } }),
      ];
      expect([page.status, page.headers['content-type'], problemCode(page)]).toEqual([
        status,
        'text/html; charset=utf-8',
        code,
      ]);
      expect(page.headers['content-security-policy']).not.toMatch(/script-src|unsafe|\*/);
      expect(page.headers['cache-control']).toBe('no-store');
      expect(page.text).toContain(`<code>${String(page.headers['x-request-id'])}</code>`);
      expect([document.status, document.headers['content-type']]).toEqual([
        path.startsWith('/auth/login') ? 403 : status,
        'application/problem+json',
      ]);
    },
  );

  test('of somebody unknown is a page on own paths, and the login on routes', async () => {
    const own = await nobody.navigate(`${stack.url}/auth/session`);
    expect([own.status, problemCode(own)]).toEqual([401, 'session_not_found']);
    expect(own.headers['www-authenticate']).toBeDefined();
    const route = await nobody.navigate(`${stack.url}/api/x`);
    expect([route.status, route.location?.pathname]).toEqual([302, '/auth/login']);
  });

  test('is a page by Accept where no Fetch Metadata comes, and by nothing else', async () => {
    const ask = (accept: string, method = 'GET'): Promise<HttpAnswer> =>
      nobody.request(method, `${stack.url}/nothing`, { headers: { accept } });
    const types = [
      await ask('text/html,application/xhtml+xml,*/*;q=0.8'),
      await ask('text/html', 'HEAD'),
      await ask('*/*'),
      await ask('application/json'),
      await ask('text/html', 'POST'),
    ].map(({ status, headers }) => [status, String(headers['content-type']).split(';')[0]]);
    const [page, document] = ['text/html', 'application/problem+json'];
    expect(types).toEqual([page, page, document, document, document].map((type) => [404, type]));
    const login = await nobody.request('GET', `${stack.url}/api/x`, {
      headers: { accept: 'text/html' },
    });
    expect(login.location?.pathname).toBe('/auth/login');
  });
});

/** A login as far as the provider: its state, and where the provider would lead. */
async function begin(
  browser: HttpBrowser,
  query = '',
): Promise<{ state: string; callback: URL; asked: URL }> {
  const { location: asked } = await browser.navigate(`${stack.url}/auth/login?${query}`);
  const { location: callback } = await browser.navigate(asked!);
  return { state: callback!.searchParams.get('state')!, callback: callback!, asked: asked! };
}

/** The provider's answer to it, without a code. */
const answerOf = (state: string, error: string): string =>
  `${stack.url}/auth/callback?${new URLSearchParams({ error, state, iss: stack.provider!.issuer })}`;

const locationOf = ({ status, headers }: HttpAnswer): unknown => [status, headers['location']];

describe('a callback', () => {
  let person: HttpBrowser;
  let stranger: HttpBrowser;
  beforeEach(async () => {
    [person, stranger] = [await stack.login('pat'), new HttpBrowser()];
  });
  afterEach(() => stranger.close());

  test('that comes again, as after Back, leads a person who is logged in to the start page', async () => {
    const { callback } = await begin(person, 'return_to=/open/x');
    expect(locationOf(await person.navigate(callback))).toEqual([302, '/open/x']);
    const session = person.cookies.get('session')?.value;
    const fresh = await begin(person);
    for (const code of [
      callback.searchParams.get('code')!,
      fresh.callback.searchParams.get('code')!,
    ]) {
      const again = new URL(callback);
      again.searchParams.set('code', code);
      expect(locationOf(await person.navigate(again))).toEqual([303, '/']);
    }
    const answer = await person.navigate(answerOf('unknown', 'server_error'));
    expect(locationOf(answer)).toEqual([303, '/']);
    expect(person.cookies.get('session')?.value).toBe(session);
  });

  test('whose code is used leads on who is logged in, and is refused otherwise', async () => {
    const { callback } = await begin(person, 'return_to=/open/x');
    const login = person.cookies.list().find(({ name }) => name.startsWith('login-'))!;
    const finished = await person.navigate(callback);
    expect(finished.status).toBe(302);
    const cookies = [`${login.name}=${login.value}`, person.cookies.header(new URL(stack.url))];
    const ask = (cookie: string): Promise<HttpAnswer> =>
      person.navigate(callback, { cookies: false, headers: { cookie } });
    expect(locationOf(await ask(cookies.join('; ')))).toEqual([303, '/open/x']);
    const refused = await ask(cookies[0]!);
    expect([refused.status, problemCode(refused)]).toEqual([400, 'callback_rejected']);
  });

  test('without its login begins anew, for a browser with cookies', async () => {
    const { callback } = await begin(person, 'return_to=/open/x');
    const again = await stranger.navigate(callback);
    expect(locationOf(again)).toEqual([303, '/auth/login?again=1']);
    expect((await stranger.follow(again)).url.pathname).toBe('/');
    expect((await stranger.get(`${stack.url}/auth/session`)).status).toBe(200);
  });

  test('ends at a page that says so in a browser without cookies', async () => {
    const steps: string[] = [];
    let to: URL | null = new URL(`${stack.url}/auth/login?return_to=/open/x`);
    let last: HttpAnswer | undefined;
    for (; to !== null && steps.length < 12; to = last.location) {
      last = await stranger.navigate(to, { cookies: false });
      steps.push(to.pathname.split('/').at(-1)!);
    }
    expect(steps).toEqual(['login', 'auth', 'callback', 'login', 'auth', 'callback']);
    expect([last?.status, problemCode(last!)]).toEqual([400, 'callback_rejected']);
    expect(last?.text).toContain('Allow cookies for this site');
  });

  test('with an error of the provider and without its login is a page', async () => {
    for (const query of ['error=login_required&state=x', 'error=access_denied', 'code=x']) {
      const refused = await stranger.navigate(`${stack.url}/auth/callback?${query}`);
      expect([refused.status, problemCode(refused)]).toEqual([400, 'callback_rejected']);
    }
  });

  test.each(['temporarily_unavailable', 'login_required'])(
    'with %s begins anew with what was asked for, once',
    async (error) => {
      const first = await begin(stranger, 'return_to=%2Fopen%2Fx%3Fa%3D1&login_hint=pat');
      const again = await stranger.navigate(answerOf(first.state, error));
      expect(again.status).toBe(303);
      expect(again.location?.pathname).toBe('/auth/login');
      expect(Object.fromEntries(again.location!.searchParams)).toEqual({
        login_hint: 'pat',
        return_to: '/open/x?a=1',
        again: '1',
      });
      const second = await begin(stranger, again.location!.search.slice(1));
      expect(second.asked.searchParams.get('login_hint')).toBe('pat');
      const refused = await stranger.navigate(answerOf(second.state, error));
      expect([refused.status, problemCode(refused)]).toEqual([400, 'callback_rejected']);
      expect(stranger.cookies.get('session')).toBeUndefined();
      // Who is logged in by now goes where the login was going.
      const third = await begin(person, 'return_to=/open/y');
      expect(locationOf(await person.navigate(answerOf(third.state, error)))).toEqual([
        303,
        '/open/y',
      ]);
    },
  );

  test.each([
    ['access_denied', 'The login was cancelled'],
    ['server_error', 'The login service has a problem'],
    ['interaction_required', 'needs something more from you'],
  ])('with %s is a page in words that a person knows', async (error, words) => {
    const { state } = await begin(stranger);
    const refused = await stranger.navigate(answerOf(state, error));
    expect([refused.status, problemCode(refused)]).toEqual([400, 'callback_rejected']);
    expect(refused.text).toContain(words);
  });

  test('of a login that was not to ask goes back without a session and says why', async () => {
    const query = `prompt=none&return_to=${encodeURIComponent('/open/x?a=1&login_error=old#/f')}`;
    const { state } = await begin(stranger, query);
    const forged = answerOf(state, 'login_required').replace(
      /iss=[^&]+/,
      'iss=https%3A%2F%2Fe.example',
    );
    expect((await stranger.navigate(forged)).status).toBe(400);
    const back = await stranger.navigate(answerOf(state, 'login_required'));
    expect(locationOf(back)).toEqual([303, '/open/x?a=1&login_error=login_required#/f']);
    expect(stranger.cookies.list()).toEqual([]);
    const other = await begin(stranger, 'prompt=none');
    const odd = await stranger.navigate(answerOf(other.state, 'Odd"><script>'));
    expect(locationOf(odd)).toEqual([303, '/?login_error=login_required']);
  });

  test('hands on how an action at the provider ended', async () => {
    const { callback } = await begin(stranger, 'return_to=%2Fopen%2Fx%23f');
    callback.searchParams.set('kc_action_status', 'cancelled');
    const back = await stranger.navigate(callback);
    expect(locationOf(back)).toEqual([302, '/open/x?kc_action_status=cancelled#f']);
  });
});

describe('a login', () => {
  test('is opened by a person, not ahead of time or as a part of a page', async () => {
    const browser = new HttpBrowser();
    const address = `${stack.url}/auth/login?return_to=/open/x`;
    const ask = (headers: Record<string, string>): Promise<HttpAnswer> =>
      browser.navigate(address, { headers });
    for (const purpose of ['prefetch', 'prefetch;prerender', 'prefetch;anonymous-client-ip']) {
      const ahead = await ask({ 'sec-purpose': purpose });
      expect([ahead.status, problemCode(ahead)]).toEqual([403, 'navigation_required']);
    }
    expect((await ask({ 'sec-fetch-dest': 'image' })).status).toBe(403);
    expect((await ask({ 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' })).status).toBe(403);
    const framed = await ask({ 'sec-fetch-dest': 'iframe' });
    expect(framed.status).toBe(200);
    expect(framed.headers['content-security-policy']).toContain("frame-ancestors 'self'");
    expect(framed.text).toContain('href="/auth/login?return_to=/open/x" target="_blank"');
    expect(browser.cookies.list()).toEqual([]);
    expect((await ask({ 'sec-fetch-dest': 'empty' })).status).toBe(302);
    await browser.close();
  });

  test('leaves a window that opened it in touch, as no other answer does', async () => {
    const browser = new HttpBrowser();
    const policyOf = ({ headers }: HttpAnswer): unknown => headers['cross-origin-opener-policy'];
    const { callback } = await begin(browser);
    expect(policyOf(await browser.navigate(`${stack.url}/auth/login`))).toBeUndefined();
    expect(policyOf(await browser.navigate(callback))).toBeUndefined();
    expect(policyOf(await browser.navigate(answerOf('x', 'access_denied')))).toBeUndefined();
    expect(policyOf(await browser.navigate(`${stack.url}/auth/ended`))).toBe('same-origin');
    expect(policyOf(await browser.navigate(`${stack.url}/auth/loginx`))).toBe('same-origin');
    await browser.close();
  });

  test('goes to PUBLIC_URL first from another host name, and nobody goes around for ever', async () => {
    const { port } = new URL(stack.url);
    const from = (path: string, headers: Record<string, string>): Promise<HttpAnswer> =>
      nobody.navigate(stack.url + path, { cookies: false, headers });
    const elsewhere = { host: `localhost:${port}` };
    for (const path of ['/auth/login?return_to=/open/x', '/', '/account']) {
      const led = await from(path, elsewhere);
      const mark = path.includes('?') ? '&led=1' : '?led=1';
      expect(locationOf(led)).toEqual([303, stack.url + path + mark]);
      // As behind a reverse proxy that writes a Host of its own.
      const again = await from(path + mark, elsewhere);
      expect(again.headers['location'] ?? '').not.toContain(`${stack.url}/`);
      expect(again.status).toBeLessThan(303);
    }
    const forwarded = { host: '10.0.0.1', 'x-forwarded-host': `127.0.0.1:${port}` };
    expect((await from('/auth/login', forwarded)).status).toBe(302);
    const program = { ...elsewhere, 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' };
    expect((await from('/', program)).status).toBe(200);
    expect((await from('/open/x', elsewhere)).status).toBe(200);
  });

  test('in many tabs with long addresses keeps the browser within what servers take', async () => {
    const browser = new HttpBrowser();
    const tabs = [];
    for (let i = 0; i < 6; i++)
      tabs.push(await begin(browser, `return_to=/open/${String(i).padEnd(1_500, 'x')}`));
    expect(browser.cookies.header(new URL(stack.url)).length).toBeLessThan(7_000);
    const last = await browser.follow(await browser.navigate(tabs[5]!.callback));
    expect([last.status, last.url.pathname.slice(0, 8)]).toEqual([200, '/open/5x']);
    browser.cookies.clear('session');
    const first = await browser.follow(await browser.navigate(tabs[0]!.callback));
    expect([first.status, first.url.pathname]).toEqual([200, '/']);
    expect(browser.cookies.get('session')).toBeDefined();
    await browser.close();
  });

  test('lives as long as the login at the provider', async () => {
    const browser = new HttpBrowser();
    const [cookie = ''] = (await browser.navigate(`${stack.url}/auth/login`)).setCookies;
    expect(Number(/Max-Age=(\d+)/.exec(cookie)?.[1])).toBeGreaterThanOrEqual(1_800);
    await browser.close();
  });
});

describeWith(['chromium'], 'a person in Chromium', () => {
  let browser: Browser;
  let provided: TestGateway;
  beforeAll(async () => {
    browser = await openBrowser();
    // With the development provider, which has pages to go back to.
    provided = await startGateway({
      env: { DATABASE_URL: await stack.postgres.createDatabase('provided') },
    });
  });
  afterAll(async () => {
    await browser.close();
    await provided.stop();
  });

  test('reads what happened, without script, and is led on', async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    for (const [path, status, heading] of [
      ['/nothing', 404, 'There is no such page'],
      ['/gone/x', 502, 'This part of the site is not available'],
    ] as const) {
      expect((await page.goto(stack.url + path))?.status()).toBe(status);
      await page.getByRole('heading', { name: heading }).waitFor();
      if (process.env['SCREENSHOTS'])
        await page.screenshot({ path: `${process.env['SCREENSHOTS']}/problem-${status}.png` });
      await page.getByRole('link', { name: 'Go to the start page' }).click();
      await page.getByRole('heading', { name: 'You are not logged in' }).waitFor();
    }
    await context.close();
  });

  test('comes back by Back and by reloading the callback to a page, and is logged in', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const callbacks: string[] = [];
    const statuses: number[] = [];
    page.on('response', (answer) => {
      if (answer.url().startsWith(`${provided.url}/auth/`)) statuses.push(answer.status());
      if (answer.url().includes('/auth/callback')) callbacks.push(answer.url());
    });
    // The helper's login keeps the fragment.
    await page.goto(`${provided.url}/#/x/y`);
    await page.evaluate('sessionGateway.login()');
    await page.getByLabel('User name').fill('demo');
    await page.getByLabel('Password').fill('demo');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Hello, Demo User' }).waitFor();
    expect(page.url()).toBe(`${provided.url}/#/x/y`);
    // The provider's page, out of the browser's own store, is sent once more.
    await page.goBack();
    if (await page.getByLabel('Password').isVisible()) {
      await page.getByLabel('User name').fill('demo');
      await page.getByLabel('Password').fill('demo');
      await page.getByRole('button', { name: 'Log in' }).click();
    }
    await page.goto(callbacks[0]!);
    await page.getByRole('heading', { name: 'Hello, Demo User' }).waitFor();
    expect(new URL(page.url()).pathname).toBe('/');
    expect(statuses.filter((status) => status >= 400)).toEqual([]);
    // Without the session the login begins anew, which the provider grants.
    await context.clearCookies({ name: 'session' });
    await page.goto(callbacks[0]!);
    await page.getByRole('heading', { name: 'Hello, Demo User' }).waitFor();
    await context.close();
  });

  test('reads why a login came to nothing, and is led on', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    for (const [error, heading, way] of [
      ['access_denied', 'You were not logged in', 'Log in'],
      ['server_error', 'The login service has a problem', 'Log in'],
    ] as const) {
      // The provider's page stays open.
      stack.provider!.answerNext({ endpoint: 'auth', status: 200, body: '' });
      await page.goto(`${stack.url}/auth/login?return_to=/open/x`);
      const state = new URL(page.url()).searchParams.get('state')!;
      expect((await page.goto(answerOf(state, error)))?.status()).toBe(400);
      await page.getByRole('heading', { name: heading }).waitFor();
      expect(await page.getByRole('link', { name: way }).count()).toBe(1);
    }
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.waitForURL(`${stack.url}/**`);
    await context.close();
  });

  test('who opens the site under another host name is logged in under the right one', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const { port } = new URL(stack.url);
    await page.goto(`http://localhost:${port}/auth/login?return_to=/open/x`);
    expect(page.url()).toBe(`${stack.url}/open/x`);
    expect((await context.cookies(stack.url)).map(({ name }) => name)).toContain('session');
    await context.close();
  });

  test('is offered a tab for a login that begins in a frame', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${stack.url}/open/page`);
    await page.evaluate(
      'document.body.append(Object.assign(document.createElement("iframe"), { src: "/api/framed" }))',
    );
    const [tab] = await Promise.all([
      context.waitForEvent('page'),
      page.frameLocator('iframe').getByRole('link', { name: 'Log in in a new tab' }).click(),
    ]);
    await tab.waitForURL(`${stack.url}/api/framed`);
    await context.close();
  });
});
