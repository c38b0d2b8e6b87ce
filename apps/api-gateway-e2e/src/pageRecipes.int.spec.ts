import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type Browser,
  describeWith,
  openBrowser,
  type Page,
  until,
} from '@session-gateway/testkit';
import { build } from 'esbuild';
import { type Stack, startStack } from './stack.js';

const RECIPES = join(import.meta.dirname, '../../../docs/integrate/pages');

/** A service worker of an application, which lets navigations pass. */
const WORKER = `addEventListener('activate', (event) => event.waitUntil(clients.claim()));
addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));`;

/** The applications as they stand in the documents, each with the type of its answer. */
async function files(): Promise<Map<string, { type: string; body: string }>> {
  const react = await build({
    entryPoints: [join(RECIPES, 'react.jsx')],
    bundle: true,
    write: false,
    format: 'esm',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  const page =
    '<!doctype html><title>Orders</title><script src="/auth/client.js" defer></script><script type="module" src="react.js"></script><div id="root"></div>';
  return new Map([
    ['/plain', { type: 'text/html', body: await readFile(join(RECIPES, 'plain.html'), 'utf8') }],
    ['/react', { type: 'text/html', body: page }],
    ['/worker.js', { type: 'text/javascript', body: WORKER }],
    ['/react.js', { type: 'text/javascript', body: react.outputFiles[0]!.text }],
  ]);
}

describeWith(['chromium'], 'an application of the documents', () => {
  let browser: Browser;
  let stack: Stack;
  let server: Server;
  beforeAll(async () => {
    const served = await files();
    server = createServer(({ url = '' }, response) => {
      const file = served.get(url.slice('/app'.length));
      response.writeHead(file ? 200 : 404, {
        'content-type': file?.type ?? 'text/plain',
        'service-worker-allowed': '/',
      });
      response.end(file?.body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    [browser, stack] = await Promise.all([
      openBrowser(),
      startStack({ redis: false, start: false, provider: { refreshExpiresInSeconds: 36_000 } }),
    ]);
    const { url } = stack.upstream;
    await stack.startGateway({
      REFRESH_SWEEP: '3600',
      GATEWAY_ROUTES: JSON.stringify([
        {
          path: '/app',
          upstream: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
          auth: 'none',
        },
        { path: '/api/gold', upstream: url, acr: 'gold' },
        { path: '/api', upstream: url },
      ]),
    });
  });
  afterAll(async () => {
    await browser.close();
    await stack.dispose();
    server.close();
    server.closeAllConnections();
  });

  describe.each(['plain', 'react'])('(%s)', (name) => {
    let page: Page;
    let faults: string[];
    const hello = (where: Page) => where.getByText('Hello, Demo User');
    const said = (text: string) => page.getByRole('status').getByText(text).waitFor();
    const press = (button: string) =>
      page.getByRole('button', { name: button, exact: true }).click();
    const posts = (path: string) =>
      stack.upstream.requests.filter(({ url, method }) => method === 'POST' && url === path);
    beforeEach(async () => {
      stack.upstream.clear();
      faults = [];
      const context = await browser.newContext();
      context.on('weberror', (error) => faults.push(error.error().message));
      page = await context.newPage();
      await page.goto(`${stack.url}/app/${name}`);
      await page.getByText('You are not logged in.').waitFor();
    });
    // Contexts end with the browser: Chromium may not answer when one is closed whose window is just closing itself.
    afterEach(() => {
      expect(faults).toEqual([]);
    });

    test('logs in, also in a window of its own, and out in all tabs', async () => {
      await press('Log in');
      await hello(page).waitFor();
      const other = await page.context().newPage();
      await other.goto(`${stack.url}/app/${name}`);
      await hello(other).waitFor();
      await press('Log out');
      await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
      await other.getByText('Your session is over.').waitFor();
      expect(await hello(other).isVisible()).toBe(false);

      const [popup] = await Promise.all([
        page.context().waitForEvent('page'),
        other.getByRole('button', { name: 'Log in in a window' }).click(),
      ]);
      await hello(other).waitFor();
      await until(() => popup.isClosed(), { what: 'the window closed' });
    });

    test('sends what it kept over a login, and over a stronger one, once', async () => {
      await press('Log in');
      await hello(page).waitFor();
      await page.getByLabel('Order').fill('tea');
      await page.context().clearCookies({ name: 'session' });
      await press('Send');
      await said('Sent: tea');
      expect(posts('/api/orders')).toHaveLength(1);

      stack.provider!.setUser('demo', { idTokenClaims: { acr: 'gold' } });
      await press('Pay');
      await said('Sent: payment');
      expect(posts('/api/gold/pay')).toHaveLength(1);
      stack.provider!.setUser('demo', { idTokenClaims: {} });
      expect(new URL(page.url()).pathname).toBe(`/app/${name}`);
      await page.reload();
      await hello(page).waitFor();
      expect(posts('/api/orders').length + posts('/api/gold/pay').length).toBe(2);
    });

    test('does not send what somebody else left', async () => {
      await press('Log in');
      await hello(page).waitFor();
      await page.getByLabel('Order').fill('tea');
      await page.context().clearCookies({ name: 'session' });
      stack.provider!.chooseUser('alice');
      await press('Send');
      await page.getByText('Hello, Alice').waitFor();
      expect(await page.evaluate('sessionStorage.length')).toBe(0);
      expect(posts('/api/orders')).toEqual([]);
      stack.provider!.chooseUser('demo');
    });

    test('logs in through a service worker that lets navigations pass', async () => {
      await page.evaluate(`navigator.serviceWorker.register('/app/worker.js', { scope: '/' })
        .then(() => navigator.serviceWorker.controller ?? new Promise((resolve) =>
          navigator.serviceWorker.addEventListener('controllerchange', resolve)))
        .then(() => undefined)`);
      await press('Log in');
      await hello(page).waitFor();
    });

    test('warns of the end of the session, and extends it', async () => {
      await press('Log in');
      await hello(page).waitFor();
      await stack.sql(
        "UPDATE user_sessions SET last_accessed_at = now() - interval '1750 seconds', version = version + 1 WHERE is_active",
      );
      const warning = page.getByRole('alert').getByText('Your session ends in');
      await until(
        async () => {
          await page.evaluate('sessionGateway.check()');
          return warning.isVisible();
        },
        { what: 'the warning' },
      );
      await press('Stay logged in');
      await warning.waitFor({ state: 'hidden' });
    });
  });
});
