import { describe, expect, test } from '@jest/globals';
import { parseUrl } from './parseUrl.js';

describe('a configured URL', () => {
  test('is read as it is spelled', () => {
    expect(parseUrl('https://id.example/realms/main')?.href).toBe('https://id.example/realms/main');
    expect(parseUrl('HTTPS://u:p@[::1]:8443/a?b#c')?.port).toBe('8443');
  });

  test.each([
    '',
    'id.example',
    'https:id.example',
    'https:/id.example',
    'https:///id.example',
    'https:\\\\id.example',
    'https://id.example\\a',
    'https://',
    '//id.example',
  ])('is none: %j', (text) => {
    expect(parseUrl(text)).toBeNull();
  });

  test.each([
    '\n',
    '\r',
    '\t',
    ' ',
    '\0',
    '\x7f',
    '\x85',
    '\u00a0',
    '\u00ad',
    '\u200b',
    '\u2028',
    '\ufeff',
  ])('with %j in it, wherever, is refused', (blank) => {
    for (const text of [
      `ht${blank}tps://id.example`,
      `https://id.ex${blank}ample`,
      `https://id.example/a${blank}b`,
      `${blank}https://id.example`,
      `https://id.example${blank}`,
    ]) {
      expect([text, parseUrl(text)]).toEqual([text, null]);
    }
  });
});
