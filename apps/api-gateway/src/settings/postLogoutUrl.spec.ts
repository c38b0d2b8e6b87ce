import { describe, expect, test } from '@jest/globals';
import { parsePostLogoutUrl } from './postLogoutUrl.js';

const publicUrl = new URL('https://app.example');

describe('POST_LOGOUT_URL', () => {
  test.each([
    [undefined, null],
    ['', null],
    ['/auth/logged-out', null],
    ['/auth/logged-out?again=1', null],
    ['https://app.example/auth/logged-out', null],
    ['/', '/'],
    ['/bye?x=1#y', '/bye?x=1#y'],
    ['https://www.example/bye', 'https://www.example/bye'],
    ['http://localhost:8080/', 'http://localhost:8080/'],
    ['http://127.0.0.1/x', 'http://127.0.0.1/x'],
    ['http://[::1]:3000/x', 'http://[::1]:3000/x'],
  ])('%j leads to %j', (text, expected) => {
    expect(parsePostLogoutUrl(text, publicUrl)).toBe(expected);
  });

  test.each([
    'bye',
    '//elsewhere.example/',
    '/\\elsewhere.example',
    'http://www.example/bye',
    'http://localhost.example/bye',
    'https://u:p@www.example/',
    'javascript:alert(1)',
    'https://www.example/a b',
  ])('%j is refused', (text) => {
    expect(parsePostLogoutUrl(text, publicUrl)).toBeUndefined();
  });
});
