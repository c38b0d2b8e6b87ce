import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import { describeWith, type HttpBrowser, until } from '@session-gateway/testkit';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { KEY_TEXT, type SessionBody, type Stack, startStack, storedTokens } from './stack.js';

const sealer = new TokenEncryption({ keyring: createKeyring({ keyText: KEY_TEXT }) });
const refreshTokenAt = (rowId: string) => ({
  table: 'user_sessions',
  column: 'refresh_token',
  rowId,
});

interface Claims {
  sid: string;
  sub: string;
}

/** Another application of the realm: it is told of logouts by the back channel. */
async function startApplication(): Promise<{ url: string; told: Claims[]; server: Server }> {
  const told: Claims[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += String(chunk)));
    request.on('end', () => {
      const token = new URLSearchParams(body).get('logout_token') ?? '';
      const claims = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString();
      if (claims !== '') told.push(JSON.parse(claims) as Claims);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, told, server };
}

describeWith(['keycloak'], "the provider's session of a session that is ended here", () => {
  let stack: Stack;
  let application: Awaited<ReturnType<typeof startApplication>>;
  beforeAll(async () => {
    [stack, application] = await Promise.all([
      startStack({ redis: false, keycloak: { accessTokenLifespanSeconds: 60 } }),
      startApplication(),
    ]);
    await stack.keycloak!.admin('POST', '/clients', {
      clientId: 'other',
      secret: 'other',
      redirectUris: [`${application.url}/*`],
      attributes: {
        'backchannel.logout.url': `${application.url}/logout`,
        'backchannel.logout.session.required': 'true',
      },
    });
    await stack.keycloak!.admin('POST', '/clients', {
      clientId: 'framed',
      secret: 'framed',
      redirectUris: [`${application.url}/*`],
      frontchannelLogout: true,
      attributes: { 'frontchannel.logout.url': `${application.url}/framed` },
    });
  });
  afterAll(async () => {
    application.server.close();
    await stack.dispose();
  });

  const sidOf = async (browser: HttpBrowser): Promise<{ id: string; sid: string }> => {
    const { id } = ((await browser.get(`${stack.url}/auth/session`)).json() as SessionBody).session;
    const [row] = await stack.sql<{ sid: string }>(
      'SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1',
      [id],
    );
    return { id, sid: row!.sid };
  };
  const sidsAtKeycloak = async (username: string) =>
    (await stack.keycloak!.sessionsOf(username)).map(({ id }) => id);
  const nothingOwed = () =>
    until(async () => (await stack.sql('SELECT 1 FROM provider_logouts')).length === 0, {
      what: 'nothing being owed to Keycloak',
      timeoutMs: 60_000,
    });
  const events = async (id: string) =>
    (
      await stack.sql<{ text: string }>(
        `SELECT concat_ws(' ', event, reason, actor) AS text FROM session_events WHERE session_id = $1 ORDER BY id`,
        [id],
      )
    ).map(({ text }) => text);
  /** Opens another application, in the provider's session that the browser has. */
  const openApplication = async (browser: HttpBrowser, clientId = 'other') => {
    const url = new URL(`${stack.keycloak!.issuer}/protocol/openid-connect/auth`);
    url.search = new URLSearchParams({
      client_id: clientId,
      response_type: 'code',
      scope: 'openid',
      redirect_uri: `${application.url}/callback`,
    }).toString();
    const back = await browser.navigate(url);
    expect(back.location!.searchParams.get('code')).not.toBeNull();
  };
  /** What the gateway would hold of a login with the scope `offline_access`. */
  const offlineToken = async (browser: HttpBrowser): Promise<string> => {
    const { issuer, clientId, clientSecret } = stack.keycloak!;
    const verifier = 'v'.repeat(43);
    const redirectUri = `${stack.url}/auth/callback`;
    const url = new URL(`${issuer}/protocol/openid-connect/auth`);
    url.search = new URLSearchParams({
      client_id: clientId,
      response_type: 'code',
      scope: 'openid offline_access',
      redirect_uri: redirectUri,
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
    }).toString();
    const back = await browser.navigate(url);
    const answer = await fetch(`${issuer}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'authorization_code',
        code: back.location!.searchParams.get('code') ?? '',
        redirect_uri: redirectUri,
        code_verifier: verifier,
        client_id: clientId,
        client_secret: clientSecret,
      }),
    });
    return ((await answer.json()) as { refresh_token: string }).refresh_token;
  };
  const isAskedForPassword = async (browser: HttpBrowser) => {
    const page = await browser.follow(await browser.navigate(`${stack.url}/auth/login`));
    return page.url.pathname.includes('/realms/') && page.text.includes('type="password"');
  };

  test('ends by the browser first where LOGOUT_ORDER says so, so that Keycloak shows the frames of others; the server follows', async () => {
    await stack.restartGateway(0, { env: { LOGOUT_ORDER: 'browser' } });
    const logout = async () => {
      const browser = await stack.login('bob');
      const { id, sid } = await sidOf(browser);
      await openApplication(browser, 'framed');
      const answer = await browser.post(`${stack.url}/auth/logout`);
      const url = new URL((answer.json() as { logout_url: string }).logout_url);
      // Over here, and not yet there.
      expect((await browser.get(`${stack.url}/auth/session`)).status).toBe(401);
      expect(await sidsAtKeycloak('bob')).toContain(sid);
      const [owed] = await stack.sql<{ id: string; attempts: number; held: boolean }>(
        `SELECT id, attempts, next_attempt_at > now() AS held FROM provider_logouts WHERE session_id = $1`,
        [id],
      );
      expect(owed).toMatchObject({ id: url.searchParams.get('state'), attempts: 0, held: true });
      return { browser, id, sid, url, owedId: owed!.id };
    };
    try {
      const back = await logout();
      // Whoever follows is the browser that comes back, not the clock.
      await stack.sql(`UPDATE provider_logouts SET next_attempt_at = now() + interval '1 hour'`);
      const page = await back.browser.navigate(back.url);
      expect(page.text).toContain(`${application.url}/framed`);
      const address = `${stack.url}/auth/logged-out?state=${back.owedId}`;
      expect(page.text).toContain(address);
      expect((await back.browser.navigate(address)).status).toBe(200);
      await nothingOwed();
      expect(await sidsAtKeycloak('bob')).not.toContain(back.sid);
      expect((await events(back.id)).at(-1)).toMatch(
        /^provider_logout (ended|already_over) gateway$/,
      );

      const lost = await logout();
      // It never arrives: the quarter of a minute passes.
      await stack.sql('UPDATE provider_logouts SET next_attempt_at = now()');
      await nothingOwed();
      expect(await sidsAtKeycloak('bob')).not.toContain(lost.sid);
      expect((await events(lost.id)).at(-1)).toBe('provider_logout ended gateway');
    } finally {
      await stack.restartGateway(0);
    }
  });

  test('is over for all applications when the person or an administrator ends it: the device is asked for a password', async () => {
    const [laptop, phone] = [await stack.login('alice'), await stack.login('alice')];
    const [ofLaptop, ofPhone] = [await sidOf(laptop), await sidOf(phone)];
    await openApplication(phone);
    expect((await laptop.delete(`${stack.url}/auth/sessions`)).status).toBe(204);
    await nothingOwed();
    expect(await sidsAtKeycloak('alice')).toEqual([ofLaptop.sid]);
    expect(application.told.at(-1)).toMatchObject({ sid: ofPhone.sid });
    expect(await isAskedForPassword(phone)).toBe(true);
    expect(await events(ofPhone.id)).toEqual([
      'login user',
      'session_ended ended_by_user user',
      'provider_logout ended gateway',
    ]);

    const admin = await stack.login('admin');
    await openApplication(laptop);
    const { sub } = application.told.at(-1)!;
    expect((await admin.delete(`${stack.url}/admin/sessions?sub=${sub}`)).status).toBe(204);
    await nothingOwed();
    expect(await sidsAtKeycloak('alice')).toEqual([]);
    expect(application.told.at(-1)).toMatchObject({ sid: ofLaptop.sid });
    expect(await isAskedForPassword(laptop)).toBe(true);
  });

  test('is over although the browser never goes there, and one whose hint would be too long is not asked when it does', async () => {
    const [client] = (await stack.keycloak!.admin('GET', '/clients?clientId=api-gateway')) as {
      id: string;
    }[];
    await stack.keycloak!.admin('POST', `/clients/${client!.id}/protocol-mappers/models`, {
      name: 'many groups',
      protocol: 'openid-connect',
      protocolMapper: 'oidc-hardcoded-claim-mapper',
      config: {
        'claim.name': 'groups',
        'claim.value': 'a group of this person,'.repeat(100),
        'id.token.claim': 'true',
        'jsonType.label': 'String',
      },
    });
    const browser = await stack.login('bob');
    const answer = await browser.post(`${stack.url}/auth/logout`);
    const url = new URL((answer.json() as { logout_url: string }).logout_url);
    await nothingOwed();
    expect(await sidsAtKeycloak('bob')).toEqual([]);
    expect([...url.searchParams.keys()]).toEqual(['client_id', 'post_logout_redirect_uri']);
    expect((await browser.navigate(url)).location?.origin).toBe(stack.url);
  });

  test("is over too where the browser has another person's session there, which Keycloak asks about", async () => {
    const [browser, other] = [await stack.login('alice'), await stack.login('bob')];
    const [own, theirs] = [await sidOf(browser), await sidOf(other)];
    for (const cookie of other.cookies.list())
      if (cookie.path.startsWith('/realms/')) browser.cookies.set(cookie);
    const answer = await browser.post(`${stack.url}/auth/logout`);
    const url = new URL((answer.json() as { logout_url: string }).logout_url);
    await nothingOwed();
    expect(await sidsAtKeycloak('alice')).not.toContain(own.sid);
    const page = await browser.navigate(url);
    expect([page.status, page.location, /<form[^>]*logout-confirm/.test(page.text)]).toEqual([
      200,
      null,
      true,
    ]);
    expect(await sidsAtKeycloak('bob')).toEqual([theirs.sid]);
    await other.post(`${stack.url}/auth/logout`);
    await nothingOwed();
  });

  test('is over too where it is an offline session', async () => {
    const { keycloak } = stack;
    const role = await keycloak!.admin('GET', '/roles/offline_access').catch(async () => {
      await keycloak!.admin('POST', '/roles', { name: 'offline_access' });
      return keycloak!.admin('GET', '/roles/offline_access');
    });
    const user = await keycloak!.userId('bob');
    await keycloak!.admin('POST', `/users/${user}/role-mappings/realm`, [role]);
    const scopes = (await keycloak!.admin('GET', '/client-scopes')) as {
      id: string;
      name: string;
    }[];
    const [client] = (await keycloak!.admin('GET', '/clients?clientId=api-gateway')) as {
      id: string;
    }[];
    const scope = scopes.find(({ name }) => name === 'offline_access')!;
    await keycloak!.admin('PUT', `/clients/${client!.id}/optional-client-scopes/${scope.id}`);
    const offline = async () =>
      (await keycloak!.admin('GET', `/users/${user}/offline-sessions/${client!.id}`)) as object[];
    const browser = await stack.login('bob');
    const { id } = await sidOf(browser);
    const sealed = sealer.seal(await offlineToken(browser), refreshTokenAt(id));
    await stack.sql('UPDATE user_sessions SET refresh_token = $2 WHERE id = $1', [id, sealed]);
    expect(await offline()).toHaveLength(1);
    await browser.post(`${stack.url}/auth/logout`);
    await nothingOwed();
    expect(await offline()).toEqual([]);
  });

  test('ends after an outage of Keycloak and a restart of the gateway, and nothing readable waits for it', async () => {
    const browser = await stack.login('bob');
    const { id, sid } = await sidOf(browser);
    const stored = await storedTokens(stack, id);
    const refreshToken = sealer.open(stored.refresh_token!, refreshTokenAt(id));
    await stack.keycloak!.stop();
    const answer = await browser.post(`${stack.url}/auth/logout`);
    expect([answer.status, answer.setCookies.join()]).toEqual([
      200,
      expect.stringMatching(/^session=;.*Max-Age=0/),
    ]);
    expect(await storedTokens(stack, id)).toEqual({
      access_token: null,
      refresh_token: null,
      id_token: null,
    });
    const owed = await stack.sql<{ refresh_token: string }>(
      'SELECT refresh_token FROM provider_logouts',
    );
    expect(owed).toEqual([{ refresh_token: expect.stringMatching(/^v2\./) }]);
    const dump = await stack.postgres.dump(stack.databaseUrl);
    for (const secret of [refreshToken, refreshToken.split('.')[2]!])
      expect(dump).not.toContain(secret);
    const metrics = async () => (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
    await until(async () => /provider_logouts_pending 1\b/.test(await metrics()), {
      what: 'the gauge',
    });

    await stack.restartGateway(0);
    await stack.keycloak!.start();
    expect(await sidsAtKeycloak('bob')).toContain(sid);
    await nothingOwed();
    expect(await sidsAtKeycloak('bob')).not.toContain(sid);
    expect(await events(id)).toEqual([
      'login user',
      'session_ended logout user',
      'provider_logout postponed gateway',
      'provider_logout ended gateway',
    ]);
    expect(await metrics()).toMatch(/provider_logouts_total\{outcome="ended"\} 1\b/);
  });
});
