export interface Cookie {
  name: string;
  value: string;
  /** The host that set it (without port: ports do not separate cookies), or its Domain attribute. */
  host: string;
  hostOnly: boolean;
  path: string;
  secure: boolean;
  httpOnly: boolean;
  sameSite: string | null;
  /** Null for a cookie of the browser's session. */
  expiresAt: Date | null;
}

/** What RFC 6265 §5 keeps and sends. SameSite is kept and not enforced; loopback counts as secure, as in browsers. */
export class CookieJar {
  #cookies: Cookie[] = [];

  /** Live cookies, all of them or those that go to `url`, longest path first. */
  list(url?: string | URL): Cookie[] {
    this.#cookies = this.#cookies.filter(
      ({ expiresAt }) => expiresAt === null || expiresAt.getTime() > Date.now(),
    );
    if (url === undefined) return [...this.#cookies];
    const to = new URL(url);
    return this.#cookies
      .filter((cookie) => isSentTo(cookie, to))
      .sort((a, b) => b.path.length - a.path.length);
  }

  get(name: string): Cookie | undefined {
    return this.list().find((cookie) => cookie.name === name);
  }

  /** Takes one `Set-Cookie` value that came from `url`. */
  take(header: string, url: string | URL): void {
    const from = new URL(url);
    const [pair = '', ...attributes] = header.split(';').map((part) => part.trim());
    const equals = pair.indexOf('=');
    if (equals < 1) return;
    const attribute = (name: string): string | null => {
      const found = attributes.findLast((text) => text.split('=')[0]?.toLowerCase() === name);
      return found === undefined ? null : found.slice(name.length + 1);
    };
    const domain = attribute('domain')?.replace(/^\./, '').toLowerCase() || null;
    if (domain !== null && from.hostname !== domain && !from.hostname.endsWith(`.${domain}`))
      return;
    const path = attribute('path');
    this.set({
      name: pair.slice(0, equals),
      value: pair.slice(equals + 1),
      host: domain ?? from.hostname,
      hostOnly: domain === null,
      path: path?.startsWith('/') ? path : defaultPath(from.pathname),
      secure: attribute('secure') !== null,
      httpOnly: attribute('httponly') !== null,
      sameSite: attribute('samesite'),
      expiresAt: expiry(attribute('max-age'), attribute('expires')),
    });
  }

  /** Puts a cookie in place of the one with its name, host and path. */
  set(cookie: Cookie): void {
    const same = (other: Cookie): boolean =>
      other.name === cookie.name && other.host === cookie.host && other.path === cookie.path;
    this.#cookies = [...this.#cookies.filter((other) => !same(other)), cookie];
  }

  /** Removes all cookies, or those with this name. */
  clear(name?: string): void {
    this.#cookies =
      name === undefined ? [] : this.#cookies.filter((cookie) => cookie.name !== name);
  }

  /** The `Cookie` header for a request to `url`; empty when there is none to send. */
  header(url: string | URL): string {
    return this.list(url)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
  }
}

function isSentTo(cookie: Cookie, url: URL): boolean {
  const host =
    url.hostname === cookie.host || (!cookie.hostOnly && url.hostname.endsWith(`.${cookie.host}`));
  const path =
    url.pathname === cookie.path ||
    url.pathname.startsWith(cookie.path.endsWith('/') ? cookie.path : `${cookie.path}/`);
  return (
    host &&
    path &&
    (!cookie.secure ||
      url.protocol === 'https:' ||
      ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname))
  );
}

function defaultPath(path: string): string {
  const end = path.lastIndexOf('/');
  return end <= 0 ? '/' : path.slice(0, end);
}

function expiry(maxAge: string | null, expires: string | null): Date | null {
  if (maxAge !== null && /^-?\d+$/.test(maxAge))
    return new Date(Date.now() + Number(maxAge) * 1000);
  const date = new Date(expires ?? NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}
