import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { describeWith, HttpBrowser } from '@session-gateway/testkit';
import { type SessionBody, type Stack, startStack } from './stack.js';

describeWith(['keycloak'], 'what a realm offers beside a plain login', () => {
  let stack: Stack;
  let browser: HttpBrowser;
  beforeAll(async () => {
    stack = await startStack({
      redis: false,
      keycloak: { accessTokenLifespanSeconds: 60 },
      env: { LOGIN_PARAMETERS: 'scope,claims,kc_action' },
    });
    const { admin, setRealm, userId } = stack.keycloak!;
    await setRealm({
      organizationsEnabled: true,
      attributes: { 'acr.loa.map': JSON.stringify({ silver: 1 }) },
    });
    await admin('POST', '/organizations', {
      name: 'acme',
      alias: 'acme',
      domains: [{ name: 'acme.example' }],
    });
    const [acme] = (await admin('GET', '/organizations')) as { id: string }[];
    await admin('POST', `/organizations/${acme!.id}/members`, await userId('bob'));
    const role = await admin('GET', '/roles/offline_access').catch(async () => {
      await admin('POST', '/roles', { name: 'offline_access' });
      return admin('GET', '/roles/offline_access');
    });
    await admin('POST', `/users/${await userId('bob')}/role-mappings/realm`, [role]);
    const scopes = (await admin('GET', '/client-scopes')) as { id: string; name: string }[];
    const [client] = (await admin('GET', '/clients?clientId=api-gateway')) as { id: string }[];
    for (const { id } of scopes.filter(({ name }) => /^(organization|offline_access)$/.test(name)))
      await admin('PUT', `/clients/${client!.id}/optional-client-scopes/${id}`);
  });
  beforeEach(() => {
    browser = new HttpBrowser();
  });
  afterEach(() => browser.close());
  afterAll(() => stack.dispose());

  const login = (query: string) =>
    browser.loginAt(`${stack.url}/auth/login?return_to=/api/x&${query}`, 'bob', 'bob');
  const session = async () =>
    ((await browser.get(`${stack.url}/auth/session`)).json() as SessionBody).session;

  test('an action that a person calls off leads back with its status', async () => {
    await login('');
    const page = await browser.follow(
      await browser.navigate(`${stack.url}/auth/login?return_to=/api/x&kc_action=UPDATE_PASSWORD`),
    );
    expect(page.text).toContain('name="password-new"');
    const [, action = ''] = /action="([^"]+)"/.exec(page.text) ?? [];
    const back = await browser.follow(
      await browser.navigate(action.replaceAll('&amp;', '&'), {
        method: 'POST',
        body: new URLSearchParams({ 'cancel-aia': 'true' }),
        from: page.url,
      }),
    );
    expect(back.url.href).toBe(`${stack.url}/api/x?kc_action_status=cancelled`);
    expect(back.status).toBe(200);
  });

  test("a person's organization is in the token that goes up, where its scope is asked for", async () => {
    await login('scope=openid');
    expect(stack.upstream.requests.at(-1)?.claims?.['organization']).toBeUndefined();
    await login('scope=openid+organization');
    expect(stack.upstream.requests.at(-1)?.claims).toMatchObject({ organization: ['acme'] });
  });

  test('offline access is a session without an end of its own at Keycloak, which is renewed', async () => {
    await login('scope=openid+offline_access');
    const { status } = await browser.post(`${stack.url}/auth/refresh?force=true`);
    expect(status).toBe(200);
    // No SSO session is left: the next login asks for the password again.
    const page = await browser.follow(await browser.navigate(`${stack.url}/auth/login`));
    expect([page.url.origin, page.status]).toEqual([new URL(stack.keycloak!.issuer).origin, 200]);
  });

  test('the level of a login is told by the name that the realm maps to it', async () => {
    await login('');
    expect(await session()).toMatchObject({ acr: 'silver' });
  });

  test('claims reach Keycloak, which refuses on a page of its own a level that it does not know', async () => {
    const essential = (level: string) =>
      encodeURIComponent(
        JSON.stringify({ id_token: { acr: { essential: true, values: [level] } } }),
      );
    await login(`claims=${essential('silver')}`);
    expect(await session()).toMatchObject({ acr: 'silver' });
    await expect(login(`claims=${essential('gold')}&scope=openid`)).rejects.toThrow(
      'Invalid parameter: claims',
    );
  });

  test('a client that has to send request objects (JAR) cannot log people in, and one whose responses may be signed (JARM) can', async () => {
    await stack.keycloak!.setClient({
      attributes: { 'authorization.signed.response.alg': 'PS256' },
    });
    expect((await login('')).status).toBe(200);
    await stack.keycloak!.setClient({
      attributes: { 'request.object.required': 'request or request_uri' },
    });
    await expect(login('scope=openid')).rejects.toThrow('Invalid Request');
  });
});
