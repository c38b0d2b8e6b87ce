import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import { describeWith, type HttpBrowser, until } from '@session-gateway/testkit';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  KEY_TEXT,
  problemCode,
  type SessionBody,
  type Stack,
  startStack,
  storedTokens,
} from './stack.js';

const LIFESPAN_SECONDS = 4;

describeWith(['redis', 'keycloak'], 'what happens at Keycloak to a session', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({
      gateways: 2,
      keycloak: { accessTokenLifespanSeconds: LIFESPAN_SECONDS },
    });
  });
  afterAll(() => stack.dispose());

  const session = async (browser: HttpBrowser) =>
    ((await browser.get(`${stack.url}/auth/session`)).json() as SessionBody).session;
  const expired = async (browser: HttpBrowser) => {
    const end = Date.parse((await session(browser)).token_expires_at);
    await until(() => Date.now() > end, { what: 'the end of the access token', timeoutMs: 30_000 });
  };
  const row = async (id: string) =>
    (
      await stack.sql<{ sid: string; end_reason: string | null }>(
        'SELECT keycloak_session_id AS sid, end_reason FROM user_sessions WHERE id = $1',
        [id],
      )
    )[0]!;
  const events = async (id: string) =>
    (
      await stack.sql<{ text: string }>(
        `SELECT concat_ws(' ', event, reason, actor) AS text FROM session_events WHERE session_id = $1 ORDER BY id`,
        [id],
      )
    ).map(({ text }) => text);
  const erased = { access_token: null, refresh_token: null, id_token: null };
  const certsAsked = async () => {
    const metrics = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
    return [...metrics.matchAll(/provider_seconds_count\{endpoint="certs"[^}]*\} (\d+)/g)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    );
  };
  const refusedAndOver = async (browser: HttpBrowser) => {
    const { id } = await session(browser);
    await expired(browser);
    const refused = await browser.get(`${stack.url}/api/x`);
    expect([refused.status, problemCode(refused)]).toEqual([401, 'reauthentication_required']);
    expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(401);
    expect(await storedTokens(stack, id)).toEqual(erased);
    expect((await row(id)).end_reason).toBe('grant_ended');
    return id;
  };

  test('whose person is disabled: it works until its next refresh, which ends it here, erased and in the audit trail', async () => {
    const browser = await stack.login('bob');
    await stack.keycloak!.setUserEnabled('bob', false);
    try {
      expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(200);
      const id = await refusedAndOver(browser);
      expect(await events(id)).toEqual(
        expect.arrayContaining([
          'login user',
          'session_ended grant_ended provider',
          'refresh_failed user_disabled provider',
        ]),
      );
    } finally {
      await stack.keycloak!.setUserEnabled('bob', true);
    }
  });

  test('that its administrator removes: the logout token ends it on every gateway', async () => {
    const browser = await stack.login('bob');
    const { id } = await session(browser);
    const cookie = `session=${browser.cookies.get('session')!.value}`;
    await stack.keycloak!.deleteSession((await row(id)).sid);
    for (const gateway of stack.gateways) {
      await until(
        async () =>
          (await browser.get(`${gateway.url}/auth/verify`, { headers: { cookie }, cookies: false }))
            .status === 401,
        { what: 'the end of the session' },
      );
    }
    expect(await storedTokens(stack, id)).toEqual(erased);
    expect((await row(id)).end_reason).toBe('backchannel_logout');
  });

  test('that is removed while no logout token reaches the gateway: the next refresh ends it', async () => {
    await stack.keycloak!.setClient({
      attributes: { 'backchannel.logout.url': 'http://127.0.0.1:9/nowhere' },
    });
    try {
      const browser = await stack.login('alice');
      await stack.keycloak!.deleteSession((await row((await session(browser)).id)).sid);
      await refusedAndOver(browser);
    } finally {
      await stack.keycloak!.setClient({
        attributes: { 'backchannel.logout.url': `${stack.url}/auth/backchannel-logout` },
      });
    }
  });

  test('whose refresh token somebody else has spent, too: Keycloak ends it, and the audit trail suspects reuse', async () => {
    const browser = await stack.login('alice');
    const { id } = await session(browser);
    const stored = await storedTokens(stack, id);
    const stolen = new TokenEncryption({ keyring: createKeyring({ keyText: KEY_TEXT }) }).open(
      stored.refresh_token!,
      { table: 'user_sessions', column: 'refresh_token', rowId: id },
    );
    expect((await browser.post(`${stack.url}/auth/refresh?force=true`)).status).toBe(200);
    const { issuer, clientId, clientSecret } = stack.keycloak!;
    const replayed = await fetch(`${issuer}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: stolen }),
      headers: {
        authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`,
      },
    });
    expect([replayed.status, ((await replayed.json()) as { error: string }).error]).toEqual([
      400,
      'invalid_grant',
    ]);
    await refusedAndOver(browser);
    expect(await events(id)).toContain('reuse_suspected client_session_gone provider');
  });

  test("from before the realm's key was rotated goes on, new tokens are accepted, and the keys are fetched once more", async () => {
    const browser = await stack.login('demo');
    await browser.get(`${stack.url}/api/x`);
    const kidOf = (token: string): string =>
      (JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string })
        .kid;
    const before = stack.upstream.requests.at(-1)!.bearer!;
    const asked = await certsAsked();
    const { id: parentId } = (await stack.keycloak!.admin('GET', '')) as { id: string };
    await stack.keycloak!.admin('POST', '/components', {
      name: 'rotated',
      providerId: 'rsa-generated',
      providerType: 'org.keycloak.keys.KeyProvider',
      parentId,
      config: {
        priority: ['1000'],
        enabled: ['true'],
        active: ['true'],
        algorithm: ['RS256'],
        keySize: ['2048'],
      },
    });

    const { id } = await session(browser);
    expect((await browser.post(`${stack.url}/auth/refresh?force=true`)).status).toBe(200);
    expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    const after = stack.upstream.requests.at(-1)!.bearer!;
    expect(kidOf(after)).not.toBe(kidOf(before));
    expect((await session(browser)).id).toBe(id);

    const another = await stack.login('alice');
    for (let i = 0; i < 5; i++)
      expect(
        (
          await another.get(`${stack.url}/api/x`, {
            headers: { authorization: `Bearer ${after}` },
            cookies: false,
          })
        ).status,
      ).toBe(200);
    expect(await certsAsked()).toBe(asked + 1);
    expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(200);
  });
});
