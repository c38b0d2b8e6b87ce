import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  type Browser,
  describeWith,
  type HttpAnswer,
  HttpBrowser,
  openBrowser,
} from '@session-gateway/testkit';
import axe from 'axe-core';
import { problemCode, type Stack, startStack } from './stack.js';

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><style>rect { fill: #00539c }</style><rect width="80" height="40" rx="8"/><script>document.documentElement.setAttribute("data-ran", "yes"); fetch("/auth/session")</script></svg>';
const TAGS = ['en', 'de', 'fr', 'es', 'ja', 'ar'];

let stack: Stack;
let folder: string;
let admin: HttpBrowser;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'brand-'));
  writeFileSync(join(folder, 'logo.svg'), LOGO);
  stack = await startStack({
    redis: false,
    env: {
      BRAND_NAME: 'Müller & <b>Söhne',
      BRAND_LOGO_FILE: join(folder, 'logo.svg'),
      BRAND_COLOR: '#00539c',
      HOME_URL: '/open/home',
    },
  });
  admin = await stack.login('admin');
});
afterAll(async () => {
  await stack.dispose();
  rmSync(folder, { recursive: true });
});

const adminAt = (query: Record<string, string> = {}, path = ''): string =>
  `${stack.url}/account/admin${path}?${new URLSearchParams(query).toString()}`;

describe("a page for people shows the application's face", () => {
  const PAGES = ['/', '/account', '/nothing', '/auth/ended', '/auth/logged-out', '/account/admin'];

  test.each(PAGES)('at %s', async (path) => {
    const { text, headers } = await admin.navigate(stack.url + path);
    expect(text).toContain('· Müller &#38; &#60;b&#62;Söhne</title>');
    expect(text).toContain(`<a class="brand" href="${stack.url}/open/home">`);
    expect(text).toContain(`<img src="${stack.url}/auth/logo" alt="">`);
    expect(text).not.toContain('<b>');
    expect(headers['content-security-policy']).toContain(`img-src data: ${stack.url};`);
  });

  test('in a frame too', async () => {
    const { text } = await admin.navigate(`${stack.url}/auth/login`, {
      headers: { 'sec-fetch-dest': 'iframe' },
    });
    expect(text).toContain('class="brand"');
  });

  test('and a picture that runs nothing', async () => {
    const { status, headers, text } = await admin.get(`${stack.url}/auth/logo`);
    expect([status, headers['content-type'], text]).toEqual([200, 'image/svg+xml', LOGO]);
    expect(headers['content-security-policy']).toMatch(/default-src 'none'.*; sandbox$/);
    expect(headers['x-content-type-options']).toBe('nosniff');
  });
});

describe('the provider is told', () => {
  const askedWith = async (query: string, accepted?: string): Promise<string | null> => {
    const browser = new HttpBrowser();
    const { location } = await browser.navigate(`${stack.url}/auth/login?${query}`, {
      headers: accepted === undefined ? {} : { 'accept-language': accepted },
    });
    await browser.close();
    return location?.searchParams.get('ui_locales') ?? null;
  };

  test('the languages of the browser, where the login says none', async () => {
    expect(await askedWith('', 'da, de-CH;q=0.9, en;q=0.8')).toBe('da de-CH en');
    expect(await askedWith('ui_locales=fr', 'da')).toBe('fr');
    expect(await askedWith('')).toBeNull();
    expect(await askedWith('', '*')).toBeNull();
  });

  test('and a page about the login speaks what it asked for', async () => {
    const browser = new HttpBrowser({ headers: { 'accept-language': 'ja' } });
    const { location } = await browser.navigate(`${stack.url}/auth/login?ui_locales=tlh+fr`);
    const query = new URLSearchParams({
      error: 'access_denied',
      state: location?.searchParams.get('state') ?? '',
      iss: stack.provider!.issuer,
    });
    const refused = await browser.navigate(`${stack.url}/auth/callback?${query}`);
    expect([refused.status, /<html lang="(\w+)"/.exec(refused.text)?.[1]]).toEqual([400, 'fr']);
    const other = await browser.navigate(`${stack.url}/auth/login?return_to=//x&ui_locales=de`);
    expect(/<html lang="(\w+)"/.exec(other.text)?.[1]).toBe('de');
    await browser.close();
  });
});

describe("the administrator's page", () => {
  const reasonOf = async (id: string): Promise<string | undefined> =>
    (
      await stack.sql<{ end_reason: string }>(
        'SELECT end_reason FROM user_sessions WHERE id = $1 AND NOT is_active',
        [id],
      )
    )[0]?.end_reason;

  test('is for administrators, and leads others to the login or says so', async () => {
    const [person, nobody] = [await stack.login('pat'), new HttpBrowser()];
    for (const path of ['', '/end']) {
      const refused = await person.navigate(adminAt({ sub: 'x' }, path));
      expect([refused.status, problemCode(refused)]).toEqual([403, 'forbidden']);
      const led = await nobody.navigate(adminAt({ sub: 'x' }, path));
      expect([led.status, led.location?.pathname]).toEqual([302, '/auth/login']);
      expect(led.location?.searchParams.get('return_to')).toBe(`/account/admin${path}?sub=x`);
    }
    const form = new URLSearchParams({ sub: 'x' });
    expect((await person.post(adminAt({}, '/end'), form)).status).toBe(403);
    const forged = await admin.post(adminAt({}, '/end'), form, {
      headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    });
    expect([forged.status, problemCode(forged)]).toEqual([403, 'csrf_rejected']);
    expect((await person.navigate(`${stack.url}/account`)).text).not.toContain('/account/admin');
    expect((await admin.navigate(`${stack.url}/account`)).text).toContain('/account/admin');
    await Promise.all([person.close(), nobody.close()]);
  });

  test('finds a person by user name, e-mail address and subject, in full and in either case', async () => {
    const { subject } = await stack.session('find.me');
    for (const q of ['find.me', 'FIND.ME', 'find.me@example.com', 'Find.Me@Example.com', subject]) {
      const { status, text } = await admin.navigate(adminAt({ q: ` ${q} ` }));
      expect([q, status, text.includes(subject)]).toEqual([q, 200, true]);
    }
    for (const q of ['find.m', '%', "' OR 1=1 --", 'x'.repeat(3_000), '<script>']) {
      const { status, text } = await admin.navigate(adminAt({ q }));
      expect([q, status, text.includes('Nobody is known by that')]).toEqual([q, 200, true]);
      expect(text).not.toContain('<script>');
    }
    await stack.sql("UPDATE users SET email = 'shared@example.com' WHERE keycloak_id = $1", [
      subject,
    ]);
    const { subject: other } = await stack.session('another');
    await stack.sql("UPDATE users SET email = 'Shared@example.com' WHERE keycloak_id = $1", [
      other,
    ]);
    const both = await admin.navigate(adminAt({ q: 'shared@example.com' }));
    expect([both.text.includes(subject), both.text.includes(other)]).toEqual([true, true]);
    expect((await admin.navigate(adminAt({ sub: 'nobody' }))).status).toBe(404);
  });

  test('ends one session or all of a person, once that is confirmed, and says so', async () => {
    const [one, two, three] = [
      await stack.session('to-end'),
      await stack.session('to-end'),
      await stack.session('to-end'),
    ];
    const sub = one.subject;
    const asked = await admin.navigate(adminAt({ sub, id: one.id }, '/end'));
    expect(asked.text).toContain('End this session of');
    expect(await reasonOf(one.id)).toBeUndefined();
    const end = async (form: Record<string, string>): Promise<HttpAnswer> =>
      admin.follow(await admin.post(adminAt({}, '/end'), new URLSearchParams(form)));
    // A session of somebody else is none of theirs.
    expect((await end({ sub: 'someone', id: two.id })).status).toBe(404);
    expect(await reasonOf(two.id)).toBeUndefined();
    expect((await end({ sub, id: one.id })).text).toContain('The session has ended.');
    expect((await end({ sub, id: one.id })).text).toContain('That was over already.');
    const all = await admin.navigate(adminAt({ sub }, '/end'));
    expect(all.text).toContain('End all sessions of');
    const done = await end({ sub });
    expect(done.text).toContain('Sessions that have ended: 2');
    expect(done.text).toContain('There are no live sessions.');
    for (const { id } of [one, two, three]) expect(await reasonOf(id)).toBe('ended_by_admin');
    const events = await stack.sql<{ actor: string; ip_address: string }>(
      "SELECT actor, ip_address FROM session_events WHERE subject = $1 AND event = 'session_ended'",
      [sub],
    );
    expect(events).toHaveLength(3);
    expect(new Set(events.map(({ actor }) => actor.split(':')[0]))).toEqual(new Set(['admin']));
    expect(done.text).toContain('<span title="ended_by_admin">ended by an administrator</span>');
    expect(done.text).toMatch(/ · administrator <bdi>[^<]+<\/bdi> · /);
    const german = await admin.navigate(adminAt({ sub }), {
      headers: { 'accept-language': 'de' },
    });
    expect(german.text).toContain('>von der Administration beendet</span> · Administration <bdi>');
  });

  test('turns pages, and asks indexes only, among 100,000 sessions', async () => {
    const { subject } = await stack.session('busy');
    await stack.sql(
      `WITH other AS (INSERT INTO users (id, keycloak_id, email) SELECT 'u' || i, 'u' || i, 'u' || i || '@example.org' FROM generate_series(1, 20000) i RETURNING id)
       INSERT INTO user_sessions (id, user_id, cookie_hash, expires_at, metadata)
       SELECT o.id || '-' || i, o.id, sha256((o.id || '-' || i)::bytea), now() + interval '1 hour', jsonb_build_object('preferred_username', 'name-' || o.id) FROM other o, generate_series(1, 5) i`,
    );
    await stack.sql(
      `INSERT INTO user_sessions (id, user_id, cookie_hash, expires_at, created_at, metadata)
       SELECT 'busy-' || i, u.id, sha256(('busy-' || i)::bytea), now() + interval '1 hour', now() - i * interval '1 second', '{}' FROM users u, generate_series(1, 119) i WHERE keycloak_id = $1`,
      [subject],
    );
    await stack.sql('ANALYZE users, user_sessions');
    const seen = new Set<string>();
    let pages = 0;
    for (let to: string | undefined = adminAt({ sub: subject }); to !== undefined; pages++) {
      const { text } = await admin.navigate(to);
      for (const [, id] of text.matchAll(/&#38;id=([\w-]+)/g)) if (id) seen.add(id);
      const next = /rel="next" href="([^"]+)"/.exec(text)?.[1]?.replaceAll('&#38;', '&');
      to = next === undefined ? undefined : stack.url + next;
    }
    expect([pages, seen.size]).toEqual([3, 120]);
    const found = await admin.navigate(adminAt({ q: 'NAME-u777' }));
    expect(found.text).toContain('u777@example.org');
    const plan = await stack.sql<{ 'QUERY PLAN': string }>(
      `EXPLAIN SELECT id FROM users WHERE lower(email) = lower('x') UNION SELECT user_id FROM user_sessions WHERE lower(metadata->>'preferred_username') = lower('x')`,
    );
    expect(plan.map((line) => line['QUERY PLAN']).join('\n')).not.toContain('Seq Scan');
  });
});

describeWith(['chromium'], 'every page for people', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser.close());

  const LIGHT = { colorScheme: 'light', forcedColors: 'none' } as const;
  const DARK = { colorScheme: 'dark', forcedColors: 'none' } as const;

  test.each(TAGS)('is accessible in %s, also narrow and in the dark', async (locale) => {
    const context = await browser.newContext({ locale, viewport: { width: 320, height: 640 } });
    const page = await context.newPage();
    const faults: unknown[] = [];
    page.on('pageerror', ({ message }) => faults.push(message));
    stack.provider!.chooseUser('admin');
    await page.goto(`${stack.url}/auth/login?return_to=/account`);
    const { subject } = await stack.session(`seen-in-${locale}`);
    const isFirst = locale === TAGS[0];
    const shot = async (name: string): Promise<void> => {
      const to = process.env['SCREENSHOTS'];
      if (to) await page.screenshot({ path: join(to, `${name}-${locale}.png`), fullPage: true });
    };
    // Words change what is too wide or has no name; colours are the same in every language.
    const schemes = isFirst ? [LIGHT, DARK] : [LIGHT];
    const look = async (path: string, name: string): Promise<void> => {
      await page.goto(stack.url + path);
      const wide = await page.evaluate<number>('document.documentElement.scrollWidth');
      if (wide > 320) faults.push([path, 'is wider than 320 px', wide]);
      await page.evaluate(axe.source);
      for (const media of schemes) {
        await page.emulateMedia(media);
        const { violations } = await page.evaluate<axe.AxeResults>(
          "axe.run({ resultTypes: ['violations'] })",
        );
        for (const { id, nodes } of violations)
          faults.push([path, media, id, nodes.map(({ html }) => html)]);
      }
      await page.emulateMedia(LIGHT);
      await shot(name);
    };
    await look('/account', 'account');
    await look(`/account/admin?sub=${subject}`, 'admin');
    await look(`/account/admin/end?sub=${subject}`, 'admin-end');
    await look('/nothing', 'problem');
    if (isFirst) {
      await look('/', 'start');
      await look('/account/admin?q=nobody', 'admin-nobody');
      await context.clearCookies();
      await look('/', 'anonymous');
    }
    await look('/auth/ended', 'ended');
    expect(faults).toEqual([]);
    expect(await page.evaluate<number>('document.querySelector(".brand img").naturalWidth')).toBe(
      80,
    );
    await context.close();
  });

  test('has a logo that runs nothing where it is opened by itself', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const asked: string[] = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(`${stack.url}/auth/logo`);
    expect(await page.evaluate('document.documentElement.getAttribute("data-ran")')).toBeNull();
    expect(asked).toEqual(['/auth/logo']);
    await context.close();
  });
});
