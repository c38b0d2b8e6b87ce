import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser } from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

describe('a parameter', () => {
  let stack: Stack;
  const nobody = new HttpBrowser();
  beforeAll(async () => {
    stack = await startStack({
      redis: false,
      env: {
        KEYCLOAK_SCOPE: 'openid organization',
        LOGIN_PARAMETERS: 'login_hint,scope,claims,kc_action,max_age',
      },
    });
  });
  afterAll(async () => {
    await nobody.close();
    await stack.dispose();
  });

  test('with a NUL in it is refused, before anybody is known too', async () => {
    const admin = await stack.login('admin');
    const issuer = encodeURIComponent(stack.provider!.issuer);
    const answers = [
      await nobody.get(`${stack.url}/auth/frontchannel-logout?iss=${issuer}&sid=%00`),
      await nobody.get(`${stack.url}/auth/frontchannel-logout?iss=${issuer}&sid=a%00b`),
      await nobody.navigate(`${stack.url}/auth/login?login_hint=%00`),
      await admin.get(`${stack.url}/admin/sessions?sub=%00`),
      await admin.get(`${stack.url}/admin/sessions?cursor=%00`),
      await admin.delete(`${stack.url}/admin/sessions?sub=a%00`),
      await admin.post(`${stack.url}/account/end`, new URLSearchParams({ id: '\0' })),
    ];
    expect(answers.map((answer) => [answer.status, problemCode(answer)])).toEqual(
      answers.map(() => [400, 'request_invalid']),
    );
    expect(
      problemCode(
        await nobody.request('POST', `${stack.url}/auth/backchannel-logout`, {
          body: new URLSearchParams({ logout_token: '\0' }),
        }),
      ),
    ).toBe('logout_token_invalid');
  });

  test('of a login reaches the provider where LOGIN_PARAMETERS names it, and never replaces one of the protocol', async () => {
    const asked = async (query: string): Promise<Record<string, string>> =>
      Object.fromEntries(
        (await nobody.navigate(`${stack.url}/auth/login?${query}`)).location!.searchParams,
      );
    const claims = '{"id_token":{"acr":{"essential":true,"values":["gold"]}}}';
    const sent = new URLSearchParams({
      claims,
      kc_action: 'UPDATE_PASSWORD',
      prompt: 'none',
      client_id: 'another',
      redirect_uri: 'https://elsewhere.example/',
      response_type: 'token',
      state: 'theirs',
      request_uri: 'https://elsewhere.example/',
    });
    const got = await asked(sent.toString());
    expect(got).toMatchObject({
      scope: 'openid organization',
      claims,
      kc_action: 'UPDATE_PASSWORD',
      client_id: stack.provider!.clientId,
      redirect_uri: `${stack.url}/auth/callback`,
      response_type: 'code',
    });
    expect([got['prompt'], got['request_uri'], got['state'] === 'theirs']).toEqual([
      undefined,
      undefined,
      false,
    ]);
    expect(await asked('scope=openid+offline_access')).toMatchObject({
      scope: 'openid offline_access',
    });
    for (const query of ['scope=profile', 'scope=', 'scope=openid&scope=email', 'max_age=soon'])
      expect((await nobody.navigate(`${stack.url}/auth/login?${query}`)).status).toBe(400);
  });

  test.each([
    ['/open/C++', '/open/C++'],
    ['/open/a+b%2Bc?q=1+1', '/open/a+b+c?q=1+1'],
    [encodeURIComponent('/open/C++?q=1+1%2B1'), '/open/C++?q=1+1%2B1'],
    ['/open/%C3%A4', '/open/%C3%A4'],
    [encodeURIComponent('/open/a%20b%252B'), '/open/a%20b%252B'],
  ])('return_to=%s stands for %s', async (sent, meant) => {
    const browser = new HttpBrowser();
    const callback = await browser.navigate(
      (await browser.navigate(`${stack.url}/auth/login?return_to=${sent}`)).location!,
    );
    expect((await browser.navigate(callback.location!)).headers['location']).toBe(meant);
    await browser.close();
  });
});
