import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser, type HttpAnswer, type StubAnswer } from '@session-gateway/testkit';
import { problemCode, type SessionBody, type Stack, startStack } from './stack.js';

const CHALLENGE = {
  'www-authenticate':
    'Bearer realm="neurotracker", error="invalid_token", error_description="Lightweight access token not allowed for userinfo endpoint"',
};

describe('userinfo, with access tokens that tell nothing,', () => {
  let stack: Stack;
  let browser: HttpBrowser;
  beforeAll(async () => {
    stack = await startStack({
      redis: false,
      provider: { lightweight: true },
      env: { KEYCLOAK_USERINFO: 'true' },
    });
  });
  afterEach(() => browser.close());
  afterAll(() => stack.dispose());

  const login = async (username: string, userinfo?: StubAnswer): Promise<HttpAnswer> => {
    browser = new HttpBrowser();
    if (userinfo) stack.provider!.answerNext({ endpoint: 'userinfo', ...userinfo });
    return browser.loginAt(
      `${stack.url}/auth/login?return_to=/auth/session&login_hint=${username}`,
      username,
      username,
    );
  };

  test('tells the roles', async () => {
    expect(((await login('demo')).json() as SessionBody).user.roles).toEqual(['realm:user']);
  });

  test.each([
    { status: 401, headers: CHALLENGE },
    { status: 401 },
    { status: 403, headers: CHALLENGE },
  ])(
    'that refuses the token (%j) keeps nobody out, and the ID Token is asked instead',
    async (refusal) => {
      expect(((await login('demo', refusal)).json() as SessionBody).user).toMatchObject({
        preferred_username: 'demo',
        roles: [],
      });
      await stack.gateways[0]!.said('the userinfo endpoint refuses');
      await browser.close();
      stack.provider!.setUser('teller', { idTokenClaims: { realm_access: { roles: ['editor'] } } });
      expect(((await login('teller', refusal)).json() as SessionBody).user.roles).toEqual([
        'realm:editor',
      ]);
    },
  );

  test('about somebody else, or from a provider that fails, is no login', async () => {
    const another = await login('demo', { status: 200, body: { sub: 'another' } });
    expect([another.status, problemCode(another)]).toEqual([400, 'callback_rejected']);
    await browser.close();
    const failed = await login('demo', { status: 500 });
    expect([failed.status, problemCode(failed)]).toEqual([503, 'provider_unavailable']);
    expect(browser.cookies.get('session')).toBeUndefined();
  });
});
