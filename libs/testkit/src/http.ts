import { Agent, request } from 'undici';
import { CookieJar } from './cookieJar.js';

export interface HttpAnswer {
  url: URL;
  status: number;
  /** Lower-case names; several values of one name are an array. */
  headers: Record<string, string | string[] | undefined>;
  /** Each `Set-Cookie` value. */
  setCookies: string[];
  /** Where a redirect points, made absolute; null for any other answer. */
  location: URL | null;
  text: string;
  /** The body as JSON; throws when it is none. */
  json(): unknown;
}

export interface HttpRequest {
  headers?: Record<string, string>;
  /** A form, text or bytes as they are, or an object to send as JSON. */
  body?: URLSearchParams | string | Buffer | object;
  /** Default true; false leaves the jar out of this request and its answer. */
  cookies?: boolean;
}

const MOST_REDIRECTS = 20;
const MOST_FORMS = 5;

/**
 * What a test needs of a browser: cookies, navigation headers, HTML forms. It follows redirects only where the method's
 * name says so, runs no scripts and fetches no subresources.
 */
export class HttpBrowser {
  readonly cookies = new CookieJar();
  readonly #agent: Agent;
  readonly #headers: Record<string, string>;

  /** `ca`: a certificate to trust, PEM. */
  constructor(options: { headers?: Record<string, string>; ca?: string } = {}) {
    this.#agent = new Agent({
      keepAliveTimeout: 1_000,
      ...(options.ca === undefined ? {} : { connect: { ca: options.ca } }),
    });
    this.#headers = { 'user-agent': 'testkit', ...options.headers };
  }

  /** One request, exactly these headers and the jar's cookies; redirects are not followed. */
  async request(method: string, url: string | URL, options: HttpRequest = {}): Promise<HttpAnswer> {
    const to = new URL(url);
    const keepsCookies = options.cookies ?? true;
    const cookie = keepsCookies ? this.cookies.header(to) : '';
    const { body, type } = encode(options.body);
    const answer = await request(to, {
      method: method as 'GET',
      dispatcher: this.#agent,
      headers: {
        ...this.#headers,
        ...(cookie ? { cookie } : {}),
        ...(type ? { 'content-type': type } : {}),
        ...options.headers,
      },
      ...(body === undefined ? {} : { body }),
    });
    const setCookies = [answer.headers['set-cookie'] ?? []].flat();
    if (keepsCookies) for (const header of setCookies) this.cookies.take(header, to);
    const text = await answer.body.text();
    const { location } = answer.headers;
    const redirects =
      answer.statusCode >= 300 && answer.statusCode < 400 && typeof location === 'string';
    return {
      url: to,
      status: answer.statusCode,
      headers: answer.headers,
      setCookies,
      text,
      location: redirects ? new URL(location, to) : null,
      json: () => JSON.parse(text) as unknown,
    };
  }

  /** As a script of the page does it: same origin, not followed. */
  get(url: string | URL, options: HttpRequest = {}): Promise<HttpAnswer> {
    return this.request('GET', url, {
      ...options,
      headers: { ...scriptHeaders(), ...options.headers },
    });
  }

  post(
    url: string | URL,
    body?: HttpRequest['body'],
    options: HttpRequest = {},
  ): Promise<HttpAnswer> {
    return this.unsafe('POST', url, { ...options, ...(body === undefined ? {} : { body }) });
  }

  delete(url: string | URL, options: HttpRequest = {}): Promise<HttpAnswer> {
    return this.unsafe('DELETE', url, options);
  }

  /** One step of a top-level navigation, not followed; `from` is the page whose link or form leads there. */
  navigate(
    url: string | URL,
    options: HttpRequest & { method?: string; from?: URL } = {},
  ): Promise<HttpAnswer> {
    const { method = 'GET', from, ...rest } = options;
    const headers = {
      accept: 'text/html,*/*;q=0.8',
      'sec-fetch-dest': 'document',
      'sec-fetch-mode': 'navigate',
      'sec-fetch-site': relation(from, new URL(url)),
      ...(method === 'GET' ? {} : { origin: from?.origin ?? 'null' }),
      ...options.headers,
    };
    return this.request(method, url, { ...rest, headers });
  }

  /** Follows redirects from an answer to the first that is none. */
  async follow(answer: HttpAnswer, options: { from?: URL } = {}): Promise<HttpAnswer> {
    let last = answer;
    for (let step = 0; last.location; step += 1) {
      if (step === MOST_REDIRECTS)
        throw new Error(`more than ${MOST_REDIRECTS} redirects, the last to ${last.location.href}`);
      last = await this.navigate(last.location, options);
    }
    return last;
  }

  /** Submits the page's form with its hidden fields and those of `values` that it has, and follows. */
  async submit(page: HttpAnswer, values: Record<string, string>): Promise<HttpAnswer> {
    const form = formOf(page);
    if (!form) throw new Error(`no form on ${page.url.href}`);
    const fields = new URLSearchParams(form.hidden);
    for (const [name, value] of Object.entries(values))
      if (form.names.includes(name)) fields.set(name, value);
    return this.follow(
      await this.navigate(form.action, { method: 'POST', body: fields, from: page.url }),
      { from: page.url },
    );
  }

  /**
   * Logs in at the gateway through the provider's own pages (Keycloak's, or the development provider's) and resolves
   * with the page at `returnTo`. With a live session at the provider no form is met. Throws when the provider refuses.
   */
  async loginThroughKeycloak(
    gatewayUrl: string,
    username: string,
    password: string,
    options: { returnTo?: string } = {},
  ): Promise<HttpAnswer> {
    const start = new URL('/auth/login', gatewayUrl);
    start.searchParams.set('return_to', options.returnTo ?? '/');
    return this.loginAt(start, username, password);
  }

  /** The same from any address that leads to the provider's login page. */
  async loginAt(start: string | URL, username: string, password: string): Promise<HttpAnswer> {
    let page = await this.follow(await this.navigate(start));
    let asked = false;
    for (let step = 0; step < MOST_FORMS && page.url.pathname.includes('/realms/'); step += 1) {
      const form = formOf(page);
      const asks = form?.names.includes('password') ?? false;
      if (!form || (asked && asks))
        throw new Error(`the provider refused ${username}: ${page.status} ${textOf(page)}`);
      asked ||= asks;
      page = await this.submit(page, { username, password });
    }
    return page;
  }

  /** Closes its connections; once they are closed there is nothing more to do. */
  async close(): Promise<void> {
    if (!this.#agent.closed && !this.#agent.destroyed) await this.#agent.close();
  }

  private unsafe(method: string, url: string | URL, options: HttpRequest): Promise<HttpAnswer> {
    return this.request(method, url, {
      ...options,
      headers: { ...scriptHeaders(), origin: new URL(url).origin, ...options.headers },
    });
  }
}

function scriptHeaders(): Record<string, string> {
  return {
    accept: 'application/json',
    'sec-fetch-dest': 'empty',
    'sec-fetch-mode': 'cors',
    'sec-fetch-site': 'same-origin',
  };
}

/** `Sec-Fetch-Site` for hosts without a shared registrable domain; `none` where the user typed the address. */
function relation(from: URL | undefined, to: URL): string {
  if (!from) return 'none';
  if (from.origin === to.origin) return 'same-origin';
  return from.hostname === to.hostname && from.protocol === to.protocol
    ? 'same-site'
    : 'cross-site';
}

function encode(body: HttpRequest['body']): { body?: string | Buffer; type?: string } {
  if (body === undefined) return {};
  if (body instanceof URLSearchParams)
    return { body: body.toString(), type: 'application/x-www-form-urlencoded' };
  if (typeof body === 'string' || Buffer.isBuffer(body)) return { body };
  return { body: JSON.stringify(body), type: 'application/json' };
}

interface Form {
  action: URL;
  hidden: Record<string, string>;
  names: string[];
}

/** The page's form that asks for a password, else its first that posts. */
function formOf(page: HttpAnswer): Form | null {
  const forms = [...page.text.matchAll(/<form\b([^>]*)>([\s\S]*?)<\/form>/gi)]
    .filter(([, attributes = '']) => attributeOf(attributes, 'method')?.toLowerCase() === 'post')
    .map(([, attributes = '', content = '']) => {
      const inputs = [...content.matchAll(/<(?:input|button)\b([^>]*)>/gi)].map(
        ([, input = '']) => input,
      );
      const hidden = inputs.filter(
        (input) => attributeOf(input, 'type')?.toLowerCase() === 'hidden',
      );
      return {
        action: new URL(attributeOf(attributes, 'action') || page.url.href, page.url),
        hidden: Object.fromEntries(
          hidden.map((input) => [
            attributeOf(input, 'name') ?? '',
            attributeOf(input, 'value') ?? '',
          ]),
        ),
        names: inputs.map((input) => attributeOf(input, 'name') ?? ''),
      };
    });
  return forms.find(({ names }) => names.includes('password')) ?? forms[0] ?? null;
}

function attributeOf(tag: string, name: string): string | null {
  const found = new RegExp(`(?:^|\\s)${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i').exec(
    tag,
  );
  return found ? unescapeHtml(found[1] ?? found[2] ?? found[3] ?? '') : null;
}

function unescapeHtml(text: string): string {
  const named: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
  return text.replace(
    /&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi,
    (whole, decimal?: string, hex?: string, name?: string) => {
      if (decimal) return String.fromCodePoint(Number(decimal));
      if (hex) return String.fromCodePoint(parseInt(hex, 16));
      return named[name ?? ''] ?? whole;
    },
  );
}

function textOf(page: HttpAnswer): string {
  return page.text
    .replace(/<(script|style)[\s\S]*?<\/\1>/gi, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 300);
}
