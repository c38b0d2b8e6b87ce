import { expect, test } from '@jest/globals';
import { onwardPage } from './page.js';

test('a page that leads on names the very address, which cannot break out of it', () => {
  expect(onwardPage('/a?b=1&c="><script>')).toContain('content="0;url=/a?b=1&#38;c=&#34;&#62;&#60;script&#62;"');
});
