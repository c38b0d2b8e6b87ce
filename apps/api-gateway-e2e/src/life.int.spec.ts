import { createHash } from 'node:crypto';
import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import {
  describeWith,
  findSecrets,
  HttpBrowser,
  type Secret,
  tokenSecrets,
  until,
} from '@session-gateway/testkit';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  KEY_TEXT,
  problemCode,
  type SessionBody,
  type Stack,
  startStack,
  storedTokens,
} from './stack.js';

const LIFESPAN_SECONDS = 4;
const COLUMNS = ['access_token', 'refresh_token', 'id_token'] as const;

describeWith(['redis', 'keycloak'], 'a session with a real Keycloak', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({
      gateways: 2,
      keycloak: { accessTokenLifespanSeconds: LIFESPAN_SECONDS },
      env: { LOG_LEVEL: 'trace' },
    });
  });
  afterAll(() => stack.dispose());
  const session = async (browser: HttpBrowser) =>
    (await browser.get(`${stack.url}/auth/session`)).json() as SessionBody;
  const expired = (body: SessionBody) =>
    until(() => Date.now() > Date.parse(body.session.token_expires_at), {
      what: 'the end of the access token',
      timeoutMs: 30_000,
    });

  describe('of a person', () => {
    test('begins with a login, calls the API with fresh tokens, and ends everywhere with the logout', async () => {
      const browser = await stack.login();
      const first = await session(browser);
      expect(first).toEqual({
        session: {
          id: expect.any(String),
          created_at: expect.any(String),
          expires_at: expect.any(String),
          idle_expires_at: expect.any(String),
          extendable: expect.any(Boolean),
          token_expires_at: expect.any(String),
          last_accessed_at: expect.any(String),
          // Keycloak's level of a login with a password, where the realm maps none.
          acr: '1',
        },
        user: {
          sub: await stack.keycloak!.userId('demo'),
          preferred_username: 'demo',
          email: 'demo@example.com',
          name: 'Demo User',
          roles: ['api-gateway:reader', 'realm:user'],
        },
      });

      const call = await browser.get(`${stack.url}/api/x?y=%2F`, {
        headers: {
          'x-auth-subject': 'root',
          x_forwarded_for: '6.6.6.6',
          forwarded: 'for=6.6.6.6',
          'x-real-ip': '6.6.6.6',
        },
      });
      expect(call.status).toBe(200);
      const seen = stack.upstream.requests.at(-1)!;
      expect(seen).toMatchObject({
        url: '/api/x?y=%2F',
        claims: { sub: first.user.sub, azp: 'api-gateway' },
      });
      expect(Object.keys(seen.headers)).not.toEqual(expect.arrayContaining(['cookie']));
      expect(seen.rawHeaders.join(' ')).not.toMatch(/6\.6\.6\.6|root|session=/);

      await expired(first);
      const again = await browser.get(`${stack.gateways[1]!.url}/api/x`, {
        headers: { cookie: `session=${browser.cookies.get('session')!.value}` },
        cookies: false,
      });
      expect(again.status).toBe(200);
      const renewed = stack.upstream.requests.at(-1)!;
      expect(renewed.bearer).not.toBe(seen.bearer);
      expect(Number(renewed.claims!['exp']) * 1000).toBeGreaterThan(Date.now());

      const cookie = browser.cookies.get('session')!.value;
      expect(await stack.keycloak!.sessionsOf('demo')).toHaveLength(1);
      const end = await browser.follow(
        await browser.navigate(`${stack.url}/auth/logout`, {
          method: 'POST',
          from: new URL(stack.url),
        }),
      );
      expect(end.url.href).toBe(`${stack.url}/auth/logged-out`);
      expect(await stack.keycloak!.sessionsOf('demo')).toHaveLength(0);
      for (const gateway of stack.gateways) {
        for (const path of ['/auth/session', '/auth/verify', '/api/x']) {
          const refused = await browser.get(gateway.url + path, {
            headers: { cookie: `session=${cookie}` },
            cookies: false,
          });
          expect([refused.status, problemCode(refused)]).toEqual([401, 'session_not_found']);
          expect(refused.setCookies.join()).toMatch(/^session=;.*Max-Age=0/);
        }
      }
      expect(await storedTokens(stack, first.session.id)).toEqual({
        access_token: null,
        refresh_token: null,
        id_token: null,
      });
    });

    test('is asked for again in the same words when there is none to log out', async () => {
      const browser = new HttpBrowser();
      const json = await browser.post(`${stack.url}/auth/logout`, undefined, {
        headers: { accept: 'application/json' },
      });
      expect([json.status, (json.json() as { logout_url: string }).logout_url]).toEqual([
        200,
        expect.stringContaining('/protocol/openid-connect/logout?'),
      ]);
      expect(
        (
          await browser.navigate(`${stack.url}/auth/logout`, {
            method: 'POST',
            from: new URL(stack.url),
          })
        ).status,
      ).toBe(303);
      await browser.close();
    });

    test('returns to the page that was asked for', async () => {
      const browser = new HttpBrowser();
      const page = await browser.loginThroughKeycloak(stack.url, 'alice', 'alice', {
        returnTo: '/api/page?x=1',
      });
      expect([page.url.href, page.status]).toEqual([`${stack.url}/api/page?x=1`, 200]);
      await browser.close();
    });

    test('is found by forward-auth, and its roles decide', async () => {
      const browser = await stack.login('admin');
      const verified = await browser.get(`${stack.url}/auth/verify`);
      const {
        session: { id },
        user,
      } = await session(browser);
      expect(verified.status).toBe(200);
      expect(verified.headers).toMatchObject({
        'x-auth-subject': user.sub,
        'x-auth-session': id,
        'x-auth-roles': user.roles.join(','),
      });
      expect(verified.setCookies).toEqual([]);
      const demo = await stack.login('demo');
      expect(problemCode(await demo.get(`${stack.url}/api/admin/x`))).toBe('forbidden');
    });

    test('is listed, and ended from another browser', async () => {
      const [one, two] = [await stack.login('bob'), await stack.login('bob')];
      const [first, second] = [await session(one), await session(two)];
      const { sessions } = (await one.get(`${stack.url}/auth/sessions`)).json() as {
        sessions: { id: string; current: boolean }[];
      };
      expect(sessions.map(({ id, current }) => [id, current])).toEqual([
        [second.session.id, false],
        [first.session.id, true],
      ]);
      const stranger = await stack.login('alice');
      expect(
        (await stranger.delete(`${stack.url}/auth/sessions/${second.session.id}`)).status,
      ).toBe(404);
      expect((await one.delete(`${stack.url}/auth/sessions/${second.session.id}`)).status).toBe(
        204,
      );
      expect((await two.get(`${stack.url}/auth/session`)).status).toBe(401);
      expect((await one.get(`${stack.url}/auth/session`)).status).toBe(200);
    });

    test('is listed and ended by an administrator, and by nobody else', async () => {
      const [admin, bob] = [await stack.login('admin'), await stack.login('bob')];
      const {
        session: { id },
        user: { sub },
      } = await session(bob);
      expect(problemCode(await bob.get(`${stack.url}/admin/sessions`))).toBe('forbidden');
      const { sessions } = (await admin.get(`${stack.url}/admin/sessions?sub=${sub}`)).json() as {
        sessions: { id: string; sub: string }[];
      };
      expect(sessions.find((listed) => listed.id === id)).toMatchObject({ sub });
      expect((await admin.delete(`${stack.url}/admin/sessions?sub=${sub}`)).status).toBe(204);
      expect((await bob.get(`${stack.url}/auth/session`)).status).toBe(401);
    });

    test("ends on every gateway when Keycloak's administrator logs the person out", async () => {
      const browser = await stack.login('bob');
      await stack.keycloak!.logoutUser('bob');
      const cookie = `session=${browser.cookies.get('session')!.value}`;
      for (const gateway of stack.gateways) {
        await until(
          async () =>
            (
              await browser.get(`${gateway.url}/auth/session`, {
                headers: { cookie },
                cookies: false,
              })
            ).status === 401,
          { what: 'the back-channel logout' },
        );
      }
    });
  });

  describe('whose access token has expired', () => {
    test("serves 50 requests at once on two gateways with one refresh in Keycloak's log, round after round", async () => {
      const browser = await stack.login('alice');
      const cookie = `session=${browser.cookies.get('session')!.value}`;
      await stack.keycloak!.clearEvents();
      for (let round = 1; round <= 3; round++) {
        await expired(await session(browser));
        const answers = await Promise.all(
          Array.from({ length: 50 }, (_, i) =>
            browser.get(`${stack.gateways[i % 2]!.url}/api/storm`, {
              headers: { cookie },
              cookies: false,
            }),
          ),
        );
        expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 200));
        expect(await stack.keycloak!.events({ type: 'REFRESH_TOKEN' })).toHaveLength(round);
        expect(await stack.keycloak!.events({ type: 'REFRESH_TOKEN_ERROR' })).toHaveLength(0);
      }
      const before = await session(browser);
      const forced = await browser.post(`${stack.url}/auth/refresh?force=true`);
      expect(forced.status).toBe(200);
      // A token's end is in whole seconds, so two grants within one second end at the same time.
      expect(
        Date.parse((forced.json() as SessionBody).session.token_expires_at),
      ).toBeGreaterThanOrEqual(Date.parse(before.session.token_expires_at));
      expect(await stack.keycloak!.events({ type: 'REFRESH_TOKEN' })).toHaveLength(4);
    });

    test('leaves no token and no cookie in Redis, in the database or in the logs, and opens only where it lies', async () => {
      const browser = await stack.login('demo');
      const {
        session: { id },
      } = await session(browser);
      await browser.get(`${stack.url}/api/x`);
      await browser.post(`${stack.url}/auth/refresh?force=true`);
      const encryption = new TokenEncryption({ keyring: createKeyring({ keyText: KEY_TEXT }) });
      const stored = await storedTokens(stack, id);
      const secrets: Secret[] = [
        { name: 'the cookie', value: browser.cookies.get('session')!.value },
      ];
      for (const column of COLUMNS) {
        expect(stored[column]).toMatch(/^v2\.k1\./);
        secrets.push(
          ...tokenSecrets(
            column,
            encryption.open(stored[column]!, { table: 'user_sessions', column, rowId: id }),
          ),
        );
        for (const elsewhere of [
          { table: 'user_sessions', column, rowId: 'another' },
          ...COLUMNS.filter((other) => other !== column).map((other) => ({
            table: 'user_sessions',
            column: other,
            rowId: id,
          })),
        ]) {
          expect(() => encryption.open(stored[column]!, elsewhere)).toThrow();
        }
      }
      for (const { bearer } of stack.upstream.requests.slice(-5))
        if (bearer) secrets.push(...tokenSecrets('a bearer token', bearer));

      const entries = await stack.redis!.scan();
      expect(entries.length).toBeGreaterThan(0);
      const found = entries.flatMap(({ key, value }) =>
        [key, value].flat().flatMap((bytes) => findSecrets('Redis', bytes, secrets)),
      );
      found.push(
        ...findSecrets('PostgreSQL', await stack.postgres.dump(stack.databaseUrl), secrets),
      );
      for (const gateway of stack.gateways) {
        found.push(...findSecrets('the log', gateway.output(), secrets));
        found.push(
          ...findSecrets(
            'metrics',
            await (await fetch(`${gateway.managementUrl}/metrics`)).text(),
            secrets,
          ),
        );
      }
      for (const path of ['/auth/session', '/auth/sessions', '/auth/verify', '/']) {
        const answer = await browser.get(stack.url + path);
        found.push(
          ...findSecrets(path, `${JSON.stringify(answer.headers)}${answer.text}`, secrets),
        );
      }
      expect(found).toEqual([]);

      // The search itself finds what is there.
      const planted = secrets[1]!.value;
      await stack.redis!.command('SET', 'planted', Buffer.from(planted).toString('hex'));
      expect(
        (await stack.redis!.scan()).flatMap(({ value }) =>
          findSecrets('Redis', [value].flat()[0]!, secrets),
        ),
      ).not.toEqual([]);
      await stack.redis!.command('DEL', 'planted');
      expect(findSecrets('x', createHash('sha256').update(planted).digest('hex'), secrets)).toEqual(
        [],
      );
    });
  });

  describe('while Keycloak is away', () => {
    test('works on with a live access token, waits with an expired one, and goes on when Keycloak is back', async () => {
      const browser = await stack.login('demo');
      await browser.post(`${stack.url}/auth/refresh?force=true`);
      await stack.keycloak!.stop();
      expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
      await expired(await session(browser));
      const waiting = await browser.get(`${stack.url}/api/x`);
      expect([
        waiting.status,
        problemCode(waiting),
        waiting.headers['retry-after'],
        waiting.setCookies,
      ]).toEqual([503, 'provider_unavailable', expect.stringMatching(/^\d+$/), []]);
      await stack.keycloak!.start();
      await until(async () => (await browser.get(`${stack.url}/api/x`)).status === 200, {
        what: 'Keycloak being back',
        timeoutMs: 60_000,
      });
    });
  });

  describe('that has not begun', () => {
    test("takes nothing but the browser's own cookie: login writes nothing to storage", async () => {
      // But for the counter of an address, of which there may be one from the minute before, or none.
      const count = async () => [
        (
          await stack.sql<{ n: string }>(
            'SELECT (SELECT count(*) FROM user_sessions) + (SELECT count(*) FROM users) AS n',
          )
        )[0]!.n,
        (await stack.redis!.scan()).filter(({ key }) => !String(key).startsWith('limit:')).length,
      ];
      const before = await count();
      const browser = new HttpBrowser();
      for (let i = 0; i < 50; i++)
        expect((await browser.navigate(`${stack.url}/auth/login`)).status).toBe(302);
      expect(await count()).toEqual(before);
      expect(browser.cookies.list().length).toBeLessThanOrEqual(9);
      await browser.close();
    });

    test('can be begun in two tabs at once', async () => {
      const browser = new HttpBrowser();
      const [one, two] = [
        await browser.navigate(`${stack.url}/auth/login?return_to=/api/1`),
        await browser.navigate(`${stack.url}/auth/login?return_to=/api/2`),
      ];
      expect((await browser.loginAt(one.location!, 'demo', 'demo')).url.pathname).toBe('/api/1');
      expect((await browser.loginAt(two.location!, 'demo', 'demo')).url.pathname).toBe('/api/2');
      await browser.close();
    });

    test("does not begin from a frame, with a foreign return address, or with a response that is not this browser's", async () => {
      const browser = new HttpBrowser();
      for (const destination of ['iframe', 'image', 'empty', 'script']) {
        expect(
          (
            await browser.request('GET', `${stack.url}/auth/login`, {
              headers: { 'sec-fetch-dest': destination },
            })
          ).status,
        ).toBe(403);
      }
      for (const returnTo of ['//evil.example', 'https://evil.example', '/\\evil.example', 'x']) {
        const refused = await browser.navigate(
          `${stack.url}/auth/login?return_to=${encodeURIComponent(returnTo)}`,
        );
        expect([refused.status, problemCode(refused)]).toEqual([400, 'return_to_rejected']);
      }
      const count = async () =>
        (await stack.sql<{ n: string }>('SELECT count(*) AS n FROM user_sessions'))[0]!.n;
      const before = await count();
      // A response to this very login, but for another browser; a forged state; one that is used twice; an error.
      const start = await browser.navigate(`${stack.url}/auth/login`);
      const atProvider = await browser.follow(await browser.navigate(start.location!));
      const form = /action="([^"]+)"/.exec(atProvider.text)![1]!.replaceAll('&amp;', '&');
      const back = await browser.navigate(form, {
        method: 'POST',
        body: new URLSearchParams({ username: 'demo', password: 'demo' }),
        from: atProvider.url,
      });
      const stranger = new HttpBrowser();
      const state = back.location!.searchParams.get('state')!;
      // Whoever has no login under way by that state begins one; an answer to this one that is not right is refused.
      for (const [who, url, status] of [
        [stranger, back.location!.href, 303],
        [browser, back.location!.href.replace(state, `${state}x`), 303],
        [browser, `${stack.url}/auth/callback`, 303],
        [browser, `${stack.url}/auth/callback?error=access_denied&state=x`, 400],
        [browser, `${back.location!.href}&state=${state}`, 400],
        [
          browser,
          back.location!.href.replace(
            /iss=[^&]+/,
            `iss=${encodeURIComponent('https://evil.example')}`,
          ),
          400,
        ],
      ] as const) {
        const refused = await who.navigate(url);
        expect(refused.status).toBe(status);
        if (status === 303) expect(refused.headers['location']).toBe('/auth/login?again=1');
        else expect(problemCode(refused)).toBe('callback_rejected');
        expect(who.cookies.get('session')).toBeUndefined();
      }
      expect(await count()).toBe(before);
      await Promise.all([browser.close(), stranger.close()]);
    });
  });
});
