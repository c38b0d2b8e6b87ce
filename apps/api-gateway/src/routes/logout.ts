import { backchannelLogout, endSessions, revokeAtProvider, validateLogoutToken } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, headersOf, json, readForm, single } from '../answers.js';
import { Problem } from '../errors.js';
import type { Gateway } from '../gateway.js';
import { requireSameOrigin } from '../sameOrigin.js';

const MAX_LOGOUT_TOKEN_FORM_BYTES = 32_768;

/** Logout: by the person (RP-initiated), by the provider (back-channel, front-channel). */
export function logoutRoutes(gateway: Gateway): AnyElysia {
  const { config, client, cookies, store, metrics, log } = gateway;
  const postLogoutRedirectUri = new URL('/', config.publicUrl).href;

  return new Elysia()
    .post('/auth/logout', async ({ request }) => {
      const cookie = cookies.session(request.headers.get('cookie'));
      if (cookie !== null) requireSameOrigin('POST', headersOf(request), config.publicUrl.origin);
      const found = cookie === null ? null : await store.find(cookie);
      // The session is over here before the provider is so much as mentioned.
      const [ended] = found ? await endSessions(gateway, { id: found.session.id }, 'logout') : [];
      if (ended) {
        metrics.sessionsEnded.inc({ reason: 'logout' });
        log.info({ event: 'logout', session: ended.id, sub: found?.session.subject }, 'logged out');
      }
      const logoutUrl = client.endSessionUrl(postLogoutRedirectUri, ended?.idToken ?? null).href;
      const clear: [string, string] = ['Set-Cookie', cookies.clearSession()];
      return /\bapplication\/json\b/.test(request.headers.get('accept') ?? '')
        ? json({ logout_url: logoutUrl }, Object.fromEntries([clear]))
        : empty(303, [['Location', logoutUrl], clear]);
    })
    .post('/auth/backchannel-logout', async ({ request }) => {
      const [token, ...more] = (await readForm(request, MAX_LOGOUT_TOKEN_FORM_BYTES))?.getAll('logout_token') ?? [];
      if (token === undefined || more.length > 0) throw new Problem('logout_token_invalid');
      const { issuer, clientId } = client;
      const logout = await validateLogoutToken(token, { issuer, clientId, jwks: () => client.jwks(), typ: config.logoutTokenTyp });
      const ended = await backchannelLogout({ ...gateway, issuer }, logout, config.backchannelLogoutScope);
      metrics.sessionsEnded.inc({ reason: 'backchannel_logout' }, ended.length);
      log.info({ event: 'backchannel_logout', ended: ended.length }, 'the provider ended sessions');
      // Sessions that the provider's own logout did not name would live on there.
      if (config.backchannelLogoutScope === 'sub') void revokeAtProvider(client, ended);
      return empty(200);
    }, { parse: 'none' })
    .get('/auth/frontchannel-logout', async ({ request }) => {
      const query = new URL(request.url).searchParams;
      const [issuer, sid] = [single(query, 'iss'), single(query, 'sid')];
      if (issuer !== client.issuer || !sid) throw new Problem('request_invalid');
      const ended = await endSessions(gateway, { sid }, 'frontchannel_logout');
      metrics.sessionsEnded.inc({ reason: 'frontchannel_logout' }, ended.length);
      return empty(200, [['Content-Security-Policy', `default-src 'none'; frame-ancestors ${new URL(client.issuer).origin}`]]);
    });
}
