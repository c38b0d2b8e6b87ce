import { describe, expect, test } from '@jest/globals';
import { unambiguousPath } from './requestPath.js';

describe('a request path', () => {
  test.each([
    '/',
    '/api',
    '/api/a%20b',
    '/api/items?next=//x',
    '/a.b/..c',
    '/caf%C3%A9',
    '/a;v=1/b',
    '/api?x=%2f%00',
    '/%61pi',
    '/%F0%9F%98%80',
    '/100%25',
    '/a%EF%B9%A9',
  ])('%s has one reading', (target) => {
    expect(unambiguousPath(target)?.raw).toBe(target.split('?')[0]);
  });

  test('is decoded for the second reading that rules are held against', () => {
    expect(unambiguousPath('/%61p%69/x')).toEqual({ raw: '/%61p%69/x', decoded: '/api/x' });
    expect(unambiguousPath('/%2561pi')?.decoded).toBe('/api');
  });

  test.each([
    '//api',
    '/api//x',
    '/./api',
    '/../api',
    '/a/../api',
    '/a/..',
    '/%2e/api',
    '/%2E%2e/api',
    '/.%2e/api',
    '/%252e%252e/api',
    '/.../api',
    '/x/.%25252e./api',
    '/x/..%20/api',
    '/x/.%20./api',
    '/x/..%2509',
    '/x/..:y/api',
    '/x/.%E2%80%8B./api',
    '/a%2fb',
    '/a%2Fb',
    '/a%252fb',
    '/a%25252fb',
    '/a%25u002fb',
    '/%2525U0061pi',
    '/a\\b',
    '/a%5cb',
    '/a%255Cb',
    '/a%00',
    '/a%2500',
    '/..;/api',
    '/.;x=1/api',
    '/..%3b/api',
    '/%2e%2e;/api',
    '/api#x',
    '/a b',
    '/a\tb',
    '/caf\u00e9',
    '/a%',
    '/a%2',
    '/a%zz',
    '/%c0%af',
    '/%e0%80%af',
    '/%ef%bc%8f',
    '/%ef%bc%8e%ef%bc%8e/',
    '/%EF%BC%BC',
    '/%ef%25bc%258f',
    '/%EF%B9%A8',
    '/%e2%84%80',
    '/%E2%88%96',
    '/%f0%af/..c',
    '/%f0~',
    '/%f0%80%80%af',
    '/%ed%a0%80',
    '/caf%E9',
    '/caf%25E9',
    '*',
    '',
    'api',
    'http://other/api',
    '/a%0d%0ab',
  ])('%j could be read in two ways', (target) => {
    expect(unambiguousPath(target)).toBeNull();
  });
});
