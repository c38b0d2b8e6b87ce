import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freePort, type KeycloakServer, startKeycloak } from '@session-gateway/keycloak-server';
import { openBrowser } from './chromium.js';
import { HttpBrowser } from './http.js';
import { startServer, type TestServer } from './httpServer.js';
import { describeWith, whyMissing } from './needs.js';

describeWith(['keycloak'], 'logging in through Keycloak', () => {
  let keycloak: KeycloakServer;
  let gateway: TestServer;

  /** As much of a gateway as a login needs: it sends to Keycloak and, at the callback, sets a cookie and sends on. */
  beforeAll(async () => {
    const port = await freePort();
    const gatewayUrl = `http://127.0.0.1:${port}`;
    gateway = await startServer((request, response) => {
      const url = new URL(request.url ?? '/', gatewayUrl);
      if (url.pathname === '/auth/login') {
        const query = new URLSearchParams({
          client_id: 'api-gateway',
          response_type: 'code',
          scope: 'openid',
          redirect_uri: `${gatewayUrl}/auth/callback`,
          state: url.searchParams.get('return_to') ?? '',
          code_challenge_method: 'S256',
          code_challenge: createHash('sha256')
            .update(randomBytes(32).toString('base64url'))
            .digest('base64url'),
        });
        response
          .writeHead(302, { location: `${keycloak.issuer}/protocol/openid-connect/auth?${query}` })
          .end();
      } else if (url.pathname === '/auth/callback') {
        response
          .writeHead(302, {
            location: url.searchParams.get('state') ?? '',
            'set-cookie': [
              'session=s; Path=/; HttpOnly; SameSite=Lax',
              'login=; Path=/; Max-Age=0',
            ],
          })
          .end();
      } else {
        response
          .writeHead(200, { 'content-type': 'text/html' })
          .end(JSON.stringify({ url: request.url, headers: request.headers }));
      }
    }, port);
    keycloak = await startKeycloak({ gatewayUrl });
  });
  afterAll(async () => {
    await keycloak?.dispose();
    await gateway?.stop();
  });

  test('submits the real form and arrives where it was to return to', async () => {
    const browser = new HttpBrowser();
    const page = await browser.loginThroughKeycloak(gateway.url, 'demo', 'demo', {
      returnTo: '/here?a=b',
    });
    expect(page.status).toBe(200);
    const seen = page.json() as { url: string; headers: Record<string, string> };
    expect(seen.url).toBe('/here?a=b');
    expect(seen.headers).toMatchObject({
      cookie: expect.stringContaining('session=s'),
      'sec-fetch-site': 'same-site',
      'sec-fetch-mode': 'navigate',
    });
    expect(browser.cookies.get('session')).toMatchObject({ httpOnly: true });

    const again = await browser.loginThroughKeycloak(gateway.url, 'nobody', 'asked');
    expect([again.status, again.url.pathname]).toEqual([200, '/']);
    await browser.close();
  });

  test('tells when Keycloak refuses the password', async () => {
    const browser = new HttpBrowser();
    await expect(browser.loginThroughKeycloak(gateway.url, 'demo', 'wrong')).rejects.toThrow(
      'the provider refused demo: 200',
    );
    await browser.close();
  });

  (whyMissing(['chromium']).length > 0 ? test.skip : test)(
    'works the same in Chromium',
    async () => {
      const browser = await openBrowser();
      try {
        const page = await browser.newPage();
        await page.goto(`${gateway.url}/auth/login?return_to=/there`);
        await page.fill('input[name=username]', 'alice');
        await page.fill('input[name=password]', 'alice');
        await page.click('[type=submit]');
        await page.waitForURL(`${gateway.url}/there`);
        expect((await page.context().cookies(gateway.url)).map(({ name }) => name)).toContain(
          'session',
        );
      } finally {
        await browser.close();
      }
    },
  );
});
