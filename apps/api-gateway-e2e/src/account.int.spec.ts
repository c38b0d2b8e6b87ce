import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  type Browser,
  describeWith,
  HttpBrowser,
  openBrowser,
  until,
} from '@session-gateway/testkit';
import { contrasts } from './contrast.js';
import { type Stack, startStack } from './stack.js';

const PHONE =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1';

type Context = Awaited<ReturnType<Browser['newContext']>>;
type Page = Awaited<ReturnType<Context['newPage']>>;

describeWith(['chromium'], 'the account page', () => {
  let browser: Browser;
  let stack: Stack;
  beforeAll(async () => {
    [browser, stack] = await Promise.all([
      openBrowser(),
      startStack({
        redis: false,
        provider: { refreshExpiresInSeconds: 36_000 },
        // Background rounds are on; the first is beyond the test.
        env: { REFRESH_SWEEP: '3600' },
      }),
    ]);
  });
  afterAll(async () => {
    await browser.close();
    await stack.dispose();
  });

  /** A page that is logged in, and what the browser found wrong with it. */
  async function loggedIn(
    options: Parameters<Browser['newContext']>[0] = {},
    path = '/account',
    user = 'demo',
  ): Promise<{ page: Page; faults: string[] }> {
    const context = await browser.newContext(options);
    stack.provider!.chooseUser(user);
    const page = await context.newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    await page.goto(`${stack.url}/auth/login?return_to=${encodeURIComponent(path)}`);
    await page.waitForURL(stack.url + path);
    return { page, faults };
  }
  async function elsewhere(user = 'demo'): Promise<HttpBrowser> {
    stack.provider!.chooseUser(user);
    const phone = new HttpBrowser({ headers: { 'user-agent': PHONE } });
    await phone.loginThroughKeycloak(stack.url, 'demo', 'demo');
    return phone;
  }
  const isLive = async (other: HttpBrowser): Promise<boolean> => {
    const { status } = await other.get(`${stack.url}/auth/session?extend=false`);
    // Anything else says nothing of the session.
    expect([200, 401]).toContain(status);
    return status === 200;
  };

  test.each([true, false])(
    "shows a person's sessions and ends them, with scripts: %s",
    async (javaScriptEnabled) => {
      const [one, two, three] = [await elsewhere(), await elsewhere(), await elsewhere()];
      const { page, faults } = await loggedIn({ javaScriptEnabled });
      await page.getByText('demo@example.com').waitFor();
      const items = page.getByRole('listitem');
      expect(await items.first().innerText()).toMatch(
        /Chrome on Linux\s+This session[\s\S]*127\.0\.0\.1 · last used .* · since /,
      );
      const count = await items.count();
      // The newest of the others stands first.
      await page
        .getByRole('button', { name: 'End the session Safari on iPhone, 127.0.0.1' })
        .first()
        .click();
      await page.getByRole('status').getByText('The session has ended.').waitFor();
      expect(await items.count()).toBe(count - 1);
      expect([await isLive(one), await isLive(two), await isLive(three)]).toEqual([
        true,
        true,
        false,
      ]);

      await page.getByRole('button', { name: 'End all other sessions' }).click();
      await page.getByRole('status').getByText('All other sessions have ended.').waitFor();
      expect(await items.count()).toBe(1);
      expect([await isLive(one), await isLive(two)]).toEqual([false, false]);
      expect(await page.getByRole('button', { name: 'End all other sessions' }).count()).toBe(0);
      expect(faults).toEqual([]);
      await Promise.all([one, two, three].map((other) => other.close()));
    },
  );

  test('takes a person without a session to the login and back, and tells a program so', async () => {
    const { page } = await loggedIn({}, '/');
    await page.goto(`${stack.url}/account`);
    expect(await page.getByRole('heading', { level: 1 }).innerText()).toBe('Your account');
    const program = await new HttpBrowser().get(`${stack.url}/account`);
    expect([program.status, (program.json() as { code: string }).code]).toEqual([
      401,
      'session_not_found',
    ]);
  });

  test('ends no session of another person, and none for another site', async () => {
    const alice = await elsewhere('alice');
    const { session } = (await alice.get(`${stack.url}/auth/session`)).json() as {
      session: { id: string };
    };
    const demo = await elsewhere();
    const form = new URLSearchParams({ id: session.id });
    expect((await demo.post(`${stack.url}/account/end`, form)).location?.search).toBe('?done=gone');
    expect(
      (
        await alice.post(`${stack.url}/account/end`, form, {
          headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
        })
      ).status,
    ).toBe(403);
    expect(
      (
        await alice.post(
          `${stack.url}/account/end`,
          new URLSearchParams({ id: 'x'.repeat(10_000) }),
        )
      ).status,
    ).toBe(413);
    expect(await isLive(alice)).toBe(true);
    await Promise.all([alice.close(), demo.close()]);
  });

  test('can be read in both schemes, on a phone, and used with the keyboard alone', async () => {
    const other = await elsewhere('bob');
    const { page, faults } = await loggedIn(
      { viewport: { width: 900, height: 720 } },
      '/account',
      'bob',
    );
    const shot = (name: string) =>
      process.env['SCREENSHOTS']
        ? page.screenshot({ path: join(process.env['SCREENSHOTS'], `${name}.png`) })
        : undefined;
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      const found = await contrasts(page);
      expect(found.length).toBeGreaterThan(15);
      expect(found.filter(({ ratio }) => ratio < 4.5)).toEqual([]);
      await shot(`account-${colorScheme}`);
    }
    await page.setViewportSize({ width: 320, height: 640 });
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(
      320,
    );
    expect(
      await page.evaluate<number>(
        'Math.min(...[...document.querySelectorAll(".button")].filter((it) => it.checkVisibility()).map((it) => it.getBoundingClientRect().height))',
      ),
    ).toBeGreaterThanOrEqual(44);
    await page.setViewportSize({ width: 390, height: 720 });
    await shot('account-phone');

    const reached: string[] = [];
    for (let i = 0; i < 4; i++) {
      await page.keyboard.press('Tab');
      reached.push(
        await page.evaluate<string>(
          'document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent',
        ),
      );
      expect(
        await page.evaluate<string>('getComputedStyle(document.activeElement).outlineStyle'),
      ).toBe('solid');
    }
    expect(reached).toEqual([
      'Log out',
      'End the session Safari on iPhone, 127.0.0.1',
      'End all other sessions',
      'Back to the start page',
    ]);
    expect(faults).toEqual([]);
    await other.close();
  });

  test('speaks the language that the browser asks for, from right to left where that is so', async () => {
    const { page, faults } = await loggedIn({ locale: 'ar' });
    const directionOf = (): Promise<string | null> => page.locator('html').getAttribute('dir');
    await page.getByRole('heading', { name: 'حسابك', exact: true }).waitFor();
    expect(await directionOf()).toBe('rtl');
    await page.getByRole('link', { name: 'العودة إلى صفحة البداية' }).click();
    await page.getByRole('button', { name: 'تسجيل الخروج' }).waitFor();
    const answer = await page.goto(`${stack.url}/auth/nowhere`);
    expect([answer?.status(), await answer?.headerValue('vary')]).toEqual([
      404,
      expect.stringContaining('Accept-Language'),
    ]);
    await page.getByRole('heading', { name: 'لا توجد صفحة كهذه' }).waitFor();
    expect(await directionOf()).toBe('rtl');
    // The browser itself tells of the 404.
    expect(faults.filter((fault) => !fault.includes('404'))).toEqual([]);
    await page.context().close();
  });

  test('shows local times where the browser names no language that there is', async () => {
    const { page, faults } = await loggedIn();
    await page.addInitScript("Object.defineProperty(navigator, 'languages', { get: () => ['C'] })");
    await page.reload();
    await page.getByRole('heading', { name: 'Your account' }).waitFor();
    const times = await page.locator('time').allTextContents();
    expect(times.length).toBeGreaterThan(0);
    expect(times.filter((time) => time.includes('UTC'))).toEqual([]);
    expect(faults).toEqual([]);
    await page.context().close();
  });

  test('warns before an idle session ends, extends it on request, and shows its end without logging in anew', async () => {
    const idleMs = 20_000;
    const short = await startStack({
      redis: false,
      env: { SESSION_IDLE_TIMEOUT: String(idleMs / 1000) },
    });
    const context = await browser.newContext();
    try {
      const page = await context.newPage();
      await page.goto(`${short.url}/auth/login?return_to=/account`);
      const told = async (): Promise<number> => {
        const { session } = await page.evaluate<{ session: { idle_expires_at: string } }>(
          'fetch("/auth/session?extend=false").then((answer) => answer.json())',
        );
        return Date.parse(session.idle_expires_at);
      };
      const written = async (): Promise<number> => {
        const [row] = await short.sql<{ last_accessed_at: Date }>(
          'SELECT last_accessed_at FROM user_sessions',
        );
        return row!.last_accessed_at.getTime() + idleMs;
      };
      /** A use within a second of the one before is the same use. */
      const nextUse = (end: number): Promise<unknown> =>
        until(() => Date.now() > end - idleMs + 2_000, { what: 'the next second' });
      const opened = await written();
      await nextUse(opened);
      await page.getByRole('alert').getByText('Your session is about to end.').waitFor();
      await page.getByRole('button', { name: 'Stay logged in' }).click();
      await until(async () => (await written()) > opened, { what: 'the extension' });
      const extended = await written();
      // A use that waits to be written is told by the gateway's estimate of PostgreSQL's clock.
      await until(async () => (await told()) === extended, { what: 'being told of it' });
      await page.locator('#warning').waitFor({ state: 'hidden' });
      await nextUse(extended);
      // Asking does not extend.
      expect(await told()).toBe(extended);
      await page
        .getByRole('heading', { name: 'Your session is over' })
        .waitFor({ timeout: 60_000 });
      expect(page.url()).toBe(`${short.url}/auth/ended`);
      expect(await written()).toBe(extended);
    } finally {
      await context.close();
      await short.dispose();
    }
  });

  test('warns of the end that will come, not of a refresh token that is renewed before', async () => {
    const { settings } = stack.provider!;
    const usual = { ...settings };
    // A realm whose SSO idle time is as short as the life of its access tokens.
    Object.assign(settings, { accessTokenLifespanSeconds: 300, refreshExpiresInSeconds: 300 });
    const { page } = await loggedIn({}, '/account', 'bob');
    Object.assign(settings, usual);
    /** Sets the times of the session, in seconds from now, and lets the page ask. What it is told of the end. */
    const checkWith = async (used: number, token: number, refresh: number): Promise<unknown> => {
      const [row] = await stack.sql<{ at: Date }>(
        `UPDATE user_sessions SET last_accessed_at = now() + $1 * interval '1 second', token_expires_at = now() + $2 * interval '1 second',
           refresh_expires_at = now() + $3 * interval '1 second', expires_at = now() + $3 * interval '1 second', version = version + 1
         WHERE is_active AND user_id = (SELECT id FROM users WHERE email = 'bob@example.com') RETURNING last_accessed_at AS at`,
        [used, token, refresh],
      );
      const check = 'sessionGateway.check().then((body) => body.session.last_accessed_at)';
      await until(async () => (await page.evaluate(check)) === row!.at.toISOString(), {
        what: 'news of the change',
      });
      return page.evaluate('heard.splice(0).at(-1)');
    };
    await page.evaluate(
      'heard = []; addEventListener("session-expiring", ({ detail }) => heard.push(detail.extendable))',
    );
    const warning = page.locator('#warning');
    const ends = page.locator('#ends time').first();
    const end = async (): Promise<number> => Date.parse((await ends.getAttribute('datetime'))!);
    // In use, and renewed four minutes ago.
    expect(await checkWith(-10, 60, 60)).toBeUndefined();
    expect(await warning.isVisible()).toBe(false);
    // Not in use.
    expect(await checkWith(-250, 60, 60)).toBe(true);
    await warning.getByText('Your session is about to end.').waitFor();
    const before = await end();
    await page.getByRole('button', { name: 'Stay logged in' }).click();
    await warning.waitFor({ state: 'hidden' });
    expect(await end()).toBeGreaterThan(before);
    // In use, and the provider's own session is near its end: its tokens last no longer.
    expect(await checkWith(0, 270, 70)).toBe(false);
    await warning.getByText('cannot be extended').waitFor();
    await page.context().close();
  });

  test('is in step with the other tabs after login and logout', async () => {
    const { page, faults } = await loggedIn({}, '/');
    const other = await page.context().newPage();
    await other.goto(`${stack.url}/account`);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
    await other.getByRole('heading', { name: 'Your session is over' }).waitFor();
    await page.getByRole('link', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'Hello, Demo User' }).waitFor();
    await other.getByRole('heading', { name: 'Your account' }).waitFor();
    // Through the helper's own call, as a page of an application does it.
    await other.waitForLoadState();
    await other.evaluate('sessionGateway.logout()');
    await page.getByRole('heading', { name: 'Your session is over' }).waitFor();
    expect(faults.filter((fault) => !fault.includes('401'))).toEqual([]);
  });

  /** A provider behind the provider: the next logout goes there, and from there back once `meanwhile` has happened. */
  async function providerBehind(
    meanwhile: () => Promise<unknown> = async () => undefined,
  ): Promise<{ asked: number }> {
    const state = { asked: 0 };
    const behind = createServer((_, response) => {
      void meanwhile().then(() => {
        state.asked += 1;
        response
          .writeHead(302, { location: `${stack.url}/auth/logged-out`, connection: 'close' })
          .end();
        behind.close();
      });
    })
      .listen(0, '127.0.0.1')
      .unref();
    await once(behind, 'listening');
    // First the gateway ends the provider's session itself, then the browser comes.
    stack.provider!.answerNext({ endpoint: 'logout', status: 204, body: '' });
    stack.provider!.answerNext({
      endpoint: 'logout',
      status: 302,
      body: '',
      headers: { location: `http://127.0.0.1:${(behind.address() as AddressInfo).port}/` },
    });
    return state;
  }

  test.each(['/', '/account'])(
    'logs out from %s without script too, also at a provider that sends the browser on to another one',
    async (path) => {
      const { page } = await loggedIn({ javaScriptEnabled: false }, path);
      const behind = await providerBehind();
      await page.getByRole('button', { name: 'Log out' }).click();
      await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
      expect(behind.asked).toBe(1);
      await page.context().close();
    },
  );

  test.each(['/', '/account'])(
    'logs out from %s at a provider that sends the browser on to another one, whatever is asked meanwhile',
    async (path) => {
      const { page } = await loggedIn({}, path);
      const other = await page.context().newPage();
      await other.goto(`${stack.url}/account`);
      const asked = page.waitForResponse('**/auth/session?extend=false');
      // The other tab has made this one ask by then, and there was time to act on the answer.
      const behind = await providerBehind(() =>
        asked
          .then(() => other.getByRole('heading', { name: 'Your session is over' }).waitFor())
          .then(() => other.reload()),
      );
      await page.getByRole('button', { name: 'Log out' }).click();
      await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
      expect(behind.asked).toBe(1);
      await page.context().close();
    },
  );

  test('tells a person who could not be logged out, and nobody else', async () => {
    const { page } = await loggedIn({}, '/');
    const other = await page.context().newPage();
    await other.goto(`${stack.url}/account`);
    await other.evaluate(
      'heard = []; new BroadcastChannel("session-gateway").onmessage = ({ data }) => heard.push(data)',
    );
    const logOut = page.getByRole('button', { name: 'Log out' });
    await stack.postgres.stop('immediate');
    try {
      await logOut.click();
      await page.getByRole('alert').getByText('You could not be logged out').waitFor();
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        expect((await contrasts(page)).filter(({ ratio }) => ratio < 4.5)).toEqual([]);
      }
      expect(
        await page.evaluate<string>(
          'sessionGateway.logout().then(() => "logged out", ({ message }) => message)',
        ),
      ).toBe('/auth/logout answered 503');
    } finally {
      await stack.postgres.start();
    }
    await until(async () => (await fetch(`${stack.url}/health/ready`)).ok, { what: 'recovery' });
    expect([page.url(), await page.getByRole('heading', { level: 1 }).innerText()]).toEqual([
      `${stack.url}/`,
      'Hello, Demo User',
    ]);
    expect(await other.evaluate('heard')).toEqual([]);
    await logOut.click();
    await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
    await other.getByRole('heading', { name: 'Your session is over' }).waitFor();
  });

  /** A page of an application that has the helper; the browser's own `fetch` is `nativeFetch` there. */
  async function applicationPage(dataset: Record<string, string> = {}): Promise<Page> {
    const { page } = await loggedIn({}, '/api/page');
    await page.evaluate(`new Promise((resolve) => {
      nativeFetch = fetch;
      const script = Object.assign(document.createElement('script'), { src: '/auth/client.js', onload: resolve });
      Object.assign(script.dataset, ${JSON.stringify(dataset)});
      document.head.append(script);
    })`);
    return page;
  }

  test.each([
    ['a number of seconds to warn', { warnSeconds: '600' }, true, 1_200],
    ['none', {}, true, 1_680],
    ['one that is no number', { warnSeconds: '2 minutes' }, true, 1_680],
    ['no Date in the answers', {}, false, 1_680],
  ])(
    'the helper asks again when a warning is due, and not before, with %s',
    async (_, dataset, dated, dueInSeconds) => {
      const page = await applicationPage(dataset);
      let asked = 0;
      await page.route('**/auth/session*', async (route) => {
        asked += 1;
        const answer = await route.fetch();
        const { date, ...headers } = answer.headers();
        await route.fulfill({
          response: answer,
          headers: dated && date !== undefined ? { date, ...headers } : headers,
        });
      });
      await page.clock.install();
      await page.evaluate('sessionGateway.check()');
      await page.clock.runFor((dueInSeconds - 60) * 1000);
      await page.evaluate('sessionGateway.check()');
      expect(asked).toBe(2);
      // Without a Date the browser's own clock counts, and that has been put forward.
      await page.clock.runFor((dated ? dueInSeconds + 2 : 120) * 1000);
      await until(() => asked > 2, { what: 'the question' });
      await page.unrouteAll({ behavior: 'wait' });
      await page.context().close();
    },
  );

  test('the helper asks who is logged in when Back shows a page as it was left', async () => {
    const page = await applicationPage();
    await page.evaluate('sessionGateway.check()');
    await page.evaluate(
      'void (told = new Promise((done) => addEventListener("session-ended", () => done("ended"))))',
    );
    await page.context().clearCookies({ name: 'session' });
    await page.evaluate('dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))');
    expect(await page.evaluate('told')).toBe('ended');
    await page.context().close();
  });

  test('the helper leaves a request as the browser itself would send it, but for its mark', async () => {
    const page = await applicationPage();
    const post = '{ method: "POST", headers: { "x-a": "1" }, body: "words" }';
    const calls = {
      'an address': `["/open/a", ${post}]`,
      'a URL': `[new URL("/open/a", location), ${post}]`,
      'a Request': `[new Request("/open/a", ${post})]`,
      'a Request, changed': `[new Request("/open/a", ${post}), { method: "PUT", headers: [["x-a", "2"]] }]`,
      'a Request that has become one with a body': `[new Request("/open/a"), ${post}]`,
      'a Request for another address':
        '["/open/a", new Request("/open/b", { method: "DELETE", headers: { "x-a": "1" } })]',
      'a Request for another address, its body a stream': `["/open/a", new Request("/open/b", ${post})]`,
      'a Request of a frame': `[new (document.body.appendChild(document.createElement("iframe")).contentWindow.Request)(location.origin + "/open/a", ${post})]`,
      getters:
        '["/open/a", new class { get method() { return "POST"; } get headers() { return new Headers({ "x-a": "1" }); } get body() { return "words"; } }]',
      'a form with a file':
        '["/open/a", { method: "POST", body: (() => { const form = new FormData(); form.set("file", new Blob(["words"]), "name"); return form; })() }]',
      parameters: '["/open/a", { method: "delete", body: new URLSearchParams({ a: 1 }) }]',
      'a request that outlives its page':
        '["/open/a", { method: "POST", keepalive: true, body: new Blob(["words"], { type: "text/x" }) }]',
      'no cookies': '["/api/a", { method: "POST", credentials: "omit" }]',
      'no redirects': '["/api/a", { method: "POST", redirect: "error", credentials: "omit" }]',
      'a signal': '["/open/hang", { method: "POST", signal: AbortSignal.timeout(50) }]',
      'a signal given already':
        '["/open/a", { method: "POST", signal: AbortSignal.abort(new RangeError("enough")) }]',
      'an address that is none': '["http://:none", { method: "POST" }]',
      'a header that is none': '["/open/a", { method: "POST", headers: { "a b": "1" } }]',
      'a GET with a body': '["/open/a", { body: "words" }]',
    };
    const sentWith = (fetch: string) =>
      page.evaluate<Record<string, unknown>>(`(async () => {
      const sent = {};
      const of = (answer) => answer.json().then(({ method, url, bodyBytes, headers }) => [answer.status, method, url, bodyBytes, headers?.['x-a'], headers?.['content-type']?.replace(/boundary.*/, ''), headers?.['x-csrf']]);
      ${Object.entries(calls)
        .map(
          ([name, call]) =>
            `try { sent[${JSON.stringify(name)}] = await ${fetch}(...${call}).then(of, ({ name }) => name); } catch ({ name }) { sent[${JSON.stringify(name)}] = 'not even a promise: ' + name; }`,
        )
        .join('\n')}
      return sent;
    })()`);
    const native = await sentWith('nativeFetch');
    const marked = Object.entries(native).map(([name, sent]) => [
      name,
      Array.isArray(sent) && sent[1] ? [...(sent as unknown[]).slice(0, -1), '1'] : sent,
    ]);
    expect(await sentWith('fetch')).toEqual(Object.fromEntries(marked));
    expect(native).toMatchObject({
      'a Request': [200, 'POST', '/a', 5, '1', 'text/plain;charset=UTF-8', undefined],
      'no cookies': [401],
      'a signal given already': 'RangeError',
    });
    await page.context().close();
  });

  test('keeps its policy: no other script or style runs in it, and the helper marks its own requests only', async () => {
    const { page } = await loggedIn();
    const broken = await page.evaluate<boolean>(`(() => {
      document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = true' }), Object.assign(document.createElement('style'), { textContent: 'body { opacity: .5 }' }));
      return 'ran' in window || getComputedStyle(document.body).opacity !== '1';
    })()`);
    expect(broken).toBe(false);
    const sent: Record<string, string | undefined> = {};
    page.on(
      'request',
      (request) =>
        (sent[
          `${request.method()} ${new URL(request.url()).host === new URL(stack.url).host ? 'own' : 'foreign'}`
        ] = request.headers()['x-csrf']),
    );
    await page.evaluate(
      'Promise.allSettled([fetch("/auth/session"), fetch("/auth/sessions/none", { method: "delete" }), fetch(new Request("/auth/refresh", { method: "POST" })), fetch("http://127.0.0.1:1/", { method: "POST" })])',
    );
    // What the policy forbids never becomes a request.
    expect(sent).toEqual({ 'GET own': undefined, 'DELETE own': '1', 'POST own': '1' });
    const script = await (await fetch(`${stack.url}/auth/client.js`)).text();
    expect(Buffer.byteLength(script)).toBeLessThanOrEqual(2_048);
  });
});
