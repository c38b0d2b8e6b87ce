import { expect, test } from '@jest/globals';
import { acrOf, identityOf, meetsAcr } from './identity.js';

test('holds nothing that PostgreSQL would not store', () => {
  const claims = {
    sid: 'a',
    preferred_username: 'ze\0d',
    email: 'zoë@example.com',
    name: 'Zoë \u{1F600} \ud800',
    realm_access: { roles: ['adm\0in', 'user', 'ü'] },
    resource_access: { app: { roles: ['\udc00x', 'reader'] }, 'o\0dd': { roles: ['reader'] } },
  };
  expect(identityOf('sub', claims, {}, {})).toEqual({
    subject: 'sub',
    sid: 'a',
    preferredUsername: 'zed',
    email: 'zoë@example.com',
    name: 'Zoë \u{1F600} \ufffd',
    acr: null,
    roles: ['app:reader', 'realm:user', 'realm:ü'],
  });
});

test('tells the authentication context of the ID Token alone, as it is or not at all', () => {
  const acrs = (access: object, id: object) => identityOf('sub', { ...access }, {}, { ...id }).acr;
  expect(acrs({ acr: 'gold' }, { acr: 'silver' })).toBe('silver');
  expect(acrs({ acr: 'gold' }, {})).toBeNull();
  for (const acr of [1, '', 'go\0ld', 'x'.repeat(256), ['gold'], null])
    expect(acrOf({ acr })).toBeNull();
});

test.each([
  ['gold', 'gold', true],
  ['gold', 'silver gold', true],
  ['gold', 'golden', false],
  ['Gold', 'gold', false],
  ['', 'gold', false],
  [null, 'gold', false],
])('an authentication as %j meets %j: %s', (acr, wanted, meets) => {
  expect(meetsAcr(acr, wanted)).toBe(meets);
});
