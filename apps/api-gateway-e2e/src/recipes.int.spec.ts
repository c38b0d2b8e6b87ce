import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Child } from '@session-gateway/keycloak-server';
import {
  describeWith,
  freePort,
  HttpBrowser,
  type UpstreamRequest,
} from '@session-gateway/testkit';
import { Agent, WebSocket } from 'undici';
import {
  type Ports,
  RECIPES,
  startRecipe,
  startTlsTerminator,
  type TlsTerminator,
} from './recipes.js';
import { problemCode, type Stack, startStack } from './stack.js';

/**
 * Each recipe behind one that ends TLS on another port: neither scheme nor port of the server's own is the browser's.
 */
describeWith(['python3+openssl'], 'forward-auth', () => {
  let stack: Stack;
  let tls: TlsTerminator;
  let folder: string;
  let dispatcher: Agent;
  const last = (): UpstreamRequest => stack.upstream.requests.at(-1)!;
  const newBrowser = (): HttpBrowser => new HttpBrowser({ ca: tls.ca });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'session-gateway-recipes-'));
    tls = await startTlsTerminator(folder);
    dispatcher = new Agent({ connect: { ca: tls.ca } });
    stack = await startStack({ redis: false, start: false });
    await stack.startGateway({ PUBLIC_URL: tls.url, TRUSTED_PROXIES: '127.0.0.1' });
    stack.provider!.setUser('many', {
      realmRoles: Array.from({ length: 300 }, (_, i) => `a role with a name of its own ${i}`),
    });
  });
  afterAll(async () => {
    await dispatcher?.destroy();
    await tls?.stop();
    await stack?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  describe.each(Object.entries(RECIPES))('by %s', (name, recipe) => {
    describeWith([recipe.needs], 'as the recipe has it', () => {
      let server: Child;
      let browser: HttpBrowser;
      const login = async (username: string): Promise<HttpBrowser> => {
        const person = newBrowser();
        stack.provider!.chooseUser(username);
        await person.loginAt(`${tls.url}/wiki/start`, username, username);
        return person;
      };
      const portsOf = async (): Promise<Ports> => ({
        server: await freePort(),
        gateway: stack.gateways[0]!.port,
        application: stack.upstream.port,
      });
      beforeAll(async () => {
        const ports = await portsOf();
        const own = await mkdtemp(join(tmpdir(), 'session-gateway-recipe-'));
        server = await startRecipe(recipe, own, ports);
        tls.lead(ports.server);
        browser = await login('demo');
      });
      afterAll(async () => {
        await browser?.close();
        server?.signal('SIGTERM');
        await server?.exited;
      });

      test('takes a person to the login and back to the very address', async () => {
        const person = newBrowser();
        const address = '/wiki/R&D%2Fx%20y?a=1&b=%26c&return_to=/x';
        const led = await person.navigate(tls.url + address, {
          headers: { 'x-forwarded-uri': '/evil', 'x-forwarded-method': 'GET' },
        });
        expect(led.location?.searchParams.get('return_to')).toBe(address);
        expect([led.status, led.location?.origin, led.location?.pathname]).toEqual([
          302,
          tls.url,
          '/auth/login',
        ]);
        const page = await person.loginAt(tls.url + address, 'demo', 'demo');
        expect([page.status, last().url]).toEqual([200, address]);
        await person.close();
      });

      test('tells the application who it is, and nothing that the client made up', async () => {
        const answer = await browser.get(`${tls.url}/app/x`, {
          headers: {
            'x-auth-subject': 'root',
            X_Auth_Roles: 'realm:root',
            'X-Auth_Acr': 'root',
            'x-auth-roles-truncated': 'root',
            'x-forwarded-for': '6.6.6.6',
          },
        });
        expect(answer.status).toBe(200);
        const { user, session } = (await browser.get(`${tls.url}/auth/session`)).json() as {
          user: { sub: string; roles: string[] };
          session: { id: string };
        };
        expect(last().headers).toMatchObject({
          'x-auth-subject': user.sub,
          'x-auth-session': session.id,
          'x-auth-roles': user.roles.join(','),
        });
        const sent = last().rawHeaders.join(' ');
        expect(sent).not.toMatch(/root|placeholder|http\.reverse_proxy/);
        expect(sent).not.toContain(browser.cookies.get('__Host-session')!.value);
        expect(last().headers['x-forwarded-for'] ?? '').not.toMatch(/^6\.6\.6\.6$/);
      });

      test.each([
        ['a=1; OURS; b=2', /^a=1; ?b=2$/],
        ['a=1; session=theirs; OURS; b=2', /^a=1; session=theirs; ?b=2$/],
        ['session=theirs; OURS', /^session=theirs;? ?$/],
        ['OURS; session=theirs', /^session=theirs$/],
      ])('keeps the cookies of the application of %s', async (sent, received) => {
        const { value } = browser.cookies.get('__Host-session')!;
        const cookie = sent.replace('OURS', `__Host-session=${value}`);
        await browser.get(`${tls.url}/app/x`, { headers: { cookie }, cookies: false });
        expect(last().headers['cookie']).toMatch(received);
      });

      test('tells the application as many of 300 roles as there is room for', async () => {
        const person = await login('many');
        expect((await person.get(`${tls.url}/app/x`)).status).toBe(200);
        const roles = String(last().headers['x-auth-roles']);
        expect([roles.length > 4_000, roles.length <= 4_096]).toEqual([true, true]);
        expect(last().headers['x-auth-roles-truncated']).toBe('true');
        await person.close();
      });

      test('tells scripts 401, and lets unsafe methods through from our own pages only', async () => {
        const before = stack.upstream.count();
        const script = await newBrowser().get(`${tls.url}/app/x?login=redirect`);
        expect([script.status, problemCode(script)]).toEqual([401, 'session_not_found']);
        const foreign = await browser.request('POST', `${tls.url}/app/x`, {
          headers: { origin: 'https://evil.example', 'content-type': 'text/plain' },
          body: 'a=1',
        });
        expect([foreign.status, problemCode(foreign)]).toEqual([403, 'csrf_rejected']);
        expect(stack.upstream.count()).toBe(before);
        const own = await browser.post(`${tls.url}/app/x`, 'a=1');
        expect([own.status, last().method, last().bodyBytes]).toEqual([200, 'POST', 3]);
      });

      test.each([
        '/auth/../app/x',
        '/auth/%2e%2e/app/x',
        '/%61uth/../app/x',
        '/auth;/../app/x',
        '/auth%2f..%2fapp/x',
        '//app/x',
        '/auth/..//app/x',
        '/account/./../app/x',
        '/authx',
        '/AUTH/x',
      ])('lets nobody without a session through at %s', async (path) => {
        const before = stack.upstream.count();
        const answer = await dispatcher.request({ origin: tls.url, path, method: 'GET' });
        await answer.body.dump();
        expect([stack.upstream.count(), answer.statusCode >= 300]).toEqual([before, true]);
      });

      test('lets nobody through while the gateway is away', async () => {
        const own = await mkdtemp(join(tmpdir(), 'session-gateway-recipe-'));
        const ports = { ...(await portsOf()), gateway: await freePort() };
        const alone = await startRecipe(recipe, own, ports);
        const before = stack.upstream.count();
        const answer = await newBrowser().get(`http://127.0.0.1:${ports.server}/app/x`);
        expect([answer.status >= 500, stack.upstream.count()]).toEqual([true, before]);
        alone.signal('SIGTERM');
        await alone.exited;
      });

      test('lets a WebSocket through from our own pages only', async () => {
        const cookie = `__Host-session=${browser.cookies.get('__Host-session')!.value}`;
        const opens = (origin: string): Promise<boolean> =>
          new Promise((resolve) => {
            const socket = new WebSocket(`${tls.url.replace('http', 'ws')}/app/ws`, {
              headers: { cookie, origin },
              dispatcher,
            });
            socket.addEventListener('open', () => socket.send('hello'));
            socket.addEventListener('message', () => {
              socket.close();
              resolve(true);
            });
            socket.addEventListener('error', () => resolve(false));
          });
        expect([name, await opens('https://evil.example'), await opens(tls.url)]).toEqual([
          name,
          false,
          true,
        ]);
      });

      test('logs nobody out while the gateway cannot tell', async () => {
        stack.postgres.freeze();
        const answer = await newBrowser()
          .get(`${tls.url}/app/x`, { headers: { cookie: '__Host-session=x' }, cookies: false })
          .finally(() => stack.postgres.thaw());
        expect([answer.status, answer.headers['retry-after'], answer.setCookies]).toEqual([
          503,
          '2',
          [],
        ]);
      });

      test('leads to the login again after the logout', async () => {
        const person = await login('demo');
        const logout = await person.post(`${tls.url}/auth/logout`);
        expect([logout.status, Object.keys(logout.json() as object)]).toEqual([
          200,
          ['logout_url'],
        ]);
        expect((await person.navigate(`${tls.url}/app/x`)).location?.pathname).toBe('/auth/login');
        await person.close();
      });
    });
  });
});
