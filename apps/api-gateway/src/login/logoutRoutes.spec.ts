import { describe, expect, test } from '@jest/globals';
import type { Gateway } from '../gateway.js';
import { GatewayCookies } from '../request/sessionCookie.js';
import { readBrand } from '../settings/brand.js';
import { endPages } from './endPages.js';
import { logoutRoutes } from './logoutRoutes.js';

const ORIGIN = 'https://app.example';
const OWED = 'what-is-owed';

/**
 * A gateway with one session, whose end leaves `OWED` to the provider; `sent` is what the provider was told, and when.
 */
function gatewayWith(logoutOrder: 'server' | 'browser', idToken: string | null) {
  const sent: string[] = [];
  const publicUrl = new URL(ORIGIN);
  const gateway = {
    config: {
      publicUrl,
      logoutOrder,
      postLogoutUrl: null,
      logoutClearSiteData: [],
      brand: readBrand({}, publicUrl, []),
    },
    cookies: new GatewayCookies({ https: true, sameSite: 'lax' }),
    client: {
      endSessionUrl(uri: string, hints: { idTokenHint: string | null; state?: string }) {
        const url = new URL('https://idp.example/logout');
        url.searchParams.set('post_logout_redirect_uri', uri);
        if (hints.idTokenHint !== null) url.searchParams.set('id_token_hint', hints.idTokenHint);
        if (hints.state !== undefined) url.searchParams.set('state', hints.state);
        return url;
      },
    },
    store: {
      find: async () => ({ state: 'live', session: { id: 's' } }),
      forget: async () => undefined,
    },
    vault: { end: async () => [{ id: 's', cookieHash: null, idToken, owedId: OWED }] },
    events: { tellEnded: () => undefined },
    providerLogouts: {
      kick: () => undefined,
      sendNow: async (id: string, waitMs: number) =>
        void sent.push(`${id}, waited for: ${waitMs > 0}`),
    },
  } satisfies Partial<Record<keyof Gateway, unknown>> as unknown as Gateway;
  const logout = async (): Promise<URLSearchParams> => {
    const answer = await logoutRoutes(gateway).handle(
      new Request(`${ORIGIN}/auth/logout`, {
        method: 'POST',
        headers: { cookie: '__Host-session=abc', origin: ORIGIN, accept: 'application/json' },
      }),
    );
    expect(answer.status).toBe(200);
    const { logout_url: url } = (await answer.json()) as { logout_url: string };
    return new URL(url).searchParams;
  };
  const comeBack = (search: string): Promise<Response> =>
    endPages(gateway).handle(new Request(`${ORIGIN}/auth/logged-out${search}`));
  return { sent, logout, comeBack };
}

describe("the order in which a logout ends the provider's session", () => {
  test('is the server first, and the answer waits for it', async () => {
    const { sent, logout, comeBack } = gatewayWith('server', 'hint');
    const parameters = await logout();
    expect([parameters.get('state'), sent]).toEqual([null, [`${OWED}, waited for: true`]]);
    // Anybody can write a state into an address.
    expect((await comeBack(`?state=${OWED}`)).status).toBe(200);
    expect(sent).toHaveLength(1);
  });

  test('is the browser first with LOGOUT_ORDER=browser; the server follows when it is back', async () => {
    const { sent, logout, comeBack } = gatewayWith('browser', 'hint');
    const parameters = await logout();
    expect([parameters.get('id_token_hint'), parameters.get('state'), sent]).toEqual([
      'hint',
      OWED,
      [],
    ]);
    expect((await comeBack('')).status).toBe(200);
    expect(sent).toEqual([]);
    expect((await comeBack(`?state=${OWED}`)).status).toBe(200);
    expect(sent).toEqual([`${OWED}, waited for: false`]);
  });

  test('is the server first all the same where there is no hint: Keycloak would ask the person', async () => {
    const { sent, logout } = gatewayWith('browser', null);
    await logout();
    expect(sent).toEqual([`${OWED}, waited for: true`]);
  });
});
