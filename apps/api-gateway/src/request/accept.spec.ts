import { describe, expect, test } from '@jest/globals';
import { preferredType, prefersPage } from './accept.js';

describe('of a page and JSON', () => {
  test.each([
    [null, 'text/html'],
    ['', 'text/html'],
    ['*/*', 'text/html'],
    ['image/png', 'text/html'],
    ['application/json', 'application/json'],
    ['application/json, text/plain, */*', 'application/json'],
    ['APPLICATION/JSON;charset=utf-8', 'application/json'],
    ['application/*', 'application/json'],
    ['application/json;q=0.9, text/html', 'text/html'],
    ['text/html;q=0.5, application/json;q=0.6', 'application/json'],
    ['application/json;q=0', 'text/html'],
    ['application/json;q=0, */*', 'text/html'],
    ['text/html;q=0, */*;q=0.1', 'application/json'],
    ['text/html, application/json', 'text/html'],
    ['application/json, text/html', 'application/json'],
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'text/html'],
    ['application/jsonp', 'text/html'],
    ['application/json;q=nonsense', 'text/html'],
  ])('%j prefers %j', (accept, expected) => {
    expect(preferredType(accept, ['text/html', 'application/json'])).toBe(expected);
  });
});

test.each([
  [null, false],
  ['*/*', false],
  ['application/json', false],
  ['text/html', true],
  ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', true],
  ['text/html;q=0.5, application/json', false],
  ['text/html;q=0', false],
])('%j asks for a page: %s', (accept, expected) => {
  expect(prefersPage(accept)).toBe(expected);
});
