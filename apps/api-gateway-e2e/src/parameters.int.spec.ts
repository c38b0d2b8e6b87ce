import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser } from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

describe('a parameter', () => {
  let stack: Stack;
  const nobody = new HttpBrowser();
  beforeAll(async () => {
    stack = await startStack({ redis: false });
  });
  afterAll(async () => {
    await nobody.close();
    await stack.dispose();
  });

  test('with a NUL in it is refused, before anybody is known too', async () => {
    const admin = await stack.login('admin');
    const issuer = encodeURIComponent(stack.provider!.issuer);
    const answers = [
      await nobody.get(`${stack.url}/auth/frontchannel-logout?iss=${issuer}&sid=%00`), await nobody.get(`${stack.url}/auth/frontchannel-logout?iss=${issuer}&sid=a%00b`),
      await nobody.navigate(`${stack.url}/auth/login?login_hint=%00`),
      await admin.get(`${stack.url}/admin/sessions?sub=%00`), await admin.get(`${stack.url}/admin/sessions?cursor=%00`), await admin.delete(`${stack.url}/admin/sessions?sub=a%00`),
      await admin.post(`${stack.url}/account/end`, new URLSearchParams({ id: '\0' })),
    ];
    expect(answers.map((answer) => [answer.status, problemCode(answer)])).toEqual(answers.map(() => [400, 'request_invalid']));
    expect(problemCode(await nobody.request('POST', `${stack.url}/auth/backchannel-logout`, { body: new URLSearchParams({ logout_token: '\0' }) }))).toBe('logout_token_invalid');
  });

  test.each([
    ['/open/C++', '/open/C++'], ['/open/a+b%2Bc?q=1+1', '/open/a+b+c?q=1+1'], [encodeURIComponent('/open/C++?q=1+1%2B1'), '/open/C++?q=1+1%2B1'],
    ['/open/%C3%A4', '/open/%C3%A4'], [encodeURIComponent('/open/a%20b%252B'), '/open/a%20b%252B'],
  ])('return_to=%s stands for %s', async (sent, meant) => {
    const browser = new HttpBrowser();
    const callback = await browser.navigate((await browser.navigate(`${stack.url}/auth/login?return_to=${sent}`)).location!);
    expect((await browser.navigate(callback.location!)).headers['location']).toBe(meant);
    await browser.close();
  });
});
