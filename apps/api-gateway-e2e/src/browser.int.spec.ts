import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  type Browser,
  describeWith,
  openBrowser,
  type Page,
  startGateway,
  until,
} from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

describeWith(['chromium'], 'a person with a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser.close());

  describeWith(['keycloak', 'redis'], 'and a real Keycloak', () => {
    let stack: Stack;
    beforeAll(async () => {
      stack = await startStack({ keycloak: { accessTokenLifespanSeconds: 5 } });
    });
    afterAll(() => stack.dispose());

    test('logs in, works on while tokens are renewed, and logs out', async () => {
      const context = await browser.newContext({
        viewport: { width: 1000, height: 640 },
        colorScheme: 'light',
      });
      // Keycloak's first page takes its time.
      context.setDefaultTimeout(60_000);
      const page = await context.newPage();
      const faults: string[] = [];
      page.on('pageerror', (error) => faults.push(error.message));
      page.on(
        'console',
        (message) =>
          message.type() === 'error' &&
          message.location().url.startsWith(stack.url) &&
          !message.location().url.endsWith('/favicon.ico') &&
          faults.push(message.text()),
      );

      await page.goto(stack.url);
      await page.getByRole('link', { name: 'Log in' }).click();
      await page.getByLabel(/username/i).fill('demo');
      await page.locator('input[type=password]').fill('demo');
      await page.getByRole('button', { name: /sign in/i }).click();
      await page.getByRole('heading', { name: 'Hello, Demo User' }).waitFor();

      await page.goto(`${stack.url}/api/page`);
      const first = stack.upstream.requests.at(-1)!;
      const { session } = JSON.parse(
        await page.evaluate(async () => (await fetch('/auth/session')).text()),
      ) as { session: { token_expires_at: string } };
      await until(() => Date.now() > Date.parse(session.token_expires_at), {
        what: 'the end of the access token',
        timeoutMs: 30_000,
      });
      await page.reload();
      const second = stack.upstream.requests.at(-1)!;
      expect(second.claims!['sub']).toBe(first.claims!['sub']);
      expect(second.bearer).not.toBe(first.bearer);
      // Nothing that a script could read.
      expect(
        await page.evaluate(
          'document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)',
        ),
      ).toBe('{}{}');

      const [cookie] = (await context.cookies()).filter(({ name }) => name === 'session');
      expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Lax', path: '/' });
      await page.goto(stack.url);
      await page.getByRole('button', { name: 'Log out' }).click();
      await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
      expect(await stack.keycloak!.sessionsOf('demo')).toHaveLength(0);
      expect(
        (
          await fetch(`${stack.url}/auth/session`, {
            headers: { cookie: `session=${cookie!.value}` },
          })
        ).status,
      ).toBe(401);
      // Logging in again asks for the password again.
      await page.getByRole('link', { name: 'Log in' }).click();
      await page.locator('input[type=password]').waitFor();
      expect(faults).toEqual([]);
      await context.close();
    });

    test('who opens a protected page is taken to the login and back', async () => {
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(`${stack.url}/api/deep?x=1`);
      await page.getByLabel(/username/i).fill('alice');
      await page.locator('input[type=password]').fill('alice');
      await page.getByRole('button', { name: /sign in/i }).click();
      await page.waitForURL(`${stack.url}/api/deep?x=1`);
      await context.close();
    });

    /** Tabs of a browser that nobody is logged in with, and how often the gateway refused something. */
    async function tabs(count: number) {
      const context = await browser.newContext();
      context.setDefaultTimeout(60_000);
      const refused: string[] = [];
      context.on('response', (answer) => {
        if (answer.url().startsWith(stack.url) && answer.status() >= 400)
          refused.push(`${answer.status()} ${new URL(answer.url()).pathname}`);
      });
      const pages = [];
      for (let i = 0; i < count; i++) pages.push(await context.newPage());
      return { context, refused, pages };
    }
    const logIn = async (page: Page): Promise<void> => {
      await page.getByLabel(/username/i).fill('bob');
      await page.locator('input[type=password]').fill('bob');
      await page.getByRole('button', { name: /sign in/i }).click();
    };

    test('who goes Back after the login comes to a page, and stays logged in', async () => {
      const { context, refused, pages } = await tabs(1);
      const page = pages[0]!;
      await page.goto(`${stack.url}/api/deep?x=1`);
      await logIn(page);
      await page.waitForURL(`${stack.url}/api/deep?x=1`);
      // Keycloak's page answers at once, with a new code and the state of the login that is done.
      await page.goBack();
      await page.waitForURL(`${stack.url}/**`);
      expect([refused, new URL(page.url()).pathname]).toEqual([
        [],
        expect.stringMatching(/^\/(api\/deep)?$/),
      ]);
      await page.goto(`${stack.url}/auth/session`);
      expect(await page.locator('body').innerText()).toContain('"preferred_username":"bob"');
      await context.close();
    });

    test('who logs in in one of two tabs is led on in the other, too', async () => {
      const { context, refused, pages } = await tabs(2);
      const [first, second] = [pages[0]!, pages[1]!];
      await first.goto(`${stack.url}/api/first`);
      await second.goto(`${stack.url}/api/second`);
      await logIn(first);
      await first.waitForURL(`${stack.url}/api/first`);
      // Keycloak's page notices, and leads the second one on by itself.
      await second.bringToFront();
      await second.waitForURL(`${stack.url}/**`);
      expect(refused).toEqual([]);
      await context.close();
    });
  });

  describe('and nothing configured', () => {
    test('logs in at the development provider, and out again without further clicks', async () => {
      const gateway = await startGateway();
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(gateway.url);
      await page.getByRole('link', { name: 'Log in' }).click();
      await page.getByLabel('User name').fill('demo');
      await page.getByLabel('Password').fill('wrong');
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.getByRole('alert').waitFor();
      await page.getByLabel('Password').fill('demo');
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.getByRole('heading', { name: 'Hello, Demo User' }).waitFor();
      await page.getByRole('button', { name: 'Log out' }).click();
      await page.getByRole('heading', { name: 'You are logged out' }).waitFor();
      await context.close();
      expect(await gateway.stop()).toBe(0);
    });
  });
});
