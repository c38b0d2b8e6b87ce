import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeWith, type HttpBrowser, until } from '@session-gateway/testkit';
import { problemCode, type Stack, startStack, storedTokens } from './stack.js';

describeWith(['redis'], 'an outage', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({ gateways: 2, provider: { accessTokenLifespanSeconds: 600 } });
  });
  afterAll(() => stack.dispose());

  /** Everything that a person does, on both gateways, with what came of it. */
  async function everything(): Promise<number[]> {
    const browser = await stack.login();
    const cookie = `session=${browser.cookies.get('session')!.value}`;
    const statuses: number[] = [];
    for (const gateway of stack.gateways) {
      for (const path of ['/auth/session', '/auth/verify', '/auth/sessions', '/api/x'])
        statuses.push(
          (await browser.get(gateway.url + path, { headers: { cookie }, cookies: false })).status,
        );
      statuses.push(
        (
          await browser.post(`${gateway.url}/auth/refresh?force=true`, undefined, {
            headers: { cookie, origin: stack.url },
            cookies: false,
          })
        ).status,
      );
    }
    expect((await browser.post(`${stack.url}/auth/logout`)).status).toBe(200);
    for (const gateway of stack.gateways) {
      const status = async () =>
        (await browser.get(`${gateway.url}/auth/session`, { headers: { cookie }, cookies: false }))
          .status;
      // Another gateway hears of it in a moment.
      await until(async () => (await status()) === 401, { what: 'the logout' });
      statuses.push(await status());
    }
    return statuses;
  }
  const ALL_WELL = [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 401, 401];
  const sessionOf = async (browser: HttpBrowser) =>
    (
      (await browser.get(`${stack.url}/auth/session`)).json() as {
        session: { id: string; token_expires_at: string };
      }
    ).session;
  /**
   * Ends the life of a session's access token. The gateway at `stack.url` knows once it tells so: what is changed
   * behind its back it need not notice at once.
   */
  async function expireToken(browser: HttpBrowser): Promise<string> {
    const { id } = await sessionOf(browser);
    await stack.sql(
      `UPDATE user_sessions SET token_expires_at = now() - interval '1 second', version = version + 1 WHERE id = $1`,
      [id],
    );
    await until(async () => Date.parse((await sessionOf(browser)).token_expires_at) < Date.now(), {
      what: 'the gateway knowing that the token is over',
    });
    return id;
  }
  const dependencyStatus = async ({ managementUrl }: { managementUrl: string }, name: string) =>
    (
      (await (await fetch(`${managementUrl}/health/ready`)).json()) as {
        dependencies: Record<string, { status: string }>;
      }
    ).dependencies[name]?.status;
  const uncached = () => stack.redis!.flush();

  describe('of Redis', () => {
    test('changes nothing that a person sees: not while it is away, empty, full of garbage, or frozen', async () => {
      expect(await everything()).toEqual(ALL_WELL);
      const kept = await stack.login();
      await stack.redis!.kill();
      expect(await everything()).toEqual(ALL_WELL);
      expect((await kept.get(`${stack.url}/auth/session`)).status).toBe(200);
      await stack.redis!.start();
      expect((await kept.get(`${stack.url}/auth/session`)).status).toBe(200);
      // Both use it again: where only one process cannot reach Redis, news of its logouts is still to come, and all
      // below would be about that.
      await until(
        async () =>
          (
            await Promise.all(stack.gateways.map((gateway) => dependencyStatus(gateway, 'cache')))
          ).every((status) => status === 'ok'),
        { what: 'both gateways using Redis again' },
      );
      expect(await everything()).toEqual(ALL_WELL);
      for (const { key } of await stack.redis!.scan())
        await stack.redis!.command('SET', key, 'garbage that is no session');
      expect((await kept.get(`${stack.url}/auth/session`)).status).toBe(200);
      stack.redis!.freeze();
      expect(await everything()).toEqual(ALL_WELL);
      stack.redis!.thaw();
      expect((await kept.get(`${stack.url}/auth/session`)).status).toBe(200);
      const ready = await fetch(`${stack.url}/health/ready`);
      expect(ready.status).toBe(200);
    });

    test('during a logout revives nothing when it comes back with what it held', async () => {
      const browser = await stack.login();
      const cookie = `session=${browser.cookies.get('session')!.value}`;
      for (const gateway of stack.gateways)
        await browser.get(`${gateway.url}/auth/verify`, { headers: { cookie }, cookies: false });
      stack.redis!.freeze();
      await browser.post(`${stack.url}/auth/logout`);
      stack.redis!.thaw();
      await until(
        async () =>
          (
            await browser.get(`${stack.gateways[1]!.url}/auth/verify`, {
              headers: { cookie },
              cookies: false,
            })
          ).status === 401,
        { what: 'the logout on the other gateway' },
      );
      expect(
        (await browser.get(`${stack.url}/auth/session`, { headers: { cookie }, cookies: false }))
          .status,
      ).toBe(401);
    });
  });

  describe('of PostgreSQL', () => {
    test.each(['stopped', 'frozen'])(
      '%s: 503 with Retry-After, the cookie untouched, and the same processes go on when it is back',
      async (how) => {
        const browser = await stack.login();
        const pids = stack.gateways.map(({ pid }) => pid);
        if (how === 'stopped') await stack.postgres.stop('immediate');
        else stack.postgres.freeze();
        // Copies serve for five seconds more.
        await until(async () => (await browser.get(`${stack.url}/auth/verify`)).status !== 200, {
          timeoutMs: 20_000,
          what: 'the end of copies',
        });
        for (const [method, path] of [
          ['GET', '/auth/session'],
          ['GET', '/auth/verify'],
          ['GET', '/api/x'],
          ['POST', '/auth/refresh'],
          ['POST', '/auth/logout'],
          ['GET', '/auth/sessions'],
        ] as const) {
          const answer =
            method === 'GET'
              ? await browser.get(stack.url + path)
              : await browser.post(stack.url + path);
          expect([
            path,
            answer.status,
            problemCode(answer),
            answer.headers['retry-after'],
            answer.setCookies,
          ]).toEqual([path, 503, 'storage_unavailable', expect.stringMatching(/^\d+$/), []]);
        }
        expect((await fetch(`${stack.url}/health/live`)).status).toBe(200);
        expect((await fetch(`${stack.url}/health/ready`)).status).toBe(503);
        if (how === 'stopped') await stack.postgres.start();
        else stack.postgres.thaw();
        await until(async () => (await browser.get(`${stack.url}/auth/session`)).status === 200, {
          what: 'recovery',
        });
        expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
        expect(stack.gateways.map(({ pid }) => pid)).toEqual(pids);
      },
    );
  });

  describe('of the provider', () => {
    test('leaves sessions with a live access token alone, and others wait for it', async () => {
      const [live, expired] = [await stack.login(), await stack.login()];
      await expireToken(expired);
      await stack.provider!.stop();
      expect((await live.get(`${stack.url}/api/x`)).status).toBe(200);
      const refused = await expired.get(`${stack.url}/api/x`);
      expect([
        refused.status,
        problemCode(refused),
        refused.headers['retry-after'],
        refused.setCookies,
      ]).toEqual([503, 'provider_unavailable', expect.stringMatching(/^\d+$/), []]);
      expect((await expired.get(`${stack.url}/auth/session`)).status).toBe(200);
      // Logging out does not depend on it.
      expect((await live.post(`${stack.url}/auth/logout`)).status).toBe(200);
      expect((await live.get(`${stack.url}/auth/session`)).status).toBe(401);
      await stack.provider!.start();
      await until(async () => (await expired.get(`${stack.url}/api/x`)).status === 200, {
        what: 'recovery',
      });
    });

    test.each(['dead', 'mute', 'broken'])(
      'that is %s shows in readiness, for load balancers to leave the gateway in service, until it is over',
      async (how) => {
        const provider = stack.provider!;
        const inReadiness = (status: string) =>
          until(
            async () =>
              (
                await Promise.all(
                  stack.gateways.map((gateway) => dependencyStatus(gateway, 'provider')),
                )
              ).every((one) => one === status),
            { what: `readiness saying that the provider is ${status}` },
          );
        await inReadiness('ok');
        if (how === 'dead') await provider.stop();
        else
          provider.answerAlways({
            endpoint: 'discovery',
            ...(how === 'mute' ? { delayMs: 6_000 } : { status: 503 }),
          });
        await inReadiness('down');
        expect((await fetch(`${stack.url}/health/ready`)).status).toBe(200);
        if (how === 'dead') await provider.start();
        else provider.answerAlways(null);
        await inReadiness('ok');
      },
    );

    test('shows in readiness as soon as a person is told of it, and whoever asks for readiness is no burden to it', async () => {
      const browser = await stack.login();
      stack.provider!.answerNext({ status: 503 });
      expect((await browser.post(`${stack.url}/auth/refresh?force=true`)).status).toBe(503);
      expect(await dependencyStatus(stack.gateways[0]!, 'provider')).toBe('down');
      stack.provider!.resetCounts();
      await Promise.all(Array.from({ length: 100 }, () => fetch(`${stack.url}/health/ready`)));
      expect(stack.provider!.counts.discovery).toBeLessThanOrEqual(1);
    });

    test('is told from our own misconfiguration, which ends no session', async () => {
      const browser = await stack.login();
      await expireToken(browser);
      stack.provider!.answerNext({ status: 401, body: { error: 'invalid_client' } });
      const refused = await browser.get(`${stack.url}/api/x`);
      expect([refused.status, problemCode(refused), refused.setCookies]).toEqual([
        502,
        'provider_rejected',
        [],
      ]);
      expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    });

    test('is told from its word that the grant is over, which ends the session', async () => {
      const browser = await stack.login();
      const id = await expireToken(browser);
      stack.provider!.answerNext({ status: 400, body: { error: 'invalid_grant' } });
      const refused = await browser.get(`${stack.url}/api/x`);
      expect([refused.status, problemCode(refused)]).toEqual([401, 'reauthentication_required']);
      expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(401);
      expect(await storedTokens(stack, id)).toEqual({
        access_token: null,
        refresh_token: null,
        id_token: null,
      });
    });
  });

  test('of the API behind a route is a problem of that route alone', async () => {
    const browser = await stack.login();
    await stack.upstream.stop();
    const refused = await browser.get(`${stack.url}/api/x`);
    expect([refused.status, problemCode(refused)]).toEqual([502, 'upstream_unavailable']);
    await stack.upstream.start();
    expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
  });

  test('of trust in a stored value sends nothing upstream, keeps the session and says so', async () => {
    const browser = await stack.login();
    const { id } = await sessionOf(browser);
    const { refresh_token } = await storedTokens(stack, id);
    // A value that is sealed with the right key, in another column.
    await stack.sql(
      'UPDATE user_sessions SET access_token = $2, version = version + 1 WHERE id = $1',
      [id, refresh_token],
    );
    await uncached();
    const before = stack.upstream.count();
    const refused = await browser.get(`${stack.url}/api/x`);
    expect([refused.status, problemCode(refused), refused.setCookies]).toEqual([
      500,
      'token_unreadable',
      [],
    ]);
    expect(stack.upstream.count()).toBe(before);
    expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(200);
    await stack.gateways[0]!.said(/"code":"token_unreadable"/);
    expect(await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text()).toContain(
      'session_gateway_token_unreadable_total{reason="not_authentic"} 1',
    );
  });
});

describe('a gateway whose dependencies answer', () => {
  test('but take no writes, or go by another name, is not ready and says so', async () => {
    const stack = await startStack({ redis: false });
    try {
      const database = new URL(stack.databaseUrl).pathname.slice(1);
      await stack.sql(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
      const gateway = await stack.startGateway({
        KEYCLOAK_ISSUER: stack.provider!.issuer.replace('127.0.0.1', 'localhost'),
      });
      const reasons = async () => {
        const { status, dependencies } = (await (
          await fetch(`${gateway.managementUrl}/health/ready`)
        ).json()) as { status: string; dependencies: Record<string, { reason?: string }> };
        return [status, dependencies['database']?.reason, dependencies['provider']?.reason];
      };
      await until(async () => /issuer/.test((await reasons())[2] ?? ''), {
        what: 'the provider having been asked',
      });
      expect(await reasons()).toEqual([
        'not ready',
        expect.stringContaining('read-only'),
        expect.stringMatching(/metadata cannot be read: .*issuer/),
      ]);
      await gateway.said(/"event":"database","error":"[^"]*read-only/);
    } finally {
      await stack.dispose();
    }
  });
});

describe('a gateway that starts while its dependencies are away', () => {
  test('is alive, says why it is not ready, and becomes ready by itself', async () => {
    const stack = await startStack({ redis: false, start: false });
    try {
      await stack.postgres.stop();
      await stack.provider!.stop();
      const gateway = await stack.startGateway();
      const ready = async () =>
        (await fetch(`${gateway.managementUrl}/health/ready`)).json() as Promise<{
          status: string;
          dependencies: Record<string, { status: string; reason?: string }>;
        }>;
      expect(await ready()).toMatchObject({
        status: 'not ready',
        dependencies: {
          database: { status: 'down', reason: expect.any(String) },
          provider: { status: 'down', reason: expect.any(String) },
        },
      });
      await stack.provider!.start();
      await stack.postgres.start();
      await until(async () => (await ready()).status === 'ready', {
        what: 'readiness',
        timeoutMs: 20_000,
      });
      const browser = await stack.login();
      expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(200);
    } finally {
      await stack.dispose();
    }
  });
});
