import { createHash } from 'node:crypto';
import { isAuthError, type TokenEncryption } from '@session-gateway/keycloak-auth';
import { Type, type Static } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

/**
 * What must survive between authorization request and response. It travels in a sealed cookie: nothing is stored here.
 */
const LoginState = Type.Object({
  state: Type.String(),
  oidcNonce: Type.String(),
  codeVerifier: Type.String(),
  returnTo: Type.String(),
  startedAt: Type.Integer(),
  maxAgeSeconds: Type.Optional(Type.Integer()),
  /** What the route that the login leads to asks for: the response has to bring one of these. */
  acrValues: Type.Optional(Type.String()),
  /** Asked with `prompt=none`: nobody is to be bothered. */
  silent: Type.Optional(Type.Boolean()),
  /** What the provider was asked for besides, for a restart; missing where the cookie would grow too large. */
  parameters: Type.Optional(Type.Record(Type.String(), Type.String())),
  /**
   * The hash of the session cookie that the request carried, base64url: a Strict cookie does
   * not come with the response.
   */
  previous: Type.Optional(Type.String()),
});
export type LoginState = Static<typeof LoginState>;

/** Longer than Keycloak's own login lives (1,800 s): its late answer still finds where the login was going. */
export const LOGIN_STATE_SECONDS = 3_600;

/**
 * Bytes of a cookie's name and value that leave room for its attributes: browsers take 4,096 of all (RFC 6265bis §5.6).
 */
const MAX_COOKIE_BYTES = 3_900;
/** Of all logins under way together: nginx takes 8 KB of cookies, and applications have theirs. */
const MAX_BYTES_UNDER_WAY = 6_000;
/** Logins given up leave their cookies behind. */
const MAX_LOGINS_UNDER_WAY = 8;
/** A request may carry thousands of such names; the next login clears more of them. */
const MAX_CLEARED = 16;

/** The cookie's name tells logins under way apart, so that several tabs can log in at once. */
export function loginCookieName(prefix: string, state: string): string {
  return prefix + createHash('sha256').update(state).digest('base64url').slice(0, 16);
}

export function sealLoginState(
  encryption: TokenEncryption,
  cookieName: string,
  state: LoginState,
): string {
  const seal = (what: LoginState): string =>
    encryption.seal(JSON.stringify(what), place(cookieName));
  const sealed = seal(state);
  if (sealed.length + cookieName.length <= MAX_COOKIE_BYTES) return sealed;
  const shorter = { ...state };
  delete shorter.parameters;
  return seal(shorter);
}

/**
 * The cookies of logins under way that have to go, the oldest first, so that one of `addedBytes` more
 * does not make them too many.
 */
export function loginsToGiveUp(
  underWay: readonly { name: string; bytes: number }[],
  addedBytes: number,
): string[] {
  // Browsers send the oldest first (RFC 6265bis §5.8.3).
  let [count, bytes] = [underWay.length, addedBytes];
  for (const login of underWay) bytes += login.bytes;
  const most = addedBytes > 0 ? MAX_LOGINS_UNDER_WAY - 1 : MAX_LOGINS_UNDER_WAY;
  const givenUp: string[] = [];
  for (const login of underWay) {
    if (givenUp.length === MAX_CLEARED || (count <= most && bytes <= MAX_BYTES_UNDER_WAY)) break;
    givenUp.push(login.name);
    count--;
    bytes -= login.bytes;
  }
  return givenUp;
}

/** The login state in a cookie, or null when it is not ours, too old, or of another login. */
export function openLoginState(
  encryption: TokenEncryption,
  cookieName: string,
  value: string,
  now: number,
): LoginState | null {
  try {
    const state: unknown = JSON.parse(encryption.open(value, place(cookieName)));
    return Value.Check(LoginState, state) && now - state.startedAt < LOGIN_STATE_SECONDS * 1000
      ? state
      : null;
  } catch (error) {
    if (isAuthError(error, 'token_unreadable') || error instanceof SyntaxError) return null;
    throw error;
  }
}

// Bound to its cookie's name; no stored token has this place, so neither can stand in for the other.
const place = (cookieName: string) => ({
  table: 'cookie',
  column: 'login_state',
  rowId: cookieName,
});
