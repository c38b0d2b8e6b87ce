import { expect, test } from '@jest/globals';
import { loginAddress } from './loginAddress.js';

const origin = 'https://app.example';

test.each([
  ['/wiki/R&D?a=1&prompt=none', '/auth/login?return_to=%2Fwiki%2FR%26D%3Fa%3D1%26prompt%3Dnone'],
  ['/auth/session?x=1', '/auth/login?return_to=%2F'],
  ['//evil.example/', '/auth/login?return_to=%2F'],
  [`/x?${'y'.repeat(3000)}`, '/auth/login?return_to=%2Fx'],
])('a login from %s is at %s', (back, address) => {
  expect(loginAddress({ back, origin })).toBe(address);
});

test('a login takes along the level that it has to reach', () => {
  expect(loginAddress({ back: '/pay', origin, acrValues: 'gold&x' })).toBe(
    '/auth/login?acr_values=gold%26x&return_to=%2Fpay',
  );
});
