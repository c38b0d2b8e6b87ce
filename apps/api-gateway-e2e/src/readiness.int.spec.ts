import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeWith, shiftedClock, type TestGateway, until } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

let stack: Stack;
let gateway: TestGateway;
const SOON = { timeoutMs: 60_000 };
beforeAll(async () => {
  stack = await startStack({ redis: false });
  await stack.sql(`CREATE ROLE gateway LOGIN PASSWORD 'gateway'`);
  await stack.sql('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gateway');
  await stack.sql('GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO gateway');
});
afterAll(() => stack.dispose());

/** A gateway with a role of its own, as grants from before a later migration leave it. */
async function startAs(env: Record<string, string> = {}): Promise<TestGateway> {
  const url = new URL(stack.databaseUrl);
  [url.username, url.password] = ['gateway', 'gateway'];
  return stack.restartGateway(0, { env: { DATABASE_URL: url.href, ...env } });
}
const readiness = async (origin: string) => {
  const answer = await fetch(`${origin}/health/ready`);
  return { status: answer.status, text: await answer.text() };
};
const reasonOf = async (name: string, of = gateway): Promise<string> => {
  const { dependencies } = JSON.parse((await readiness(of.managementUrl)).text) as {
    dependencies: Record<string, { reason?: string }>;
  };
  return dependencies[name]?.reason ?? '';
};
const isReady = async (): Promise<boolean> => (await readiness(gateway.url)).status === 200;

describe('a gateway whose role lacks rights', () => {
  test('starts, names them to the operator only, and becomes ready when they are given', async () => {
    await stack.sql('REVOKE ALL ON exchanged_tokens, session_events FROM gateway');
    gateway = await startAs();
    await until(async () => /exchanged_tokens/.test(await reasonOf('database')), SOON);
    expect(await reasonOf('database')).toBe(
      'the role lacks SELECT, INSERT, UPDATE, DELETE on session_events; the role lacks SELECT, INSERT, UPDATE, DELETE on exchanged_tokens',
    );
    await gateway.said(/"event":"storage","problems":\["the role lacks [^\]]*exchanged_tokens/);
    expect(await readiness(gateway.url)).toEqual({
      status: 503,
      text: '{"status":"not ready","dependencies":{"process":{"status":"ok"},"database":{"status":"down"},"clock":{"status":"ok"},"cache":{"status":"ok"},"provider":{"status":"ok"}}}',
    });
    await stack.sql(
      'GRANT SELECT, INSERT, UPDATE, DELETE ON exchanged_tokens, session_events TO gateway',
    );
    await until(isReady, SOON);
    expect((await readiness(gateway.url)).text).toMatch(
      /^\{"status":"ready",.*"database":\{"status":"ok"\}/,
    );
    await gateway.said('PostgreSQL lets this gateway do all of its work again');
  });
});

describe('a gateway whose writes PostgreSQL drops without an error', () => {
  test('answers no end of a session with 200 while it lives, and is not ready', async () => {
    const other = await stack.login();
    const browser = await stack.login();
    const cookie = `session=${browser.cookies.get('session')!.value}`;
    const asked = (path: string, method = 'GET') => stack.ask(0, path, { cookie, method });
    await stack.sql(
      `CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`,
    );
    await stack.sql(
      `CREATE TRIGGER theirs BEFORE UPDATE ON user_sessions FOR EACH ROW EXECUTE FUNCTION drop_it()`,
    );
    const { session } = JSON.parse((await asked('/auth/session')).text) as {
      session: { id: string };
    };
    const { id } = session;
    for (const [path, method] of [
      ['/auth/logout', 'POST'],
      [`/auth/sessions/${id}`, 'DELETE'],
      ['/auth/sessions', 'DELETE'],
    ] as const)
      expect(await asked(path, method)).toMatchObject({
        status: 503,
        code: 'storage_unavailable',
      });
    expect((await asked('/auth/session')).status).toBe(200);
    expect((await other.get(`${stack.url}/auth/session`)).status).toBe(200);
    await other.close();
    // Started anew it looks at once; one that runs looks every half minute.
    gateway = await startAs();
    await until(async () => /drops the write/.test(await reasonOf('database')), SOON);
    expect(await reasonOf('database')).toMatch(/triggers: theirs on user_sessions/);
    await stack.sql('DROP FUNCTION drop_it CASCADE');
    await until(isReady, SOON);
    expect((await asked('/auth/logout', 'POST')).status).toBe(200);
    expect((await asked('/auth/session')).status).toBe(401);
  });
});

describeWith(['faketime'], 'gateways whose clocks are an hour off', () => {
  const HOUR_SECONDS = 3_600;
  const ABSOLUTE_SECONDS = 3_000;
  const env = { SESSION_ABSOLUTE_TIMEOUT: String(ABSOLUTE_SECONDS) };
  const sides = [
    { at: 1, seconds: HOUR_SECONDS, says: "this machine's clock is 3600 s ahead of PostgreSQL's" },
    { at: 2, seconds: -HOUR_SECONDS, says: "this machine's clock is 3600 s behind PostgreSQL's" },
  ];
  beforeAll(async () => {
    await stack.restartGateway(0, { env });
    for (const { seconds } of sides)
      await stack.startGateway({ ...env, ...shiftedClock(seconds), REFRESH_SWEEP: '1' });
  });
  const stateOf = async (id: string) => {
    const [row] = await stack.sql<{ end_reason: string | null }>(
      `SELECT is_active, end_reason, version, expires_at, abs(extract(epoch FROM now() - last_accessed_at)) < 60 AS used_now
       FROM user_sessions WHERE id = $1`,
      [id],
    );
    return row!;
  };
  /** By PostgreSQL's clock. */
  const secondsLeft = async (id: string): Promise<number> => {
    const [row] = await stack.sql<{ left: number }>(
      `SELECT extract(epoch FROM expires_at - now())::float8 AS left FROM user_sessions WHERE id = $1`,
      [id],
    );
    return row!.left;
  };

  test('say so to the operator, and are not ready', async () => {
    for (const { at, says } of sides) {
      await until(async () => (await reasonOf('clock', stack.gateways[at])) === says, SOON);
      expect((await readiness(stack.gateways[at]!.url)).status).toBe(503);
    }
    expect(await reasonOf('clock', stack.gateways[0])).toBe('');
    expect(await readiness(stack.url)).toMatchObject({ status: 200 });
  });

  test('end no session, spend no refresh token, and let no session live longer', async () => {
    const { cookie, id } = await stack.session();
    const before = await stateOf(id);
    const spent = stack.provider!.counts.refresh;
    const asked = async (at: number, path: string, method = 'GET') =>
      (await stack.ask(at, path, { cookie, method })).status;
    for (const { at } of sides) {
      for (const path of ['/auth/session', '/api/x', '/auth/verify', '/auth/sessions'])
        expect([at, path, await asked(at, path)]).toEqual([at, path, 200]);
      expect(await asked(at, '/auth/refresh?force=true', 'POST')).toBe(503);
    }
    // The sweepers have gone round once each of these is over, and ended these alone.
    for (const [column, reason] of [
      ['last_accessed_at', 'idle_timeout'],
      ['expires_at', 'absolute_timeout'],
    ]) {
      const over = await stack.session();
      await stack.sql(
        `UPDATE user_sessions SET ${column} = now() - interval '31 minutes' WHERE id = $1`,
        [over.id],
      );
      for (const { at } of sides)
        expect(await stack.ask(at, '/auth/session', over)).toMatchObject({ status: 401 });
      await until(async () => (await stateOf(over.id)).end_reason === reason, SOON);
    }
    expect(await stateOf(id)).toEqual(before);
    expect(stack.provider!.counts.refresh).toBe(spent);
    for (const at of [0, 1, 2]) expect(await asked(at, '/auth/session')).toBe(200);
    expect(await asked(0, '/auth/refresh?force=true', 'POST')).toBe(200);
    for (const { at } of sides) expect(await asked(at, '/api/x')).toBe(200);
  });

  test("begin sessions that end when PostgreSQL's clock says so", async () => {
    await stack.restartGateway(0, { env: { ...env, ...shiftedClock(-HOUR_SECONDS) } });
    const { id } = await stack.session();
    const left = await secondsLeft(id);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(ABSOLUTE_SECONDS + 10);
  });
});
