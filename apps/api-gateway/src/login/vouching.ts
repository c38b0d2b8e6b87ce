import { createHash } from 'node:crypto';
import {
  isAuthError,
  type LogoutRequest,
  validateLogoutToken,
} from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { readForm } from '../request/form.js';
import { type LoginState, loginCookieName, openLoginState } from './loginState.js';

const MAX_LOGOUT_TOKEN_FORM_BYTES = 32_768;

/** The login that an authorization response belongs to, and its cookie's name; null: none of this browser's. */
export function loginOf(
  { cookies, cookieEncryption, now }: Pick<Gateway, 'cookies' | 'cookieEncryption' | 'now'>,
  request: Request,
): { name: string; login: LoginState } | null {
  const states = new URL(request.url).searchParams.getAll('state');
  const name = loginCookieName(cookies.loginPrefix, states[0] ?? '');
  const sealed = cookies.login(request.headers.get('cookie'), name);
  const login = sealed === null ? null : openLoginState(cookieEncryption, name, sealed, now());
  if (login === null || states.length !== 1 || login.state !== states[0]) return null;
  return { name, login };
}

/** The one logout token of a form; null when it has none, or several. @throws Problem `request_too_large` */
export async function logoutTokenOf(request: Request): Promise<string | null> {
  const form = await readForm(request, MAX_LOGOUT_TOKEN_FORM_BYTES);
  const tokens = form?.getAll('logout_token') ?? [];
  return tokens.length === 1 ? (tokens[0] ?? null) : null;
}

/** @throws AuthError as `validateLogoutToken` does */
export async function validLogout(
  { client, config, now }: Pick<Gateway, 'client' | 'config' | 'now'>,
  token: string,
): Promise<LogoutRequest> {
  return validateLogoutToken(token, {
    issuer: client.issuer,
    clientId: client.clientId,
    jwks: () => client.jwks('logout'),
    algorithms: await client.providerAlgorithms(),
    typ: config.logoutTokenTyp,
    now,
  });
}

/**
 * What a request shows that only a browser with a login under way, or the provider, can have: it is answered however
 * many others from its address were refused. The name tells one such thing from another.
 * @returns null for a request that shows nothing of the kind
 */
export async function vouches(
  gateway: Pick<Gateway, 'cookies' | 'cookieEncryption' | 'client' | 'config' | 'now'>,
  request: Request,
  route: 'callback' | 'backchannel-logout',
): Promise<string | null> {
  if (route === 'callback') return loginOf(gateway, request)?.name ?? null;
  const token = await logoutTokenOf(request.clone());
  if (token === null) return null;
  try {
    await validLogout(gateway, token);
  } catch (error) {
    if (isAuthError(error, 'logout_token_invalid')) return null;
    // Whoever signed it: it cannot be told now, and the answer says so.
  }
  return createHash('sha256').update(token).digest('base64url');
}
