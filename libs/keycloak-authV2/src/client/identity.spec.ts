import { expect, test } from '@jest/globals';
import { identityOf } from './identity.js';

test('holds nothing that PostgreSQL would not store', () => {
  const claims = { sid: 'a', preferred_username: 'ze\0d', email: 'zoë@example.com', name: 'Zoë \u{1F600} \ud800', realm_access: { roles: ['adm\0in', 'user', 'ü'] }, resource_access: { app: { roles: ['\udc00x', 'reader'] }, 'o\0dd': { roles: ['reader'] } } };
  expect(identityOf('sub', claims, {}, {})).toEqual({
    subject: 'sub', sid: 'a', preferredUsername: 'zed', email: 'zoë@example.com', name: 'Zoë \u{1F600} \ufffd', roles: ['app:reader', 'realm:user', 'realm:ü'],
  });
});
