import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser, until } from '@session-gateway/testkit';
import { problemCode, type SessionBody, type Stack, startStack, storedTokens } from './stack.js';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack({
    gateways: 2,
    redis: false,
    provider: { accessTokenLifespanSeconds: 60 },
    env: { SESSION_MAX_PER_USER: '3', SESSION_IDLE_TIMEOUT: '4', REFRESH_SWEEP: '1' },
  });
});
afterAll(() => stack.dispose());

const events = (id: string) =>
  stack.sql<{
    event: string;
    reason: string | null;
    actor: string;
    subject: string | null;
    ip_address: string | null;
  }>(
    'SELECT event, reason, actor, subject, ip_address FROM session_events WHERE session_id = $1 ORDER BY id',
    [id],
  );
const liveIds = async (subject: string) =>
  (
    await stack.sql<{ id: string }>(
      'SELECT s.id FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE s.is_active AND u.keycloak_id = $1 ORDER BY s.created_at',
      [subject],
    )
  ).map(({ id }) => id);
const body = async (browser: HttpBrowser) =>
  (await browser.get(`${stack.url}/auth/session?extend=false`)).json() as SessionBody;

describe("a person's sessions", () => {
  test('are never more than allowed, however many logins there are at once; the oldest make room, also at the provider', async () => {
    const first = await stack.session('crowd');
    // Some are over before their browser has seen its first page.
    await Promise.allSettled(Array.from({ length: 8 }, () => stack.session('crowd')));
    const live = await liveIds(first.subject);
    expect(live).toHaveLength(3);
    expect(live).not.toContain(first.id);
    expect((await stack.ask(0, '/auth/session', { cookie: first.cookie })).status).toBe(401);
    await until(async () => (await events(first.id)).length === 3, {
      what: 'the end at the provider',
    });
    expect(
      (await events(first.id)).map(({ event, reason, actor }) => [event, reason, actor]),
    ).toEqual([
      ['login', null, 'user'],
      ['session_ended', 'session_limit', 'gateway'],
      ['provider_logout', 'ended', 'gateway'],
    ]);
  });

  test('tell their story in session_events: login, logout, the administrator', async () => {
    const [admin, bob] = [await stack.login('admin'), await stack.login('bob')];
    const [
      adminId,
      {
        session: { id },
        user: { sub },
      },
    ] = [(await body(admin)).user.sub, await body(bob)];
    expect((await admin.delete(`${stack.url}/admin/sessions/${id}`)).status).toBe(204);
    await until(async () => (await events(id)).length === 3, { what: 'the end at the provider' });
    expect(await events(id)).toEqual([
      { event: 'login', reason: null, actor: 'user', subject: sub, ip_address: '127.0.0.1' },
      {
        event: 'session_ended',
        reason: 'ended_by_admin',
        actor: `admin:${adminId}`,
        subject: sub,
        ip_address: '127.0.0.1',
      },
      {
        event: 'provider_logout',
        reason: 'ended',
        actor: 'gateway',
        subject: sub,
        ip_address: null,
      },
    ]);
    await stack.gateways[0]!.said(
      new RegExp(`"event":"session_ended","session":"${id}".*"actor":"admin:`),
    );
  });

  test('that hang on one session of the provider do not take each other along', async () => {
    const browser = await stack.login('bob');
    const old = `session=${browser.cookies.get('session')!.value}`;
    const {
      session: { id },
      user: { sub },
    } = await body(browser);
    // Another session here with the same `sid`, as another tab of a browser has it whose cookie was lost.
    const [row] = await stack.sql<{ sid: string }>(
      'SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1',
      [id],
    );
    await stack.session('bob');
    await stack.sql(
      'UPDATE user_sessions SET keycloak_session_id = $1 WHERE is_active AND user_id = (SELECT user_id FROM user_sessions WHERE id = $2)',
      [row!.sid, id],
    );
    expect((await browser.delete(`${stack.url}/auth/sessions`)).status).toBe(204);
    expect(await liveIds(sub)).toEqual([id]);
    expect(stack.provider!.isSessionAlive(row!.sid)).toBe(true);
    expect((await stack.ask(1, '/auth/session', { cookie: old })).status).toBe(200);
  });

  test('end when unused, with polling that does not count as use, and are swept with their tokens', async () => {
    const [used, polled] = [await stack.login('alice'), await stack.login('demo')];
    const {
      session: { id },
    } = await body(polled);
    await until(
      async () => {
        expect((await used.get(`${stack.url}/auth/session`)).status).toBe(200);
        return (await polled.get(`${stack.url}/auth/session?extend=false`)).status === 401;
      },
      { what: 'the idle timeout', timeoutMs: 20_000, everyMs: 300 },
    );
    expect((await used.get(`${stack.url}/auth/verify?extend=false`)).status).toBe(200);
    await until(async () => (await storedTokens(stack, id)).access_token === null, {
      what: 'the sweep',
    });
    expect((await events(id)).at(-1)).toMatchObject({
      event: 'session_ended',
      reason: 'idle_timeout',
      actor: 'gateway',
    });
  });
});

describe('stepping up', () => {
  test('logs in anew with what the page asks for, returns to the very request, and replaces the session at once', async () => {
    const browser = await stack.login('alice');
    const before = await body(browser);
    const cookie = `session=${browser.cookies.get('session')!.value}`;
    stack.provider!.setUser('alice', { accessTokenClaims: { acr: 'gold' } });
    const start = await browser.navigate(
      `${stack.url}/auth/login?acr_values=gold&max_age=60&login_hint=alice&return_to=${encodeURIComponent('/api/pay?order=7&draft=%2F')}`,
    );
    expect(Object.fromEntries(start.location!.searchParams)).toMatchObject({
      acr_values: 'gold',
      max_age: '60',
    });
    const page = await browser.follow(start);
    expect([page.url.pathname + page.url.search, page.status]).toEqual([
      '/api/pay?order=7&draft=%2F',
      200,
    ]);
    expect(stack.upstream.requests.at(-1)!.claims).toMatchObject({ acr: 'gold' });
    const after = await body(browser);
    expect([after.user.sub, after.session.id === before.session.id]).toEqual([
      before.user.sub,
      false,
    ]);
    expect((await stack.ask(1, '/auth/session', { cookie })).status).toBe(401);
    expect(await events(before.session.id)).toContainEqual(
      expect.objectContaining({ event: 'session_ended', reason: 'replaced', actor: 'user' }),
    );
  });

  test('refuses an authentication that is older than the page allows', async () => {
    stack.provider!.setUser('old', {
      idTokenClaims: { auth_time: Math.floor(Date.now() / 1000) - 600 },
    });
    const browser = new HttpBrowser();
    const refused = await browser.follow(
      await browser.navigate(`${stack.url}/auth/login?max_age=60&login_hint=old`),
    );
    expect([refused.status, problemCode(refused), browser.cookies.get('session')]).toEqual([
      400,
      'callback_rejected',
      undefined,
    ]);
    const accepted = await browser.follow(
      await browser.navigate(`${stack.url}/auth/login?max_age=900&login_hint=old`),
    );
    expect(accepted.status).toBe(200);
    await browser.close();
  });
});

describe('a logout token', () => {
  const send = (token: string) =>
    fetch(`${stack.url}/auth/backchannel-logout`, {
      method: 'POST',
      body: new URLSearchParams({ logout_token: token }),
    });

  test('that the provider signed but that is refused is noted, once in a while; one that nobody signed is only logged', async () => {
    const token = await stack.provider!.logoutToken({ sub: 'somebody', sid: 'some-sid' });
    expect([
      (await send(token)).status,
      (await send(token)).status,
      (await send(token)).status,
    ]).toEqual([200, 400, 400]);
    expect((await send(`${token.slice(0, -8)}AAAAAAAA`)).status).toBe(400);
    const refused = await stack.sql<{ reason: string; sid: string }>(
      `SELECT reason, sid FROM session_events WHERE event = 'logout_token_refused'`,
    );
    expect(refused).toEqual([{ reason: 'replay', sid: 'some-sid' }]);
    await stack.gateways[0]!.said(
      /"event":"logout_token_refused","reason":"signature","actor":"unknown"/,
    );
  });
});
