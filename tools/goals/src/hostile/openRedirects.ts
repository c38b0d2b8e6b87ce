import { createServer, request as nodeRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type Browser,
  type Cluster,
  type HttpAnswer,
  HttpBrowser,
  openBrowser,
  type Page,
  type Request,
  startCluster,
  storm,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { bentText, joined } from './input/grammar.js';
import type { Random } from '../harness/random.js';

const EVIL = 'evil.example';
/** Bytes of name and value that every browser keeps (RFC 6265 §6.1). */
const MOST_COOKIE = 4_096;
/** What may stand before a host so that a lenient reader takes it for one. */
const STARTS = [
  '',
  '/',
  '//',
  '///',
  '////',
  '/\\',
  '\\',
  '\\\\',
  '\\/',
  '/\\/',
  '/./',
  '/.//',
  '/..//',
  '/./\\',
  '/a/..//',
  '/%2e//',
  '/%2e%2e//',
  '/;//',
  '/:/',
  '/@',
  '//@',
  '/%2f',
  '/%2f/',
  '/%5c',
  '/%5c/',
  '%2f%2f',
  '/%09/',
  '/%0a/',
  '/%0d/',
  '/\t/',
  '/\n/',
  '/\r/',
  '\t//',
  ' //',
  '\n//',
  '\0//',
  '/\0/',
  '\u00a0//',
  '\ufeff//',
  '/\u00ad/',
  '/\u200b/',
  '\uff0f\uff0f',
  '/\uff0f',
  '\u3002',
  '/\u3002/',
  '/\uff3c',
  '\u2215\u2215',
  'https://',
  'https:',
  'https:/',
  'https:///',
  'http:\\\\',
  'HTTPS://',
  'ht\ttps://',
  '\x01https://',
  'https://[',
  '//user:pass@',
  '/ /',
  '/%20/',
  '///\\;@',
  '/?//',
  '/#//',
  '.',
  '..//',
  './/',
  '/%',
  '/%00/',
  '/%ff//',
  'javascript://',
  'data://',
  'ftp://',
  'blob:https://',
  'view-source:https://',
];
const HOSTS = [
  EVIL,
  EVIL.toUpperCase(),
  `a.${EVIL}`,
  `${EVIL}:443`,
  `user@${EVIL}`,
  `OURS@${EVIL}`,
  `OURS.${EVIL}`,
  `${EVIL}\\@OURS`,
  `${EVIL}#@OURS`,
  `${EVIL}%23@OURS`,
  `${EVIL}?OURS`,
  `${EVIL}%00.OURS`,
  '[::ffff:198.51.100.7]',
  '198.51.100.7',
  '3325256711',
  '0xc6336407',
  'evil\u3002example',
  '\uff45vil.example',
  'e\u00advil.example',
  'evil%2eexample',
];
const TAILS = [
  '',
  '/',
  '/path',
  '/%2e%2e',
  '/..',
  '?next=/',
  '#/x',
  '//',
  '\\',
  '/;x',
  '%0d%0aLocation:%20//evil.example',
  '\r\nLocation: //evil.example',
  '%0d%0a%0d%0a<script>',
  '" onload="x',
  "'><a href=//evil.example>",
  ';url=//evil.example',
  '\u2028',
];
/** Texts that are as they should be, for the gateway to have something to go to, whole or with a piece put in. */
const SOUND = [
  '/',
  '/api/x',
  '/account',
  '/a/b?c=d#e',
  '/api/x?next=//evil.example',
  '/api/%E2%82%AC',
  '/api/x#//evil.example',
  '/api/x?u=https://evil.example/',
  '/a;b=c/d',
  "/api/x?q='",
  '/api/x?q="><x',
  '/api/0;url=x',
];

function template(random: Random): string {
  const pieces = [...STARTS, ...TAILS, EVIL];
  if (random.chance(0.15)) return random.pick(SOUND);
  if (random.chance(0.2)) return bentText(random, random.pick(SOUND), pieces);
  if (random.chance(0.15)) return `/${joined(random, pieces, 6)}`;
  return random.pick(STARTS) + random.pick(HOSTS) + random.pick(TAILS);
}

const payload = (random: Random, ours: string): string =>
  template(random)
    .replaceAll('OURS', ours)
    .replace(/[\ud800-\udfff]/g, '');

/** Where a browser goes from `base`, by the WHATWG URL parser; null: no address at all, it stays. */
const leaves = (location: string, base: string): boolean =>
  URL.canParse(location, base) && new URL(location, base).origin !== new URL(base).origin;

/** Through the provider, and back to the callback. */
async function wayBack(
  person: HttpBrowser,
  location: string | URL,
  ours: string,
): Promise<HttpAnswer> {
  const callback = await person.navigate(location);
  return person.navigate(callback.location ?? ours);
}

await runGoal('B3', async ({ full, random, progress }) => {
  const most = { payloads: full ? 20_000 : 2_500, shown: full ? 1_500 : 300 };
  const start = (sameSite: string): Promise<Cluster> =>
    startCluster({
      redis: false,
      env: { SESSION_COOKIE_SAMESITE: sameSite, RATE_LIMIT_LOGIN: '0', RATE_LIMIT_CALLBACK: '0' },
    });
  const [lax, strict] = await Promise.all([start('lax'), start('strict')]);
  const browser = await openBrowser();
  const naive = naiveSite();
  try {
    await new Promise<void>((resolve) => naive.listen(0, '127.0.0.1', resolve));
    const naiveUrl = `http://127.0.0.1:${(naive.address() as AddressInfo).port}`;
    const ours = lax.url;
    const payloads = new Set<string>();
    while (payloads.size < most.payloads) payloads.add(payload(random, new URL(ours).host));
    const all = [...payloads];
    const counts = { payloads: 0, refused: 0, followed: 0, left: 0, targets: 0, odd: 0 };
    const examples: string[] = [];
    const note = (what: string): void => {
      if (examples.length < 5) examples.push(what);
    };
    const accepted: string[] = [];

    await storm(
      all.length,
      async (i) => {
        const text = all[i] as string;
        counts.payloads++;
        progress(() => `${counts.payloads} of ${all.length} payloads, ${counts.left} leave`);
        const person = new HttpBrowser();
        const login = `${ours}/auth/login?return_to=${encodeURIComponent(text)}`;
        const start = await person.navigate(login);
        if (start.status === 400 || start.status === 414) counts.refused++;
        else if (start.status !== 302 || !start.location) {
          counts.odd++;
          note(`${JSON.stringify(text).slice(0, 200)}: ${start.status}`);
        } else {
          accepted.push(text);
          // Through the provider and back: what counts is the last answer's own field.
          let end = await wayBack(person, start.location, ours);
          // A machine that is too busy says nothing of where a login leads: a person tries again.
          for (let left = 5; end.status === 503 && left > 0; left--) {
            const again = await person.navigate(login);
            end = await wayBack(person, again.location ?? ours, ours);
          }
          if (
            start.setCookies.some((cookie) => (cookie.split(';', 1)[0] ?? '').length > MOST_COOKIE)
          ) {
            counts.odd++;
            note(`${JSON.stringify(text)} makes a cookie that no browser keeps`);
          }
          const location = String(end.headers['location'] ?? '');
          counts.followed++;
          if (end.status !== 302 || location === '') {
            counts.odd++;
            note(`${JSON.stringify(text)} comes back with ${end.status}`);
          }
          if (leaves(location, `${ours}/auth/callback`)) {
            counts.left++;
            note(`${JSON.stringify(text)} leads to ${location}`);
          }
        }
        // The same as the address itself, by somebody who is not logged in: they are sent to the login, and back.
        const seen = await navigatesTo(ours, text);
        if (seen !== null) {
          counts.targets++;
          if (leaves(seen, `${ours}/x`)) {
            counts.left++;
            note(`as an address, ${JSON.stringify(text)} leads to ${seen}`);
          }
        }
        return 'done';
      },
      { parallel: 8 },
    );

    // Sound ones and those that were let through are what a browser has anything to go by for.
    const sample = [...accepted.slice(0, most.shown * 0.7), ...all].slice(0, most.shown);
    const shown = await visit(browser, sample, [ours, strict.url], progress);
    for (const text of shown.left) note(`in Chromium, ${JSON.stringify(text)} leaves`);
    const leaving = all.filter((text) => text.startsWith('/') && leaves(text, `${naiveUrl}/x`));
    const control = await visit(browser, leaving.slice(0, 30), [naiveUrl], progress);
    const passed =
      counts.left === 0 &&
      counts.odd === 0 &&
      shown.left.length === 0 &&
      counts.payloads >= 2_000 &&
      counts.refused > 500 &&
      counts.followed > 200 &&
      shown.visited >= 300 &&
      shown.home > 100 &&
      shown.nowhere < 30 &&
      leaving.length > 20 &&
      control.left.length > 10;
    return {
      passed,
      ...counts,
      inChromium: shown.visited,
      reachedInChromium: shown.home,
      nowhereInChromium: shown.nowhere,
      leftInChromium: shown.left.length,
      control: {
        'a check for one slash, by the parser': leaving.length,
        'a check for one slash, in Chromium': control.left.length,
      },
      ...(examples.length > 0 ? { examples } : {}),
    };
  } finally {
    await browser.close();
    naive.close();
    await Promise.all([lax.dispose(), strict.dispose()]);
  }
});

/**
 * Logs in with each text in Chromium, in turn at each site, and sees where that leads; requests to
 * anywhere else go no further.
 */
async function visit(
  browser: Browser,
  texts: readonly string[],
  sites: readonly string[],
  progress: (line: () => string) => void,
): Promise<{ visited: number; home: number; nowhere: number; left: string[] }> {
  const outcome = { visited: 0, home: 0, nowhere: 0, left: [] as string[] };
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on('dialog', (dialog) => void dialog.dismiss());
  for (const [i, text] of texts.entries()) {
    const site = sites[i % sites.length] as string;
    let end = await visitOnce(page, text, site, sites);
    for (let again = 0; end === 'nowhere' && again < 3; again++)
      end = await visitOnce(page, text, site, sites);
    outcome.visited++;
    if (end === 'left') outcome.left.push(text);
    // An address that is too long for a server gets no page.
    else if (end === 'nowhere') outcome.nowhere++;
    else if (end === 'home') outcome.home++;
    progress(
      () => `${outcome.visited} of ${texts.length} in Chromium, ${outcome.left.length} leave`,
    );
  }
  await context.close();
  return outcome;
}

/** Left for an address that is neither the site nor its provider; came home; was refused; or got nowhere at all. */
async function visitOnce(
  page: Page,
  text: string,
  site: string,
  sites: readonly string[],
): Promise<'left' | 'home' | 'refused' | 'nowhere'> {
  await page.context().clearCookies();
  let elsewhere = false;
  // Redirects are seen here and nowhere else; the names that they lead to do not exist, and the
  // addresses belong to nobody.
  const onRequest = (asked: Request): void => {
    if (
      asked.isNavigationRequest() &&
      /^https?:/.test(asked.url()) &&
      !sites.includes(new URL(asked.url()).origin) &&
      !asked.url().includes('/realms/')
    )
      elsewhere = true;
  };
  page.on('request', onRequest);
  await page
    .goto(`${site}/auth/login?return_to=${encodeURIComponent(text)}`, {
      waitUntil: 'commit',
      timeout: 10_000,
    })
    .catch(() => undefined);
  // The strict site's page goes on by itself.
  if (new URL(page.url()).pathname === '/auth/callback')
    await page
      .waitForURL((url) => url.pathname !== '/auth/callback', { timeout: 10_000 })
      .catch(() => undefined);
  page.off('request', onRequest);
  const at = new URL(page.url());
  if (elsewhere) return 'left';
  if (at.origin === site) return at.pathname === '/auth/login' ? 'refused' : 'home';
  // At the other site the end of the visit before came late, and this one has not even begun.
  return /^https?:$/.test(at.protocol) &&
    !sites.includes(at.origin) &&
    !at.pathname.startsWith('/realms/')
    ? 'left'
    : 'nowhere';
}

/** The Location field that a request for this very address gets; null: none, or an address that no client can send. */
function navigatesTo(site: string, target: string): Promise<string | null> {
  if (!/^\/[!-~]*$/.test(target)) return Promise.resolve(null);
  return new Promise((resolve, reject) => {
    const asked = nodeRequest(
      site,
      { path: target, headers: { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' } },
      (answer) => {
        answer.resume();
        resolve(answer.headers.location ?? null);
      },
    );
    asked.on('error', reject);
    asked.end();
  });
}

/** What many sites do: an address that begins with a slash is taken for one of theirs. */
function naiveSite() {
  return createServer((request, response) => {
    const to = new URLSearchParams(request.url?.split('?')[1]).get('return_to');
    if (!to?.startsWith('/')) return response.writeHead(to === null ? 200 : 400).end();
    return response
      .writeHead(302, {
        Location: Buffer.from(to)
          .toString('latin1')
          .replace(/[^\t\x20-\x7e\x80-\xff]/g, ''),
      })
      .end();
  });
}
