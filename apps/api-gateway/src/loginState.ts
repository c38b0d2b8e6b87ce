import { createHash } from 'node:crypto';
import { isAuthError, type TokenEncryption } from '@session-gateway/keycloak-auth';
import { Type, type Static } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

/** What must survive between authorization request and response. It travels in a sealed cookie: nothing is stored here. */
const LoginState = Type.Object({
  state: Type.String(),
  oidcNonce: Type.String(),
  codeVerifier: Type.String(),
  returnTo: Type.String(),
  startedAt: Type.Integer(),
  maxAgeSeconds: Type.Optional(Type.Integer()),
  /** The hash of the session cookie that the request carried, base64url: a Strict cookie does not come with the response. */
  previous: Type.Optional(Type.String()),
});
export type LoginState = Static<typeof LoginState>;

export const LOGIN_STATE_SECONDS = 600;

/** The cookie's name tells logins under way apart, so that several tabs can log in at once. */
export function loginCookieName(prefix: string, state: string): string {
  return prefix + createHash('sha256').update(state).digest('base64url').slice(0, 16);
}

export function sealLoginState(encryption: TokenEncryption, cookieName: string, state: LoginState): string {
  return encryption.seal(JSON.stringify(state), place(cookieName));
}

/** The login state in a cookie, or null when it is not ours, too old, or of another login. */
export function openLoginState(encryption: TokenEncryption, cookieName: string, value: string, now = Date.now()): LoginState | null {
  try {
    const state: unknown = JSON.parse(encryption.open(value, place(cookieName)));
    return Value.Check(LoginState, state) && now - state.startedAt < LOGIN_STATE_SECONDS * 1000 ? state : null;
  } catch (error) {
    if (isAuthError(error, 'token_unreadable') || error instanceof SyntaxError) return null;
    throw error;
  }
}

// Bound to its cookie's name; no stored token has this place, so neither can stand in for the other.
const place = (cookieName: string) => ({ table: 'cookie', column: 'login_state', rowId: cookieName });
