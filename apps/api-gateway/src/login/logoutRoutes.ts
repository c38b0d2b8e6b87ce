import {
  backchannelLogout,
  type EndedSession,
  endSessions,
  isAuthError,
  type LogoutRequest,
  type RefusalReason,
} from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, html, json } from '../pages/answers.js';
import { preferredType } from '../request/accept.js';
import { headersOf, single } from '../request/form.js';
import { sessionCookie } from '../sessions/authenticate.js';
import { clearSiteData } from '../pages/browserHeaders.js';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { logoutTokenOf, validLogout } from './vouching.js';
import { lookFor } from '../pages/look.js';
import { onwardPage } from '../pages/page.js';
import { LOGGED_OUT_PATH } from '../settings/postLogoutUrl.js';
import { remoteAddress } from '../request/remoteAddress.js';
import { comesFromElsewhere } from '../request/sameOrigin.js';

/** How long a browser has for its way over the provider before the server ends the session there. */
export const BROWSER_FIRST_MS = 15_000;
/** Keycloak takes 5 s for each application that hangs: nobody is to wait for that. */
export const WAIT_FOR_PROVIDER_MS = 2_000;

/** Logout: by the person (RP-initiated), by the provider (back-channel, front-channel). */
export function logoutRoutes(gateway: Gateway): AnyElysia {
  const { config, client, cookies, store } = gateway;
  const noteRefused = refusals(gateway);
  const postLogoutRedirectUri = new URL(LOGGED_OUT_PATH, config.publicUrl).href;

  return new Elysia()
    .post('/auth/logout', async ({ request }) => {
      const cookie = sessionCookie(gateway, 'POST', headersOf(request));
      const found = cookie === null ? null : await store.find(cookie);
      // The session is over here before the provider is so much as mentioned.
      const [ended] = found
        ? await endSessions(gateway, { id: found.session.id }, 'logout', {
            ipAddress: remoteAddress(request),
            heldMs: BROWSER_FIRST_MS,
          })
        : [];
      const logoutUrl = await leadToProvider(gateway, postLogoutRedirectUri, ended);
      // Another site's form brings no cookie, and must not take away what it could not bring.
      const clear: [string, string][] =
        cookie === null && comesFromElsewhere(headersOf(request), config.publicUrl.origin)
          ? []
          : [['Set-Cookie', cookies.clearSession()], ...clearSiteData(config)];
      const accept = request.headers.get('accept');
      if (preferredType(accept, ['text/html', 'application/json']) === 'application/json')
        return json({ logout_url: logoutUrl }, Object.fromEntries(clear));
      return new URL(request.url).searchParams.get('page') === 'true'
        ? html(gateway, onwardPage(logoutUrl, lookFor(gateway, headersOf(request))), clear)
        : empty(303, [['Location', logoutUrl], ...clear]);
    })
    .post(
      '/auth/backchannel-logout',
      async ({ request }) => {
        const token = await logoutTokenOf(request);
        if (token === null) throw new Problem('logout_token_invalid');
        const { issuer } = client;
        let logout: LogoutRequest | undefined;
        try {
          logout = await validLogout(gateway, token);
          await backchannelLogout({ ...gateway, issuer }, logout, config.backchannelLogoutScope);
        } catch (error) {
          if (isAuthError(error, 'logout_token_invalid'))
            await noteRefused(error.reason ?? 'invalid', remoteAddress(request), logout);
          throw error;
        }
        return empty(200);
      },
      { parse: 'none' },
    )
    .get('/auth/frontchannel-logout', async ({ request }) => {
      const query = new URL(request.url).searchParams;
      const [issuer, sid] = [single(query, 'iss'), single(query, 'sid')];
      if (issuer !== client.issuer || !sid) throw new Problem('request_invalid');
      await endSessions(gateway, { sid }, 'frontchannel_logout', {
        ipAddress: remoteAddress(request),
      });
      return empty(200, [
        [
          'Content-Security-Policy',
          `default-src 'none'; frame-ancestors ${new URL(client.issuer).origin}`,
        ],
      ]);
    });
}

/**
 * Ends the provider's session and resolves with where the browser goes on. With LOGOUT_ORDER=browser it goes there
 * first, since Keycloak shows the frames of front-channel clients only while its session lives: the server follows when
 * the browser is back, by `state`, or after a while. That takes a hint; without one Keycloak would ask the person.
 */
async function leadToProvider(
  { client, config, providerLogouts }: Gateway,
  postLogoutRedirectUri: string,
  ended: EndedSession | undefined,
): Promise<string> {
  const { idToken: idTokenHint = null, owedId = null } = ended ?? {};
  const url = client.endSessionUrl(postLogoutRedirectUri, {
    idTokenHint,
    ...(config.logoutOrder === 'browser' && owedId !== null ? { state: owedId } : {}),
  });
  if (config.logoutOrder === 'browser' && url.searchParams.has('id_token_hint')) return url.href;
  if (owedId !== null) await providerLogouts.sendNow(owedId, WAIT_FOR_PROVIDER_MS);
  return url.href;
}

/** Anybody can send a token that nobody signed; the log has those, the table does not. */
const NOT_FROM_THE_PROVIDER: ReadonlySet<string> = new Set<RefusalReason>([
  'algorithm',
  'critical_header',
  'key_unknown',
  'kid_missing',
  'malformed',
  'signature',
]);
const REFUSAL_PAUSE_MS = 60_000;

/**
 * Notes refused logout tokens. A row for each reason in a minute is enough to look into: a
 * flood must not fill the table.
 */
function refusals({
  events,
}: Gateway): (
  reason: string,
  ipAddress: string | null,
  logout: LogoutRequest | undefined,
) => Promise<void> {
  const noted = new Map<string, number>();
  return async (reason, ipAddress, logout) => {
    const event = {
      event: 'logout_token_refused',
      reason,
      actor: 'provider',
      subject: logout?.subject ?? null,
      sid: logout?.sid ?? null,
      ipAddress,
    } as const;
    if (NOT_FROM_THE_PROVIDER.has(reason)) return void events.tell({ ...event, actor: 'unknown' });
    if (performance.now() < (noted.get(reason) ?? 0)) return void events.tell(event);
    noted.set(reason, performance.now() + REFUSAL_PAUSE_MS);
    await events.note(event);
  };
}
