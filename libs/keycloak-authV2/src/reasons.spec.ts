import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { oauthReason, providerWords, REASONS } from './reasons.js';

describe('reasons', () => {
  test('are each explained in docs/operate/reasons.md, which explains no other', () => {
    const text = readFileSync(new URL('../../../docs/operate/reasons.md', import.meta.url), 'utf8');
    const explained = [...text.matchAll(/^\| `([a-z_]+)`/gm)].map(([, name]) => name);
    expect(explained.sort()).toEqual([...REASONS].sort());
  });

  test('that troubleshooting.md names are those of the other pages', () => {
    const page = (path: string): string =>
      readFileSync(new URL(`../../../docs/${path}`, import.meta.url), 'utf8');
    const named = [...page('operate/troubleshooting.md').matchAll(/`([a-z]+(?:_[a-z]+)+)`/g)]
      .map(([, name = '']) => name)
      .filter((name) => !name.startsWith('session_gateway_') && name !== 'acr_values');
    expect(named.length).toBeGreaterThan(20);
    const pages = ['operate/reasons.md', 'operate/audit.md', 'integrate/errors.md']
      .map(page)
      .join();
    expect(named.filter((name) => !pages.includes(`\`${name}\``))).toEqual([]);
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
