import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeWith, HttpBrowser, openBrowser } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

/** How each session of a subject stands, oldest first. */
const sessionsOf = async (stack: Stack, subject: string) =>
  (
    await stack.sql<{ is_active: boolean; end_reason: string | null }>(
      'SELECT s.is_active, s.end_reason FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE u.keycloak_id = $1 ORDER BY s.created_at',
      [subject],
    )
  ).map(({ is_active, end_reason }) => (is_active ? 'live' : end_reason));
const subjectOf = async (stack: Stack, browser: HttpBrowser) =>
  ((await browser.get(`${stack.url}/auth/session`)).json() as { user: { sub: string } }).user.sub;

describe('a login', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({ redis: false });
  });
  afterAll(() => stack.dispose());

  test('in a ninth tab costs the oldest of the others, and no other', async () => {
    const browser = new HttpBrowser();
    const tabs = [];
    for (let i = 0; i < 9; i++)
      tabs.push(await browser.navigate(`${stack.url}/auth/login?return_to=/open/${i}`));
    expect(browser.cookies.list().filter(({ name }) => name.startsWith('login-'))).toHaveLength(8);
    for (const i of [1, 4, 7, 8])
      expect((await browser.follow(tabs[i]!)).url.pathname).toBe(`/open/${i}`);
    const oldest = await browser.follow(tabs[0]!);
    expect([oldest.status, oldest.url.pathname]).toEqual([200, '/']);
    await browser.close();
  });

  test('from another site is one with a session cookie that is Lax', async () => {
    const browser = await stack.login('lax');
    const subject = await subjectOf(stack, browser);
    const start = await browser.navigate(
      `${stack.url}/auth/login?login_hint=lax&return_to=/open/x`,
      { from: new URL('http://elsewhere.example/') },
    );
    expect([start.status, (await browser.follow(start)).url.pathname]).toEqual([302, '/open/x']);
    expect(await sessionsOf(stack, subject)).toEqual(['replaced', 'live']);
  });
});

describe('a login where the session cookie is Strict', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({ redis: false, env: { SESSION_COOKIE_SAMESITE: 'strict' } });
  });
  afterAll(() => stack.dispose());

  test('ends the session that the browser had when it set out, although the response comes without its cookie', async () => {
    const browser = await stack.login('steps');
    const subject = await subjectOf(stack, browser);
    const start = await browser.navigate(
      `${stack.url}/auth/login?login_hint=steps&return_to=/open/x`,
      { from: new URL(stack.url) },
    );
    browser.cookies.clear('session');
    expect((await browser.follow(start)).status).toBe(200);
    expect(await sessionsOf(stack, subject)).toEqual(['replaced', 'live']);
    expect(await subjectOf(stack, browser)).toBe(subject);
  });

  test('that another site began is asked for again from here, once, so that it brings the cookie if there is one', async () => {
    const stranger = new HttpBrowser();
    const address = `${stack.url}/auth/login?return_to=%2Fopen%2Fx%3Fa%3D%22b%26c`;
    const page = await stranger.navigate(address, { from: new URL('http://elsewhere.example/') });
    expect([page.status, page.setCookies, page.headers['cache-control']]).toEqual([
      200,
      [],
      'no-store',
    ]);
    expect(page.text).toContain('content="0;url=/auth/login?return_to=%2Fopen%2Fx%3Fa%3D%22b%26c"');
    expect((await stranger.navigate(address, { from: new URL(stack.url) })).status).toBe(302);
    expect((await stranger.navigate(address)).status).toBe(302);
    const route = await stranger.navigate(`${stack.url}/api/x?a=1`, {
      from: new URL('http://elsewhere.example/'),
    });
    expect([route.status, route.headers['cache-control'], route.text]).toEqual([
      200,
      'no-store',
      expect.stringContaining('content="0;url=/api/x?a=1"'),
    ]);
    expect(
      (await stranger.navigate(`${stack.url}/api/x?a=1`, { from: new URL(stack.url) })).location
        ?.pathname,
    ).toBe('/auth/login');
    for (const path of ['/', '/account']) {
      expect(
        (await stranger.navigate(stack.url + path, { from: new URL('http://elsewhere.example/') }))
          .text,
      ).toContain(`content="0;url=${path}"`);
      expect(
        (await stranger.navigate(stack.url + path, { from: new URL(stack.url) })).text,
      ).not.toContain('http-equiv');
    }
    // A callback that comes again may be that of somebody who is logged in.
    const callback = `${stack.url}/auth/callback?code=x&state=y`;
    const again = await stranger.navigate(callback, { from: new URL('http://elsewhere.example/') });
    expect([again.status, again.setCookies]).toEqual([200, []]);
    expect(again.text).toContain('content="0;url=/auth/callback?code=x&#38;state=y"');
    const anew = await stranger.navigate(callback, { from: new URL(stack.url) });
    expect([anew.status, anew.headers['location']]).toEqual([303, '/auth/login?again=1']);
    // With the cookie there is nothing to ask again for.
    const browser = await stack.login('carried');
    expect(
      (await browser.navigate(address, { from: new URL('http://elsewhere.example/') })).status,
    ).toBe(302);
    await stranger.close();
  });

  describeWith(['chromium'], 'in Chromium', () => {
    let elsewhere: Server;
    beforeAll(async () => {
      elsewhere = createServer((request, response) => {
        response
          .writeHead(200, { 'Content-Type': 'text/html' })
          .end(
            `<a href="${new URL(request.url ?? '/', 'http://x').searchParams.get('to') ?? ''}">onward</a>`,
          );
      }).listen(0, '127.0.0.1');
      await once(elsewhere, 'listening');
    });
    afterAll(() => void elsewhere.close());

    test('by links on another site leaves one live session in the end', async () => {
      const chromium = await openBrowser();
      try {
        stack.provider!.setUser('clicks', { sub: 'clicks-1' });
        const page = await (await chromium.newContext()).newPage();
        for (let i = 0; i < 3; i++) {
          const to = `${stack.url}/auth/login?login_hint=clicks&return_to=/open/${i}`;
          // Another host name is another site.
          await page.goto(
            `http://localhost:${(elsewhere.address() as AddressInfo).port}/?to=${encodeURIComponent(to)}`,
          );
          await page.getByRole('link', { name: 'onward' }).click();
          await page.waitForURL(`${stack.url}/open/${i}`);
        }
        expect(await sessionsOf(stack, 'clicks-1')).toEqual(['replaced', 'replaced', 'live']);
      } finally {
        await chromium.close();
      }
    });
  });
});
