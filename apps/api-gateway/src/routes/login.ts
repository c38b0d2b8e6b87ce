import { createHash } from 'node:crypto';
import { afterEnding, cookieHash, type EndedSession, isAuthError, newSessionCookie, requireNotLoggedOut, revokeAtProvider, type TokenSet } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, headersOf, html, single } from '../answers.js';
import { Problem } from '../errors.js';
import type { Gateway } from '../gateway.js';
import { LOGIN_STATE_SECONDS, type LoginState, loginCookieName, openLoginState, sealLoginState } from '../loginState.js';
import { onwardPage } from '../page.js';
import { remoteAddress } from '../remoteAddress.js';
import { localPath } from '../returnTo.js';
import { mayHoldCookieBack } from '../strictNavigation.js';

/** Passed on to the provider as they are (OpenID Connect Core §3.1.2.1). */
const PASSED_ON = ['prompt', 'login_hint', 'acr_values', 'max_age', 'ui_locales'];
/** Logins given up leave their cookies behind; beyond this many the browser's request headers would grow too large. */
const MAX_LOGINS_UNDER_WAY = 8;

/** Login: the authorization request and its response. */
export function loginRoutes(gateway: Gateway): AnyElysia {
  const { config, client, cookies, cookieEncryption, metrics } = gateway;
  const redirectUri = new URL('/auth/callback', config.publicUrl).href;
  const { origin } = config.publicUrl;

  return new Elysia()
    .get('/auth/login', async ({ request }) => {
      const destination = request.headers.get('sec-fetch-dest');
      if (destination !== null && destination !== 'document') throw new Problem('navigation_required');
      const { pathname, search, searchParams: query } = new URL(request.url);
      // A reverse proxy puts in a path as it came, in which a plus is a plus; only forms write a space so.
      const returnTo = localPath(single(new URLSearchParams(search.replaceAll('+', '%2B')), 'return_to') ?? '/', origin);
      if (returnTo === null) throw new Problem('return_to_rejected');
      const extra: Record<string, string> = {};
      for (const name of PASSED_ON) {
        const value = single(query, name);
        if (value !== null) extra[name] = value;
      }
      if (extra['max_age'] !== undefined && !/^\d{1,9}$/.test(extra['max_age'])) throw new Problem('request_invalid');
      if (mayHoldCookieBack(gateway, headersOf(request))) return html(onwardPage(pathname + search));
      const cookieHeader = request.headers.get('cookie');
      const previous = cookies.session(cookieHeader);
      const { url, ...secrets } = await client.authorizationRequest(redirectUri, extra);
      const name = loginCookieName(cookies.loginPrefix, secrets.state);
      const state: LoginState = {
        ...secrets, returnTo, startedAt: Date.now(), ...(extra['max_age'] === undefined ? {} : { maxAgeSeconds: Number(extra['max_age']) }),
        ...(previous === null ? {} : { previous: cookieHash(previous).toString('base64url') }),
      };
      const underWay = cookies.loginNames(cookieHeader);
      // Browsers send the oldest first (RFC 6265bis §5.8.3).
      const givenUp = underWay.slice(0, Math.max(0, underWay.length + 1 - MAX_LOGINS_UNDER_WAY));
      return empty(302, [
        ['Location', url.href],
        ['Set-Cookie', cookies.setLogin(name, sealLoginState(cookieEncryption, name, state), LOGIN_STATE_SECONDS)],
        ...givenUp.map((old): [string, string] => ['Set-Cookie', cookies.setLogin(old, '', 0)]),
      ]);
    })
    .get('/auth/callback', async ({ request }) => {
      const { search, searchParams } = new URL(request.url);
      const state = searchParams.getAll('state');
      const cookieHeader = request.headers.get('cookie');
      const name = loginCookieName(cookies.loginPrefix, state[0] ?? '');
      const sealed = cookies.login(cookieHeader, name);
      const login = sealed === null ? null : openLoginState(cookieEncryption, name, sealed);
      if (state.length !== 1 || login === null || login.state !== state[0]) {
        metrics.logins.inc({ outcome: 'no_login_state' });
        throw new Problem('callback_rejected');
      }
      const carried = cookies.session(cookieHeader);
      const previous = [...(carried === null ? [] : [cookieHash(carried)]), ...(login.previous === undefined ? [] : [Buffer.from(login.previous, 'base64url')])];
      const began = performance.now();
      const tokens = await redeem(gateway, new URL(redirectUri + search), login);
      const cookie = await begin(gateway, tokens, request, { previous, began });
      metrics.logins.inc({ outcome: 'logged_in' });
      const set: [string, string][] = [['Set-Cookie', cookies.setSession(cookie)], ['Set-Cookie', cookies.setLogin(name, '', 0)]];
      // With SameSite=Strict a redirect that the provider's site began would arrive without the new cookie.
      return config.sessionCookieSameSite === 'strict' ? html(onwardPage(login.returnTo), set)
        : empty(302, [['Location', login.returnTo], ...set]);
    });
}

async function redeem(gateway: Gateway, callbackUrl: URL, { state, oidcNonce, codeVerifier, maxAgeSeconds }: LoginState): Promise<TokenSet> {
  try {
    return await gateway.client.exchangeCode(callbackUrl, { state, oidcNonce, codeVerifier, ...(maxAgeSeconds === undefined ? {} : { maxAgeSeconds }) });
  } catch (error) {
    gateway.metrics.logins.inc({ outcome: isAuthError(error) ? error.code : 'failed' });
    throw error;
  }
}

/**
 * Writes session and tokens, and ends what they replace, in one transaction; the cookie's value exists here and in the
 * answer only. A login in a browser that still has a session ends that one here (`previous`: hashes of the cookies that
 * the browser had when it set out and has now): the provider's session goes on, and the new one hangs on it.
 */
async function begin(gateway: Gateway, tokens: TokenSet, request: Request, { previous, began }: { previous: readonly Buffer[]; began: number }): Promise<string> {
  const { db, store, vault, events, config, log } = gateway;
  const cookie = newSessionCookie();
  const userAgent = request.headers.get('user-agent')?.slice(0, 512) ?? null;
  const ipAddress = remoteAddress(request);
  const absolute = Date.now() + config.sessionAbsoluteTimeoutMs;
  const { identity, refreshExpiresAt } = tokens;
  const { subject, sid } = identity;
  const write = (): Promise<{ id: string; ended: EndedSession[] }> => db.transaction(async (sql) => {
    await requireNotLoggedOut(sql, { subject, sid, sinceMs: performance.now() - began });
    const created = await store.create(sql, {
      cookie, ...identity, roles: identity.roles ?? [], userAgent, ipAddress,
      expiresAt: new Date(Math.min(absolute, refreshExpiresAt?.getTime() ?? Infinity)),
      fingerprint: userAgent === null ? null : createHash('sha256').update(userAgent).digest('hex').slice(0, 16),
    });
    await vault.store(sql, created, tokens);
    await events.write(sql, { event: 'login', sessionId: created, subject, sid, actor: 'user', ipAddress });
    const replaced = previous.length === 0 ? [] : await store.idsOf(sql, previous);
    const over: EndedSession[] = [];
    for (const id of replaced) over.push(...await vault.end({ id }, 'replaced', { sql, ipAddress }));
    if (config.sessionMaxPerUser > 0) {
      over.push(...await vault.endOldest(sql, { newestId: created, most: config.sessionMaxPerUser, idleTimeoutMs: config.sessionIdleTimeoutMs }));
    }
    return { id: created, ended: over };
  });
  const { id, ended } = await write().catch((error: unknown) => {
    // Nobody will ever hold these tokens: do not leave the grant behind.
    if (tokens.refreshToken) gateway.client.revoke(tokens.refreshToken).catch(() => undefined);
    throw error;
  });
  if (identity.roles === null) log.warn({ event: 'provider' }, 'the userinfo endpoint refuses this client\'s access tokens (KEYCLOAK_USERINFO); who logs in has no roles');
  events.tell({ event: 'login', sessionId: id, subject, sid, actor: 'user', ipAddress });
  await afterEnding(gateway, ended);
  void revokeAtProvider(gateway, ended.filter(({ reason }) => reason === 'session_limit'), { exceptSid: sid });
  return cookie;
}
