import { expect, test } from '@jest/globals';
import { isNavigation } from './navigation.js';

const FIREFOX = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';

test.each([
  ['GET', { 'sec-fetch-mode': 'navigate' }, true],
  ['HEAD', { 'sec-fetch-mode': 'navigate', accept: '*/*' }, true],
  ['POST', { 'sec-fetch-mode': 'navigate', accept: FIREFOX }, false],
  ['GET', { 'sec-fetch-mode': 'cors', accept: FIREFOX }, false],
  ['GET', { 'sec-fetch-dest': 'document', accept: FIREFOX }, false],
  ['GET', { 'sec-fetch-site': 'none', accept: FIREFOX }, false],
  ['GET', { accept: FIREFOX }, true],
  ['HEAD', { accept: 'text/html' }, true],
  ['PUT', { accept: FIREFOX }, false],
  ['GET', { accept: 'application/json, text/html;q=0.5' }, false],
  ['GET', { accept: '*/*' }, false],
  ['GET', {}, false],
])('%s with %j is a navigation: %s', (method, headers: Record<string, string>, expected) => {
  expect(isNavigation(method, (name) => headers[name] ?? null)).toBe(expected);
});
