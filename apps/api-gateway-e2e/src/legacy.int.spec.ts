import { readFile } from 'node:fs/promises';
import { createCipheriv, randomBytes, scryptSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import { HttpBrowser, until } from '@session-gateway/testkit';
import {
  KEY_TEXT,
  problemCode,
  type SessionBody,
  type Stack,
  startStack,
  storedTokens,
} from './stack.js';

const INIT = fileURLToPath(
  new URL('../../../libs/database/prisma/migrations/0_init/migration.sql', import.meta.url),
);

/** The format that was written before: AES-256-GCM under the scrypt key, without a place. */
function planSeal(token: string): string {
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-gcm', scryptSync(KEY_TEXT, 'session-tokens-salt', 32), iv);
  const body = Buffer.concat([cipher.update(token), cipher.final()]).toString('hex');
  return `${iv.toString('hex')}:${cipher.getAuthTag().toString('hex')}:${body}`;
}

/** A database of the time before, with one session whose cookie is its row id. */
async function oldStack(
  seal: (token: string) => string,
  env: Record<string, string> = {},
): Promise<Stack & { cookie: string; sub: string }> {
  const old = { cookie: 'cm4oldsession00000000000001', sub: '' };
  const stack = await startStack({ redis: false, start: false, env });
  const granted = await stack.provider!.grant('demo');
  await stack.sql(await readFile(INIT, 'utf8'));
  await stack.sql(
    `INSERT INTO users (id, keycloak_id, email, name) VALUES ('u1', $1, 'demo@example.com', 'Demo User')`,
    [granted.sub],
  );
  await stack.sql(
    `INSERT INTO user_sessions (id, user_id, keycloak_session_id, access_token, refresh_token, id_token, token_expires_at, refresh_expires_at, expires_at)
     VALUES ($1, 'u1', $2, $3, $4, $5, now() + interval '60 seconds', now() + interval '30 minutes', now() + interval '1 hour')`,
    [
      old.cookie,
      granted.sid,
      seal(granted.accessToken),
      seal(granted.refreshToken),
      seal(granted.idToken),
    ],
  );
  await stack.startGateway();
  return { ...stack, cookie: `session=${old.cookie}`, sub: granted.sub };
}

describe('a session from before', () => {
  test.each([
    ['in the older format', planSeal, {}],
    [
      'in the clear, while a migration is under way',
      (token: string) => token,
      { TOKEN_READ_POLICY: 'all' },
    ],
  ])(
    'with tokens %s keeps its cookie, works, and is sealed at the next refresh',
    async (_, seal, env) => {
      const stack = await oldStack(seal, env);
      const browser = new HttpBrowser();
      try {
        const get = (path: string) =>
          browser.get(stack.url + path, { headers: { cookie: stack.cookie }, cookies: false });
        expect((await get('/auth/session')).json()).toMatchObject({
          user: { sub: stack.sub, email: 'demo@example.com' },
        });
        expect((await get('/api/x')).status).toBe(200);
        expect(stack.upstream.requests.at(-1)!.claims).toMatchObject({ sub: stack.sub });
        const refreshed = await browser.post(`${stack.url}/auth/refresh?force=true`, undefined, {
          headers: { cookie: stack.cookie },
          cookies: false,
        });
        expect(refreshed.status).toBe(200);
        expect(
          Object.values(await storedTokens(stack, stack.cookie.slice('session='.length))),
        ).toEqual([
          expect.stringMatching(/^v2\./),
          expect.stringMatching(/^v2\./),
          expect.stringMatching(/^v2\./),
        ]);
        expect((await get('/api/x')).status).toBe(200);
        const metrics = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
        expect(metrics).toMatch(/session_gateway_token_reads_total\{class="(plan|plain)"\} [1-9]/);

        // Its row id is its cookie, so nobody gets to see that.
        const secret = stack.cookie.slice('session='.length);
        const { id } = ((await get('/auth/session')).json() as SessionBody).session;
        const listed = ((await get('/auth/sessions')).json() as { sessions: object[] }).sessions;
        expect(listed).toMatchObject([{ id, current: true }]);
        const verified = await get('/auth/verify');
        expect(verified.headers['x-auth-session']).toBe(id);
        const page = (await get('/account')).text;
        expect(page).toContain(id);
        const ended = await browser.delete(`${stack.url}/auth/sessions/${id}`, {
          headers: { cookie: stack.cookie },
          cookies: false,
        });
        expect(ended.status).toBe(204);
        const events = await stack.sql<{ session_id: string }>('SELECT * FROM session_events');
        expect(events).toContainEqual(
          expect.objectContaining({ session_id: id, reason: 'ended_by_user' }),
        );
        const told = [page, JSON.stringify([events, listed, verified.headers])];
        for (const text of [...told, stack.gateways[0]!.output()])
          expect(text).not.toContain(secret);
      } finally {
        await browser.close();
        await stack.dispose();
      }
    },
  );

  test.each([null, ''])(
    'without an access token (%j) gets one by its refresh token',
    async (none) => {
      const stack = await oldStack(planSeal);
      const browser = new HttpBrowser();
      try {
        await stack.sql('UPDATE user_sessions SET access_token = $1', [none]);
        const served = await browser.get(`${stack.url}/api/x`, {
          headers: { cookie: stack.cookie },
          cookies: false,
        });
        expect([served.status, stack.upstream.requests.at(-1)?.claims]).toEqual([
          200,
          expect.objectContaining({ sub: stack.sub }),
        ]);
      } finally {
        await browser.close();
        await stack.dispose();
      }
    },
  );

  test('with tokens in the clear is not served by default, and not ended either', async () => {
    const stack = await oldStack((token) => token);
    const browser = new HttpBrowser();
    try {
      const refused = await browser.get(`${stack.url}/api/x`, {
        headers: { cookie: stack.cookie },
        cookies: false,
      });
      expect([refused.status, problemCode(refused)]).toEqual([500, 'token_unreadable']);
      expect(stack.upstream.count()).toBe(0);
      await until(
        async () =>
          (
            await browser.get(`${stack.url}/auth/session`, {
              headers: { cookie: stack.cookie },
              cookies: false,
            })
          ).status === 200,
        { what: 'the session' },
      );
    } finally {
      await browser.close();
      await stack.dispose();
    }
  });
});
