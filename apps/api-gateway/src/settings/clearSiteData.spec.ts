import { expect, test } from '@jest/globals';
import { parseClearSiteData } from './clearSiteData.js';

test.each([
  [undefined, ['cache', 'storage']],
  ['', ['cache', 'storage']],
  ['none', []],
  ['cache', ['cache']],
  [' storage , cache ', ['cache', 'storage']],
  ['cookies', null],
  ['*', null],
  ['cache,none', null],
  ['cache,cache', null],
])('LOGOUT_CLEAR_SITE_DATA %s is %j', (text, directives) => {
  expect(parseClearSiteData(text)).toEqual(directives);
});
