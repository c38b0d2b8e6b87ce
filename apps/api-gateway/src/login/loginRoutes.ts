import { createHash } from 'node:crypto';
import {
  afterEnding,
  cookieHash,
  type EndedSession,
  isAuthError,
  newSessionCookie,
  requireNotLoggedOut,
  type TokenSet,
} from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, html } from '../pages/answers.js';
import { headersOf, single } from '../request/form.js';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import {
  LOGIN_STATE_SECONDS,
  type LoginState,
  loginCookieName,
  loginsToGiveUp,
  sealLoginState,
} from './loginState.js';
import { afterRefusal, withoutLogin } from './deadEnds.js';
import { restartsOf, stateEnding } from './restarts.js';
import { loginOf } from './vouching.js';
import { framedPagePolicy } from '../pages/browserHeaders.js';
import { framedLoginPage } from '../pages/loginPages.js';
import { lookFor } from '../pages/look.js';
import { acceptedLocales } from '../pages/words/languages.js';
import { onwardPage } from '../pages/page.js';
import { remoteAddress } from '../request/remoteAddress.js';
import { localPath, withParameter } from '../request/returnTo.js';
import { acrOfPath } from '../settings/gatewayRoutes.js';
import { isOpenIdScope, type LoginSettings } from '../settings/keycloakSettings.js';
import type { HeaderReader } from '../request/sameOrigin.js';
import { mayHoldCookieBack } from '../request/strictNavigation.js';

/** Login: the authorization request and its response. */
export function loginRoutes(gateway: Gateway): AnyElysia {
  return new Elysia()
    .get('/auth/login', ({ request }) => beginLogin(gateway, request))
    .get('/auth/callback', ({ request }) => finishLogin(gateway, request));
}

const redirectUri = ({ config }: Gateway): string =>
  new URL('/auth/callback', config.publicUrl).href;

async function beginLogin(gateway: Gateway, request: Request): Promise<Response> {
  const { config, client, cookies, cookieEncryption } = gateway;
  const header = headersOf(request);
  const isFramed = requireNavigation(header);
  const { pathname, search, searchParams: query } = new URL(request.url);
  // A reverse proxy puts in a path as it came, in which a plus is a plus; only forms write a space so.
  const returnTo = localPath(
    single(new URLSearchParams(search.replaceAll('+', '%2B')), 'return_to') ?? '/',
    config.publicUrl.origin,
  );
  if (returnTo === null) throw new Problem('return_to_rejected');
  const extra = passedOn(query, config.login);
  const acrValues = acrOfPath(config.routes, new URL(returnTo, config.publicUrl).pathname);
  if (acrValues !== undefined) extra['acr_values'] ??= acrValues;
  const restarts = restartsOf(single(query, 'again'));
  const address = pathname + search;
  const look = lookFor(gateway, header, extra['ui_locales']);
  if (isFramed) return html(gateway, framedLoginPage(address, look), [], framedPagePolicy(config));
  if (mayHoldCookieBack(gateway, header)) return html(gateway, onwardPage(address, look));
  const cookieHeader = header('cookie');
  const previous = cookies.session(cookieHeader);
  const now = Math.round(gateway.now());
  const { url, ...secrets } = await client.authorizationRequest(
    redirectUri(gateway),
    { ...browsersLocales(config.login, header), ...extra },
    stateEnding(restarts, now),
  );
  const name = loginCookieName(cookies.loginPrefix, secrets.state);
  const state: LoginState = {
    ...secrets,
    returnTo,
    startedAt: now,
    ...(extra['max_age'] === undefined ? {} : { maxAgeSeconds: Number(extra['max_age']) }),
    ...(acrValues === undefined || acrValues !== extra['acr_values'] ? {} : { acrValues }),
    ...(extra['prompt']?.split(' ').includes('none') ? { silent: true } : {}),
    ...(Object.keys(extra).length === 0 ? {} : { parameters: extra }),
    ...(previous === null ? {} : { previous: cookieHash(previous).toString('base64url') }),
  };
  const sealed = sealLoginState(cookieEncryption, name, state);
  const givenUp = loginsToGiveUp(cookies.logins(cookieHeader), `${name}=${sealed}`.length);
  return empty(302, [
    ['Location', url.href],
    ['Set-Cookie', cookies.setLogin(name, sealed, LOGIN_STATE_SECONDS)],
    ...forgetLogins(gateway, givenUp),
  ]);
}

async function finishLogin(gateway: Gateway, request: Request): Promise<Response> {
  const { config, cookies, metrics } = gateway;
  const { search, searchParams: query } = new URL(request.url);
  const cookieHeader = request.headers.get('cookie');
  const found = loginOf(gateway, request);
  if (found === null) {
    metrics.logins.inc({ outcome: 'no_login_state' });
    return withoutLogin(gateway, request);
  }
  const { name, login } = found;
  const carried = cookies.session(cookieHeader);
  const previous = [
    ...(carried === null ? [] : [cookieHash(carried)]),
    ...(login.previous === undefined ? [] : [Buffer.from(login.previous, 'base64url')]),
  ];
  const began = performance.now();
  const tokens = await redeem(gateway, new URL(redirectUri(gateway) + search), login).catch(
    async (error: unknown) => {
      const onward = await afterRefusal(gateway, request, found, error);
      if (onward === null) throw error;
      return onward;
    },
  );
  if (tokens instanceof Response) return tokens;
  const cookie = await begin(gateway, tokens, request, { previous, began });
  metrics.logins.inc({ outcome: 'logged_in' });
  const others = cookies.logins(cookieHeader).filter((other) => other.name !== name);
  const set: [string, string][] = [
    ['Set-Cookie', cookies.setSession(cookie)],
    ...forgetLogins(gateway, [name, ...loginsToGiveUp(others, 0)]),
  ];
  const status = query.get('kc_action_status') ?? '';
  const location = /^[a-z_]{1,40}$/.test(status)
    ? withParameter(login.returnTo, 'kc_action_status', status)
    : login.returnTo;
  // With SameSite=Strict a redirect that the provider's site began would arrive without the new cookie.
  return config.sessionCookieSameSite === 'strict'
    ? html(gateway, onwardPage(location, lookFor(gateway, headersOf(request))), set)
    : empty(302, [['Location', location], ...set]);
}

/** Clears the cookies of logins. */
const forgetLogins = ({ cookies }: Gateway, names: readonly string[]): [string, string][] =>
  names.map((name) => ['Set-Cookie', cookies.setLogin(name, '', 0)]);

/**
 * A login begins for a person only: a page of its own that is opened now, also through a service worker, which says
 * `empty`, and in browsers without Fetch Metadata.
 * @returns whether it is opened in a frame of another page
 * @throws Problem `navigation_required`
 */
function requireNavigation(header: HeaderReader): boolean {
  const [mode, destination] = [header('sec-fetch-mode'), header('sec-fetch-dest')];
  const isAhead = /\bpre(fetch|render|view)/i.test(
    `${header('sec-purpose') ?? ''} ${header('purpose') ?? ''} ${header('x-moz') ?? ''}`,
  );
  const isPage = destination === null || destination === 'document';
  const navigates = mode === 'navigate';
  const isFramed = navigates && (destination === 'iframe' || destination === 'frame');
  const isServiceWorkers = navigates && destination === 'empty';
  // Browsers say both; a mode alone is what the fetch of Node says, which no page can use.
  const isOther = mode !== null && destination !== null && !navigates;
  if (isAhead || isOther || !(isPage || isFramed || isServiceWorkers))
    throw new Problem('navigation_required');
  return isFramed;
}

/** What the provider's pages are to speak where the login does not say: as the gateway's own. */
function browsersLocales(
  { loginParameters }: LoginSettings,
  header: HeaderReader,
): Record<string, string> {
  const locales = loginParameters.includes('ui_locales') ? acceptedLocales(header) : '';
  return locales === '' ? {} : { ui_locales: locales };
}

/** What a caller asks the provider for, as it is. @throws Problem `request_invalid` */
function passedOn(
  query: URLSearchParams,
  { loginParameters }: LoginSettings,
): Record<string, string> {
  const extra: Record<string, string> = {};
  for (const name of loginParameters) {
    const value = single(query, name);
    if (value !== null) extra[name] = value;
  }
  const { max_age: maxAge, scope } = extra;
  if (maxAge !== undefined && !/^\d{1,9}$/.test(maxAge)) throw new Problem('request_invalid');
  if (scope !== undefined && !isOpenIdScope(scope)) throw new Problem('request_invalid');
  return extra;
}

async function redeem(
  gateway: Gateway,
  callbackUrl: URL,
  { state, oidcNonce, codeVerifier, maxAgeSeconds, acrValues }: LoginState,
): Promise<TokenSet> {
  try {
    return await gateway.client.exchangeCode(callbackUrl, {
      state,
      oidcNonce,
      codeVerifier,
      acrValues,
      ...(maxAgeSeconds === undefined ? {} : { maxAgeSeconds }),
    });
  } catch (error) {
    gateway.metrics.logins.inc({ outcome: isAuthError(error) ? error.code : 'failed' });
    throw error;
  }
}

/** The provider's own idle time, which its first refresh token lasts for, where that is shorter than the setting. */
function providerIdleSeconds(
  { sessionIdleFromProvider, sessionIdleTimeoutMs }: Gateway['config'],
  refreshExpiresAt: Date | null,
): number | null {
  if (!sessionIdleFromProvider || refreshExpiresAt === null) return null;
  const ms = refreshExpiresAt.getTime() - Date.now();
  return ms < sessionIdleTimeoutMs ? Math.max(1, Math.ceil(ms / 1000)) : null;
}

/**
 * Writes session and tokens, and ends what they replace, in one transaction; the cookie's value exists here and in the
 * answer only. A login in a browser that still has a session ends that one here (`previous`: hashes of the cookies that
 * the browser had when it set out and has now): where the new one hangs on the same session of
 * the provider, that goes on.
 */
async function begin(
  gateway: Gateway,
  tokens: TokenSet,
  request: Request,
  { previous, began }: { previous: readonly Buffer[]; began: number },
): Promise<string> {
  const { db, store, vault, events, config, log } = gateway;
  const cookie = newSessionCookie();
  const userAgent = request.headers.get('user-agent')?.slice(0, 512) ?? null;
  const ipAddress = remoteAddress(request);
  const absolute = Date.now() + config.sessionAbsoluteTimeoutMs;
  const { identity, refreshExpiresAt } = tokens;
  const { subject, sid } = identity;
  const write = (): Promise<{ id: string; ended: EndedSession[] }> =>
    db.transaction(async (sql) => {
      await requireNotLoggedOut(sql, { subject, sid, sinceMs: performance.now() - began });
      const created = await store.create(sql, {
        cookie,
        ...identity,
        roles: identity.roles ?? [],
        userAgent,
        ipAddress,
        expiresAt: new Date(Math.min(absolute, refreshExpiresAt?.getTime() ?? Infinity)),
        idleTimeoutSeconds: providerIdleSeconds(config, refreshExpiresAt),
        fingerprint:
          userAgent === null
            ? null
            : createHash('sha256').update(userAgent).digest('hex').slice(0, 16),
      });
      await vault.store(sql, created, tokens);
      await events.write(sql, {
        event: 'login',
        sessionId: created,
        subject,
        sid,
        actor: 'user',
        ipAddress,
      });
      const replaced = previous.length === 0 ? [] : await store.idsOf(sql, previous);
      const over: EndedSession[] = [];
      for (const id of replaced)
        over.push(...(await vault.end({ id }, 'replaced', { sql, ipAddress, exceptSid: sid })));
      if (config.sessionMaxPerUser > 0) {
        over.push(
          ...(await vault.endOldest(sql, {
            newestId: created,
            most: config.sessionMaxPerUser,
            idleTimeoutMs: config.sessionIdleTimeoutMs,
            exceptSid: sid,
          })),
        );
      }
      return { id: created, ended: over };
    });
  const { id, ended } = await write().catch((error: unknown) => {
    // Nobody will ever hold these tokens: do not leave the grant behind.
    if (tokens.refreshToken) gateway.client.revoke(tokens.refreshToken).catch(() => undefined);
    throw error;
  });
  if (identity.roles === null)
    log.warn(
      { event: 'provider' },
      "the userinfo endpoint refuses this client's access tokens (KEYCLOAK_USERINFO); who logs in has no roles",
    );
  events.tell({ event: 'login', sessionId: id, subject, sid, actor: 'user', ipAddress });
  await afterEnding(gateway, ended);
  return cookie;
}
