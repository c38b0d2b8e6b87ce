import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { AuthError, type Reason } from '@session-gateway/keycloak-auth';
import { Problem, type ProblemCode, PROBLEMS } from '../request/errors.js';
import { readBrand } from '../settings/brand.js';
import { stillPagePolicy } from './browserHeaders.js';
import { problemPage, representation } from './problemPage.js';
import { en } from './words/en.js';
import { LANGUAGES } from './words/languages.js';

const origin = 'https://app.example';
const publicUrl = new URL(origin);
const config = { publicUrl, brand: readBrand({}, publicUrl, []) };
const CODES = Object.keys(PROBLEMS) as ProblemCode[];
const NAVIGATION: Record<string, string> = { 'sec-fetch-mode': 'navigate' };

const pageOf = (problem: Problem, address = '/', requestId: string | null = 'request-1'): string =>
  problemPage(problem, { address, requestId, look: { origin, brand: config.brand, words: en } });
const headingOf = (page: string): string => /<h1>(.*)<\/h1>/.exec(page)?.[1] ?? '';

describe('the table of problems', () => {
  test('has the same codes, statuses and ways on as docs/integrate/errors.md', () => {
    const text = readFileSync(
      new URL('../../../../docs/integrate/errors.md', import.meta.url),
      'utf8',
    );
    const rows = [...text.matchAll(/^\| `(\w+)` +\| (\d+) +\| `(\w+)`/gm)];
    expect(rows.map(([, code, status, way]) => [code, Number(status), way])).toEqual(
      CODES.map((code) => [code, PROBLEMS[code].status, PROBLEMS[code].way]),
    );
  });

  test.each(LANGUAGES.map((words) => [words.language, words] as const))(
    'has words of its own for each page in %s, and no page for anything else',
    (_, words) => {
      expect(Object.keys(words.problems).sort()).toEqual([...CODES].sort());
      const texts = Object.values(words.problems).map(({ happened }) => happened);
      expect(new Set(texts).size).toBe(CODES.length);
    },
  );
});

describe('the page of a problem', () => {
  test.each(CODES)('%s says what happened, needs no script and leads on', (code) => {
    const { headers, body } = representation(
      { config },
      new Problem(code, { retryAfterSeconds: 7, allow: ['PUT'] }),
      {
        method: 'GET',
        header: (name) => NAVIGATION[name] ?? null,
        address: '/api/x',
        requestId: 'request-1',
      },
    );
    expect(headers).toMatchObject({
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': stillPagePolicy(config),
      'Cache-Control': 'no-store',
      'Retry-After': '7',
      Allow: 'PUT',
    });
    expect(body).toContain(`<main data-code="${code}">`);
    expect(body).toContain('<code>request-1</code>');
    expect(body).toMatch(/<a class="button" href="[^"]*">/);
    expect(body).not.toMatch(/<script|<form|<img|\son\w+=|https?:\/\/(?!app\.example)/);
    expect(Buffer.byteLength(body)).toBeLessThan(30_000);
  });

  test('is for navigations only', () => {
    const problem = new Problem('not_found');
    const { headers, body } = representation({ config }, problem, {
      method: 'GET',
      header: () => null,
      address: '/',
      requestId: null,
    });
    expect([headers, body]).toEqual([problem.headers(), problem.body()]);
  });

  test('leads to the login and back, but never back to the gateway itself or to another site', () => {
    const problem = new Problem('session_not_found');
    const linkOf = (address: string): string =>
      /class="button" href="([^"]*)"/.exec(pageOf(problem, address))?.[1] ?? '';
    expect(linkOf('/account?a=1&b="<')).toBe(
      `${origin}/auth/login?return_to=%2Faccount%3Fa%3D1%26b%3D%2522%253C`,
    );
    for (const address of ['/auth/session', '/auth/callback?code=x', '//evil.example', '/\\evil'])
      expect(linkOf(address)).toBe(`${origin}/auth/login?return_to=%2F`);
  });

  test('shows nothing of a request as it came', () => {
    const page = pageOf(new Problem('session_expired'), '/x"><b>?<i>', '"><script>');
    expect(page).not.toMatch(/<b>|<i>|<script/);
  });

  test.each([
    ['access_denied', 'denied'],
    ['server_error', 'busy'],
    ['interaction_required', 'question'],
    ['expired', 'clock'],
    ['logged_out', 'loggedOut'],
  ] as const)(
    'of a login that failed by %s says so in words that a person knows',
    (reason, kind) => {
      const cause = new AuthError('callback_rejected', 'x', { reason: reason satisfies Reason });
      const page = pageOf(new Problem('callback_rejected', { cause }));
      expect(headingOf(page)).toBe(en.loginFailures[kind].title);
    },
  );

  test('of a response without its login speaks of cookies, of any other in general', () => {
    expect(pageOf(new Problem('callback_rejected'))).toContain('Allow cookies for this site');
    const cause = new AuthError('callback_rejected', 'x', { reason: 'signature' });
    const page = pageOf(new Problem('callback_rejected', { cause }));
    expect(page).not.toContain('Allow cookies');
  });
});
