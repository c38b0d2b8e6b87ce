import { expect, test } from '@jest/globals';
import { onwardPage } from './page.js';
import { ar } from './words/ar.js';
import { en } from './words/en.js';

test('a page that leads on names the very address, which cannot break out of it', () => {
  expect(onwardPage('/a?b=1&c="><script>', { words: en })).toContain(
    'content="0;url=/a?b=1&#38;c=&#34;&#62;&#60;script&#62;"',
  );
});

test('a page that leads on speaks the language of whoever is led', () => {
  expect(onwardPage('/', { words: ar })).toContain('<html lang="ar" dir="rtl">');
});
