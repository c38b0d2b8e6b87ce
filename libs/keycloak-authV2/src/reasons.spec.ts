import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { oauthReason, providerWords, REASONS } from './reasons.js';

const page = (path: string): string =>
  readFileSync(new URL(`../../../docs/${path}`, import.meta.url), 'utf8');
const [symptoms = '', every = ''] = page('operate/troubleshooting.md').split('\n## Every reason\n');
const names = (text: string): string[] =>
  [...text.matchAll(/`([a-z]+(?:_[a-z]+)*)`/g)].map(([, name = '']) => name);

describe('reasons', () => {
  test('are each explained in docs/operate/troubleshooting.md, once, which explains no other', () => {
    const explained = [...every.matchAll(/^\| `([^`]+)`/gm)].map(([, name]) => name);
    expect(explained.sort()).toEqual([...REASONS].sort());
  });

  test('that symptoms have there are those that there are', () => {
    const rows = symptoms.split('\n').filter((line) => /^\|.*\|.*\|.*\|$/.test(line));
    const ends = page('operate/audit.md');
    const found = rows.flatMap((row) => names(row.split('|')[2] ?? ''));
    expect(found.length).toBeGreaterThan(20);
    const known = (name: string) =>
      (REASONS as readonly string[]).includes(name) || names(ends).includes(name);
    expect(found.filter((name) => !known(name))).toEqual([]);
  });

  test('and codes that symptoms name are those of the other pages', () => {
    const named = names(symptoms).filter(
      (name) => name.includes('_') && !name.startsWith('session_gateway_') && name !== 'acr_values',
    );
    expect(named.length).toBeGreaterThan(20);
    const pages = [...REASONS, ...names(page('operate/audit.md') + page('integrate/errors.md'))];
    expect(named.filter((name) => !pages.includes(name))).toEqual([]);
  });

  test('of a provider are its error codes, and one for all that no specification names', () => {
    expect(oauthReason('invalid_scope')).toBe('invalid_scope');
    expect(oauthReason('<script>')).toBe('other_error');
    expect(oauthReason('__proto__')).toBe('other_error');
  });
});

test("the provider's words are told in one short line, without control characters and what may be a token", () => {
  expect(providerWords('invalid_scope', 'Invalid scopes: openid\r\n{"level":60}')).toBe(
    'invalid_scope: Invalid scopes: openid {"level":60}',
  );
  expect(providerWords('x', `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(300)} \u202E`)).toBe('x: …');
  expect(providerWords('x'.repeat(60), 'word '.repeat(100))?.length).toBe(200);
  expect(providerWords(undefined, 7)).toBeUndefined();
});
