import { type HttpAnswer, HttpBrowser } from '@session-gateway/testkit';

/** What a person has in front of them. The last three must not be. */
export type Kind =
  'content' | 'login' | 'own' | 'problem' | 'nothing' | 'raw' | 'dead end' | 'loop';

export interface Shown {
  readonly kind: Kind;
  readonly url: string;
  readonly status: number;
  readonly text: string;
}

/** A tab: its history, and where in it the person is. */
export interface Tab {
  entries: Shown[];
  at: number;
}

/** Chromium gives up after 20; a person who is sent around so long is lost before. */
const MOST_HOPS = 12;
const BLANK: Shown = { kind: 'nothing', url: 'about:blank', status: 0, text: '' };

export interface Site {
  readonly gateway: string;
  readonly issuer: string;
}

/**
 * A browser as far as logins feel it: one cookie jar for all tabs, a history for each, redirects that leave no entry,
 * and pages that Back shows as they were left. The provider's page is the model's own: the stub behind it has none.
 */
export class ModelBrowser {
  readonly http: HttpBrowser;
  readonly tabs: Tab[] = [];
  /** Callbacks that led somewhere, which a person may reload or have as a bookmark. */
  readonly callbacks: string[] = [];
  /** Whether the provider knows this browser's person. */
  knownAtProvider = false;
  readonly #site: Site;
  readonly #keepsCookies: boolean;

  constructor(site: Site, { language, keepsCookies }: { language: string; keepsCookies: boolean }) {
    this.#site = site;
    this.#keepsCookies = keepsCookies;
    this.http = new HttpBrowser({ headers: { 'accept-language': language } });
  }

  newTab(): Tab {
    const tab: Tab = { entries: [], at: -1 };
    this.tabs.push(tab);
    return tab;
  }

  shownIn = ({ entries, at }: Tab): Shown => entries[at] ?? BLANK;

  get sessionCookie(): string | null {
    return this.http.cookies.get('session')?.value ?? null;
  }

  /** A navigation to a new entry, which drops those in front of it. */
  async open(tab: Tab, url: string, how: { method?: string } = {}): Promise<void> {
    const shown = await this.#load(url, how);
    tab.entries = [...tab.entries.slice(0, tab.at + 1), shown];
    tab.at = tab.entries.length - 1;
  }

  /** A navigation in the place of the entry: a reload, or a page that was not kept. */
  async replace(tab: Tab, url: string): Promise<void> {
    tab.entries[tab.at] = await this.#load(url, {});
  }

  /** The provider's page is sent: it answers as if nothing had happened since it was shown. */
  async submit(tab: Tab, answer: 'code' | 'expired' | 'denied' | 'broken'): Promise<void> {
    const { url } = this.shownIn(tab);
    if (answer === 'code') {
      this.knownAtProvider = true;
      return this.open(tab, url);
    }
    const asked = new URL(url).searchParams;
    const error = {
      expired: 'temporarily_unavailable',
      denied: 'access_denied',
      broken: 'server_error',
    };
    const back = new URL(asked.get('redirect_uri') ?? '');
    back.search = new URLSearchParams({
      error: error[answer],
      state: asked.get('state') ?? '',
      iss: this.#site.issuer,
    }).toString();
    return this.open(tab, back.href);
  }

  /** What the helper of a page asks that Back shows as it was left; such a page leaves when nobody is logged in. */
  async checkAfterBack(tab: Tab): Promise<void> {
    const { status } = await this.http.get(`${this.#site.gateway}/auth/session?extend=false`, {
      cookies: this.#keepsCookies,
    });
    if (status === 401) await this.replace(tab, `${this.#site.gateway}/auth/ended`);
  }

  close(): Promise<void> {
    return this.http.close();
  }

  async #load(url: string, { method = 'GET' }: { method?: string }): Promise<Shown> {
    let [to, how] = [new URL(url), method];
    for (let hop = 0; hop < MOST_HOPS; hop++) {
      if (this.#isProvider(to, 'auth') && !this.knownAtProvider)
        return { kind: 'login', url: to.href, status: 200, text: '' };
      if (this.#isProvider(to, 'logout')) this.knownAtProvider = false;
      const from = how === 'GET' ? {} : { from: new URL(this.#site.gateway) };
      const answer = await this.http.navigate(to, {
        method: how,
        cookies: this.#keepsCookies,
        ...from,
      });
      if (to.pathname === '/auth/callback' && answer.status === 302) this.callbacks.push(to.href);
      const next = answer.location;
      if (next === null) return { ...judged(answer, this.#site), url: to.href };
      [to, how] = [next, 'GET'];
    }
    return { kind: 'loop', url: to.href, status: 0, text: '' };
  }

  #isProvider(url: URL, endpoint: 'auth' | 'logout'): boolean {
    return url.href.startsWith(this.#site.issuer) && url.pathname.endsWith(`/${endpoint}`);
  }
}

/** A page of the gateway's own must have a link or a button that leads on. */
function judged({ url, status, headers, text }: HttpAnswer, { gateway }: Site): Omit<Shown, 'url'> {
  const type = String(headers['content-type'] ?? '');
  const shown = { status, text };
  if (/problem\+json/.test(type)) return { kind: 'raw', ...shown };
  if (url.origin !== gateway) return { kind: 'dead end', ...shown };
  if (/^\/(api|open)\//.test(url.pathname) && status === 200) return { kind: 'content', ...shown };
  const leadsOn = /<a [^>]*href="[^"]*"|<button /.test(text.split('<main')[1] ?? '');
  if (!type.startsWith('text/html') || !leadsOn) return { kind: 'dead end', ...shown };
  return { kind: status === 200 ? 'own' : 'problem', ...shown };
}
