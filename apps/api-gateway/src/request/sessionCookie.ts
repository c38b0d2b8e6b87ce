import { Problem } from './errors.js';

export const DEFAULT_SESSION_COOKIE = 'session';
/** What tells logins under way apart in the names of their cookies. */
const LOGIN_COOKIE_ID = /^[A-Za-z0-9_-]{16}$/;

/**
 * The name of a cookie without its prefix: a token (RFC 6265 §4.1.1) that is neither a prefix nor the
 * name of a login's cookie.
 */
export const isSessionCookieName = (name: string): boolean =>
  /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/.test(name) && !/^(__host-|__secure-|login-)/i.test(name);

/** The gateway's own cookies: the session cookie, and one login-state cookie for each login under way. */
export class GatewayCookies {
  readonly #secure: boolean;
  readonly #sameSite: 'Lax' | 'Strict';
  readonly sessionName: string;
  readonly loginPrefix: string;

  /** `https` decides the `__Host-` prefix, which pins a cookie to this host and Path=/ (RFC 6265bis §4.1.3.2). */
  constructor(options: { https: boolean; sameSite: 'lax' | 'strict'; name?: string }) {
    const prefix = options.https ? '__Host-' : '';
    this.#secure = options.https;
    this.#sameSite = options.sameSite === 'strict' ? 'Strict' : 'Lax';
    this.sessionName = prefix + (options.name ?? DEFAULT_SESSION_COOKIE);
    this.loginPrefix = `${prefix}login-`;
  }

  /**
   * The session cookie of a Cookie header, or null. Two of them are refused, never decided by their order: one may have
   * been planted from a sibling host.
   * @throws Problem `cookie_ambiguous`
   */
  session(header: string | null | undefined): string | null {
    let found: string | null = null;
    for (const { name, value } of cookiePairs(header)) {
      if (name !== this.sessionName) continue;
      if (found !== null) throw new Problem('cookie_ambiguous');
      found = value;
    }
    return found !== null && /^[\x21-\x7e]{1,255}$/.test(found) ? found : null;
  }

  /**
   * Whether there is one to clear: a browser that did not send its cookie may have had a reason, and must not lose it.
   */
  carriesSession(header: string | null | undefined): boolean {
    return cookiePairs(header).some(({ name }) => name === this.sessionName);
  }

  login(header: string | null | undefined, name: string): string | null {
    const values = cookiePairs(header).filter((pair) => pair.name === name);
    return values.length === 1 ? (values[0]?.value ?? null) : null;
  }

  /** The login-state cookies in a Cookie header and their sizes, each name once, in their order. */
  logins(header: string | null | undefined): { name: string; bytes: number }[] {
    const sizes = new Map<string, number>();
    for (const { name, text } of cookiePairs(header))
      if (name.startsWith(this.loginPrefix) && this.#isLogin(name))
        sizes.set(name, (sizes.get(name) ?? 0) + text.length);
    return [...sizes].map(([name, bytes]) => ({ name, bytes }));
  }

  /** The Cookie header without the gateway's own cookies, or null when nothing is left. */
  withoutOwn(header: string): string | null {
    // Some servers take a cookie without a name for a name without a value.
    const kept = cookiePairs(header)
      .filter(({ name, value }) => !this.isOwn(name === '' ? (value.split('=', 1)[0] ?? '') : name))
      .map(({ text }) => text);
    return kept.length > 0 ? kept.join('; ') : null;
  }

  /** In any spelling of case: some servers compare cookie names without it. */
  isOwn(name: string): boolean {
    const trimmedName = name.trim();
    return (
      trimmedName.toLowerCase() === this.sessionName.toLowerCase() || this.#isLogin(trimmedName)
    );
  }

  /** An application's cookie may begin with the same letters. */
  #isLogin(name: string): boolean {
    const { length } = this.loginPrefix;
    return (
      name.slice(0, length).toLowerCase() === this.loginPrefix.toLowerCase() &&
      LOGIN_COOKIE_ID.test(name.slice(length))
    );
  }

  setSession(value: string): string {
    return this.#format(this.sessionName, value, this.#sameSite, null);
  }

  clearSession(): string {
    return this.#format(this.sessionName, '', this.#sameSite, 0);
  }

  /** Lax whatever the session cookie is: the provider's redirect must bring it. */
  setLogin(name: string, value: string, maxAgeSeconds: number): string {
    return this.#format(name, value, 'Lax', maxAgeSeconds);
  }

  #format(name: string, value: string, sameSite: string, maxAgeSeconds: number | null): string {
    const parts = [`${name}=${value}`, 'Path=/', 'HttpOnly', `SameSite=${sameSite}`];
    if (this.#secure) parts.push('Secure');
    if (maxAgeSeconds !== null) parts.push(`Max-Age=${maxAgeSeconds}`);
    return parts.join('; ');
  }
}

interface CookiePair {
  name: string;
  value: string;
  text: string;
}

/** The raw header, pair by pair (RFC 6265bis §5.6: a name ends at the first `=`); nothing is decoded or guessed. */
function cookiePairs(header: string | null | undefined): CookiePair[] {
  const pairs: CookiePair[] = [];
  for (const part of header ? header.split(';') : []) {
    const text = trimmed(part);
    const equals = text.indexOf('=');
    if (text !== '')
      pairs.push({
        name: equals === -1 ? '' : trimmed(text.slice(0, equals)),
        value: equals === -1 ? text : trimmed(text.slice(equals + 1)),
        text,
      });
  }
  return pairs;
}

/**
 * Without space and tab at its ends: `trim` would also take off what is no white space to a browser, such as U+00A0.
 */
function trimmed(text: string): string {
  let [from, to] = [0, text.length];
  while (from < to && isBlank(text[from])) from++;
  while (to > from && isBlank(text[to - 1])) to--;
  return text.slice(from, to);
}

const isBlank = (character: string | undefined): boolean => character === ' ' || character === '\t';
