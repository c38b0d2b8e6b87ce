import { Problem } from './errors.js';

/** The gateway's own cookies: the session cookie, and one login-state cookie for each login under way. */
export class GatewayCookies {
  readonly #secure: boolean;
  readonly #sameSite: 'Lax' | 'Strict';
  readonly sessionName: string;
  readonly loginPrefix: string;

  /** `https` decides the `__Host-` prefix, which pins a cookie to this host and Path=/ (RFC 6265bis §4.1.3.2). */
  constructor(options: { https: boolean; sameSite: 'lax' | 'strict' }) {
    this.#secure = options.https;
    this.#sameSite = options.sameSite === 'strict' ? 'Strict' : 'Lax';
    this.sessionName = options.https ? '__Host-session' : 'session';
    this.loginPrefix = options.https ? '__Host-login-' : 'login-';
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

  /** Whether there is one to clear: a browser that did not send its cookie may have had a reason, and must not lose it. */
  carriesSession(header: string | null | undefined): boolean {
    return cookiePairs(header).some(({ name }) => name === this.sessionName);
  }

  login(header: string | null | undefined, name: string): string | null {
    const values = cookiePairs(header).filter((pair) => pair.name === name);
    return values.length === 1 ? (values[0]?.value ?? null) : null;
  }

  loginNames(header: string | null | undefined): string[] {
    return cookiePairs(header).map(({ name }) => name).filter((name) => name.startsWith(this.loginPrefix));
  }

  /** The Cookie header without the gateway's own cookies, or null when nothing is left. */
  withoutOwn(header: string): string | null {
    // Some servers take a cookie without a name for a name without a value.
    const kept = cookiePairs(header).filter(({ name, value }) => !this.isOwn(name === '' ? (value.split('=', 1)[0] ?? '') : name)).map(({ text }) => text);
    return kept.length > 0 ? kept.join('; ') : null;
  }

  /** In any spelling of case: some servers compare cookie names without it. */
  isOwn(name: string): boolean {
    const lower = name.trim().toLowerCase();
    return lower === this.sessionName.toLowerCase() || lower.startsWith(this.loginPrefix.toLowerCase());
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

interface CookiePair { name: string; value: string; text: string }

/** The raw header, pair by pair (RFC 6265bis §5.6: a name ends at the first `=`); nothing is decoded or guessed. */
function cookiePairs(header: string | null | undefined): CookiePair[] {
  const pairs: CookiePair[] = [];
  for (const part of header ? header.split(';') : []) {
    const text = trimmed(part);
    const equals = text.indexOf('=');
    if (text !== '') pairs.push({ name: equals === -1 ? '' : trimmed(text.slice(0, equals)), value: equals === -1 ? text : trimmed(text.slice(equals + 1)), text });
  }
  return pairs;
}

/** Without space and tab at its ends: `trim` would also take off what is no white space to a browser, such as U+00A0. */
function trimmed(text: string): string {
  let [from, to] = [0, text.length];
  while (from < to && isBlank(text[from])) from++;
  while (to > from && isBlank(text[to - 1])) to--;
  return text.slice(from, to);
}

const isBlank = (character: string | undefined): boolean => character === ' ' || character === '\t';
