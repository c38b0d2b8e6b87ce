import { isAuthError, type Reason } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { reportRefusal } from '../observability/refusals.js';
import { empty, html } from '../pages/answers.js';
import { lookFor } from '../pages/look.js';
import { onwardPage } from '../pages/page.js';
import { Problem } from '../request/errors.js';
import { headersOf } from '../request/form.js';
import { withParameter } from '../request/returnTo.js';
import { mayHoldCookieBack } from '../request/strictNavigation.js';
import type { LoginState } from './loginState.js';
import { nextRestart } from './restarts.js';

/** The login at the provider had expired, or nobody was logged in any more: once more, and the person sees its page. */
const PASSING: ReadonlySet<Reason> = new Set(['temporarily_unavailable', 'login_required']);

/**
 * An authorization response without its login, which is finished, too old, or was begun in another browser: the Back
 * button, a reload, a bookmark, another tab. Who is logged in goes to the start page; for anybody else the login begins
 * anew, once.
 * @throws Problem `callback_rejected`
 */
export async function withoutLogin(gateway: Gateway, request: Request): Promise<Response> {
  const problem = new Problem('callback_rejected');
  const { pathname, search, searchParams: query } = new URL(request.url);
  if (await isLoggedIn(gateway, request)) return onward(gateway, problem, '/');
  if (mayHoldCookieBack(gateway, headersOf(request)))
    return html(gateway, onwardPage(pathname + search, lookFor(gateway, headersOf(request))));
  const states = query.getAll('state');
  // What went wrong at the provider may do so again, and a response without a state tells nothing of restarts.
  if (query.has('error') || states.length > 1 || (states.length === 0 && query.has('code')))
    throw problem;
  const again = restart(gateway, problem, { state: states[0] ?? '' });
  if (again === null) throw problem;
  return again;
}

/**
 * Where the browser goes after a response that belongs to a login and logs nobody in; null: nowhere, a page says why. A
 * login with `prompt=none` goes back and says so; one whose code was used before, or that came too late, to where it
 * was going if the person is logged in by now; one that came too late begins anew otherwise, once.
 */
export async function afterRefusal(
  gateway: Gateway,
  request: Request,
  { name, login }: { name: string; login: LoginState },
  error: unknown,
): Promise<Response | null> {
  if (!isAuthError(error, 'callback_rejected')) return null;
  const problem = new Problem('callback_rejected', { cause: error });
  const said = new URL(request.url).searchParams.get('error') ?? '';
  // Only a response whose state and issuer are right says something of the provider's.
  const isProvidersWord = said !== '' && error.providerSaid !== undefined;
  if (login.silent === true && isProvidersWord) {
    const code = /^[a-z_]{1,64}$/.test(said) ? said : 'login_required';
    return onward(gateway, problem, withParameter(login.returnTo, 'login_error', code), name);
  }
  const isLate = isProvidersWord && error.reason !== undefined && PASSING.has(error.reason);
  const isUsed = said === '' && error.reason === 'invalid_grant';
  if ((isLate || isUsed) && (await isLoggedIn(gateway, request)))
    return onward(gateway, problem, login.returnTo, name);
  return isLate ? restart(gateway, problem, login, name) : null;
}

async function isLoggedIn({ cookies, store }: Gateway, request: Request): Promise<boolean> {
  const cookie = cookies.session(request.headers.get('cookie'));
  return cookie !== null && (await store.find(cookie))?.state === 'live';
}

/** Begins the login anew with what it asked for; null when that was done a moment ago. */
function restart(
  gateway: Gateway,
  problem: Problem,
  { state, returnTo, parameters }: Pick<LoginState, 'state'> & Partial<LoginState>,
  loginCookie?: string,
): Response | null {
  const again = nextRestart(state, gateway.now());
  if (again === null) return null;
  const query = new URLSearchParams({
    ...parameters,
    ...(returnTo === undefined ? {} : { return_to: returnTo }),
    again: String(again),
  });
  return onward(gateway, problem, `/auth/login?${query.toString()}`, loginCookie);
}

/** Leads on, with an entry in the log on why. */
function onward(
  gateway: Gateway,
  problem: Problem,
  location: string,
  loginCookie?: string,
): Response {
  reportRefusal(gateway, problem);
  return empty(303, [
    ['Location', location],
    ...(loginCookie === undefined
      ? []
      : [['Set-Cookie', gateway.cookies.setLogin(loginCookie, '', 0)] as [string, string]]),
  ]);
}
