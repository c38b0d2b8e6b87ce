import type { Random } from '../harness/random.js';
import { ModelBrowser, type Shown, type Site, type Tab } from './modelBrowser.js';

/** What a walk has come across that nobody should. */
export interface Fault {
  readonly what: 'raw' | 'loop' | 'dead end' | 'login nobody asked for';
  readonly step: string;
  readonly at: string;
}

export interface Walk {
  readonly steps: readonly string[];
  readonly faults: readonly Fault[];
  readonly logins: number;
}

export interface World extends Site {
  /** Ends a session of this browser as another device or an administrator does. */
  endElsewhere(browser: ModelBrowser): Promise<void>;
}

/** Whether a login may come of a step: the person opened what is behind one, or asked for it. */
type Step = readonly [name: string, mayLogIn: boolean, take: () => Promise<void>];

const STEPS = 25;
const LANGUAGES = ['en', 'de-CH,de;q=0.9', 'ar', 'ja', 'fr', 'tlh'];
const PAGES = ['/api/page', '/api/page?a=1&b=%20', '/api/orders/7#/lines/2'];
const BROKEN = ['/nothing', '/api/admin/x', '/gone/x', '/api/x%2Fy', '/auth/login?return_to=//x'];

/** One person's way through tabs, Back, bookmarks and time. The random numbers decide all of it. */
export async function walk(world: World, random: Random): Promise<Walk> {
  const browser = new ModelBrowser(world, {
    language: random.pick(LANGUAGES),
    keepsCookies: !random.chance(0.05),
  });
  const person = new Person(world, random, browser);
  const steps: string[] = [];
  const faults: Fault[] = [];
  let logins = 0;
  for (let i = 0; i < STEPS; i++) {
    const [name, mayLogIn, take] = person.choose();
    const before = browser.sessionCookie;
    await take();
    const after = browser.sessionCookie;
    steps.push(name);
    const isLogin = after !== null && after !== before;
    logins += isLogin ? 1 : 0;
    const at = (shown: Shown): string => `${shown.status} ${shown.url.slice(0, 160)}`;
    if (isLogin && !mayLogIn)
      faults.push({ what: 'login nobody asked for', step: name, at: before ?? 'no session' });
    for (const shown of browser.tabs.map(browser.shownIn))
      if (shown.kind === 'raw' || shown.kind === 'loop' || shown.kind === 'dead end')
        faults.push({ what: shown.kind, step: name, at: at(shown) });
    if (faults.length > 0) break;
  }
  await browser.close();
  return { steps, faults, logins };
}

class Person {
  readonly #world: World;
  readonly #random: Random;
  readonly #browser: ModelBrowser;
  readonly #bookmarks: string[] = [];

  constructor(world: World, random: Random, browser: ModelBrowser) {
    this.#world = world;
    this.#random = random;
    this.#browser = browser;
  }

  choose(): Step {
    const random = this.#random;
    const { tabs } = this.#browser;
    const tab = tabs.length === 0 ? this.#browser.newTab() : random.pick(tabs);
    const possible = [...this.#anywhere(tab), ...this.#here(tab)];
    return random.pick(possible);
  }

  /** What can be done whatever is shown. */
  #anywhere(tab: Tab): Step[] {
    const { gateway } = this.#world;
    const [random, browser] = [this.#random, this.#browser];
    const open = (to: Tab, path: string) => () => browser.open(to, gateway + path);
    const another = (): Tab => (browser.tabs.length < 4 ? browser.newTab() : tab);
    const steps: Step[] = [
      ['open a page', true, open(tab, random.pick(PAGES))],
      ['open a page in a new tab', true, () => open(another(), random.pick(PAGES))()],
      ['open the start page', false, open(tab, '/')],
      ['open the account page', true, open(tab, '/account')],
      ['open what is broken', true, open(tab, random.pick(BROKEN))],
      ['restore all tabs', true, () => this.#restoreAll()],
      ['wait for two hours', false, () => this.#waitLong()],
      ['be ended elsewhere', false, () => this.#world.endElsewhere(browser)],
    ];
    if (this.#bookmarks.length > 0)
      steps.push(['open a bookmark', true, () => browser.open(tab, random.pick(this.#bookmarks))]);
    if (browser.callbacks.length > 0)
      steps.push([
        'reload a callback',
        true,
        () => browser.open(tab, random.pick(browser.callbacks)),
      ]);
    return steps;
  }

  /** What can be done with what the tab shows. */
  #here(tab: Tab): Step[] {
    const [random, browser] = [this.#random, this.#browser];
    const shown = browser.shownIn(tab);
    if (shown.kind === 'nothing') return [];
    const isProtected = shown.kind === 'login' || !/\/(auth\/\w+-?\w*|)$/.test(shown.url);
    const steps: Step[] = [
      ['reload', isProtected, () => browser.replace(tab, shown.url)],
      ['keep a bookmark', false, async () => void this.#bookmarks.push(shown.url)],
    ];
    if (tab.at > 0) steps.push(['go back', true, () => this.#travel(tab, -1)]);
    if (tab.at < tab.entries.length - 1)
      steps.push(['go forward', true, () => this.#travel(tab, 1)]);
    if (shown.kind === 'login') {
      const wrong = random.pick(['expired', 'denied', 'broken'] as const);
      const submit: Step = ['log in at the provider', true, () => browser.submit(tab, 'code')];
      steps.push(submit, submit, submit, submit);
      steps.push([`be refused there (${wrong})`, true, () => browser.submit(tab, wrong)]);
    }
    const way = /<main[\s\S]*?<a [^>]*href="([^"]*)"/.exec(shown.text)?.[1];
    if (way !== undefined && (shown.kind === 'own' || shown.kind === 'problem')) {
      const to = new URL(way.replaceAll('&#38;', '&'), shown.url).href;
      steps.push(['take the way on', true, () => browser.open(tab, to)]);
    }
    if (shown.text.includes('action="/auth/logout'))
      steps.push(['log out', false, () => this.#logOut(tab)]);
    return steps;
  }

  #logOut(tab: Tab): Promise<void> {
    return this.#browser.open(tab, `${this.#world.gateway}/auth/logout`, { method: 'POST' });
  }

  /** Back and Forward: the page as it was left, or asked for again. */
  async #travel(tab: Tab, by: 1 | -1): Promise<void> {
    tab.at += by;
    const shown = this.#browser.shownIn(tab);
    if (!this.#random.chance(0.5)) return this.#browser.replace(tab, shown.url);
    if (shown.kind === 'content' || shown.kind === 'own') await this.#browser.checkAfterBack(tab);
  }

  /** As a browser does that is started again: every tab asks at once. */
  async #restoreAll(): Promise<void> {
    await Promise.all(
      this.#browser.tabs
        .filter((tab) => tab.at >= 0)
        .map((tab) => this.#browser.replace(tab, this.#browser.shownIn(tab).url)),
    );
  }

  /** Nobody is known anywhere any more, and the cookies of logins are too old. */
  async #waitLong(): Promise<void> {
    await this.#world.endElsewhere(this.#browser);
    this.#browser.knownAtProvider = false;
    const { cookies } = this.#browser.http;
    for (const { name } of cookies.list()) if (name.startsWith('login-')) cookies.clear(name);
  }
}
