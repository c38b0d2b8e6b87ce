import { backchannelLogout, endSessions, isAuthError, type LogoutRequest, revokeAtProvider, validateLogoutToken } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, headersOf, html, json, readForm, single } from '../answers.js';
import { sessionCookie } from '../authenticate.js';
import { CLEAR_SITE_DATA } from '../browserHeaders.js';
import { Problem } from '../errors.js';
import type { Gateway } from '../gateway.js';
import { onwardPage } from '../page.js';
import { remoteAddress } from '../remoteAddress.js';
import { comesFromElsewhere } from '../sameOrigin.js';

const MAX_LOGOUT_TOKEN_FORM_BYTES = 32_768;

/** Logout: by the person (RP-initiated), by the provider (back-channel, front-channel). */
export function logoutRoutes(gateway: Gateway): AnyElysia {
  const { config, client, cookies, store } = gateway;
  const noteRefused = refusals(gateway);
  const postLogoutRedirectUri = new URL('/', config.publicUrl).href;

  return new Elysia()
    .post('/auth/logout', async ({ request }) => {
      const cookie = sessionCookie(gateway, 'POST', headersOf(request));
      const found = cookie === null ? null : await store.find(cookie);
      // The session is over here before the provider is so much as mentioned.
      const [ended] = found ? await endSessions(gateway, { id: found.session.id }, 'logout', { ipAddress: remoteAddress(request) }) : [];
      const logoutUrl = client.endSessionUrl(postLogoutRedirectUri, ended?.idToken ?? null).href;
      // Another site's form brings no cookie, and must not take away what it could not bring.
      const clear: [string, string][] = cookie === null && comesFromElsewhere(headersOf(request), config.publicUrl.origin)
        ? [] : [['Set-Cookie', cookies.clearSession()], CLEAR_SITE_DATA];
      if (/\bapplication\/json\b/.test(request.headers.get('accept') ?? '')) return json({ logout_url: logoutUrl }, Object.fromEntries(clear));
      return new URL(request.url).searchParams.get('page') === 'true' ? html(onwardPage(logoutUrl), clear) : empty(303, [['Location', logoutUrl], ...clear]);
    })
    .post('/auth/backchannel-logout', async ({ request }) => {
      const [token, ...more] = (await readForm(request, MAX_LOGOUT_TOKEN_FORM_BYTES))?.getAll('logout_token') ?? [];
      if (token === undefined || more.length > 0) throw new Problem('logout_token_invalid');
      const { issuer, clientId } = client;
      let logout: LogoutRequest | undefined;
      try {
        logout = await validateLogoutToken(token, { issuer, clientId, jwks: () => client.jwks(), typ: config.logoutTokenTyp });
        const ended = await backchannelLogout({ ...gateway, issuer }, logout, config.backchannelLogoutScope);
        // Sessions that the provider's own logout did not name would live on there.
        if (config.backchannelLogoutScope === 'sub') void revokeAtProvider(gateway, ended, { exceptSid: logout.sid });
      } catch (error) {
        if (isAuthError(error, 'logout_token_invalid')) await noteRefused(error.reason ?? 'invalid', remoteAddress(request), logout);
        throw error;
      }
      return empty(200);
    }, { parse: 'none' })
    .get('/auth/frontchannel-logout', async ({ request }) => {
      const query = new URL(request.url).searchParams;
      const [issuer, sid] = [single(query, 'iss'), single(query, 'sid')];
      if (issuer !== client.issuer || !sid) throw new Problem('request_invalid');
      await endSessions(gateway, { sid }, 'frontchannel_logout', { ipAddress: remoteAddress(request) });
      return empty(200, [['Content-Security-Policy', `default-src 'none'; frame-ancestors ${new URL(client.issuer).origin}`]]);
    });
}

/** Anybody can send a token that nobody signed; the log has those, the table does not. */
const NOT_FROM_THE_PROVIDER = /^ERR_JWS|^ERR_JOSE|^ERR_JWKS/;
const REFUSAL_PAUSE_MS = 60_000;

/** Notes refused logout tokens. A row for each reason in a minute is enough to look into: a flood must not fill the table. */
function refusals({ events }: Gateway): (reason: string, ipAddress: string | null, logout: LogoutRequest | undefined) => Promise<void> {
  const noted = new Map<string, number>();
  return async (reason, ipAddress, logout) => {
    const event = { event: 'logout_token_refused', reason, actor: 'provider', subject: logout?.subject ?? null, sid: logout?.sid ?? null, ipAddress } as const;
    if (NOT_FROM_THE_PROVIDER.test(reason)) return events.tell({ ...event, actor: 'unknown' });
    if (performance.now() < (noted.get(reason) ?? 0)) return events.tell(event);
    noted.set(reason, performance.now() + REFUSAL_PAUSE_MS);
    await events.note(event);
  };
}
