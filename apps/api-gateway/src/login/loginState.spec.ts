import { randomBytes } from 'node:crypto';
import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import { expect, test } from '@jest/globals';
import {
  LOGIN_STATE_SECONDS,
  type LoginState,
  loginsToGiveUp,
  openLoginState,
  sealLoginState,
} from './loginState.js';

const encryption = new TokenEncryption({
  keyring: createKeyring({
    keyringJson: JSON.stringify({
      primary: 'k1',
      keys: [{ kid: 'k1', key: randomBytes(32).toString('base64url') }],
    }),
  }),
});
const NAME = '__Host-login-0123456789abcdef';
const STATE: LoginState = {
  state: 's'.repeat(43),
  oidcNonce: 'n'.repeat(43),
  codeVerifier: 'v'.repeat(43),
  returnTo: '/x',
  startedAt: 1_700_000_000_000,
  silent: true,
  parameters: { login_hint: 'pat', prompt: 'none' },
};
const open = (sealed: string, ageSeconds: number): LoginState | null =>
  openLoginState(encryption, NAME, sealed, STATE.startedAt + ageSeconds * 1000);

test("a login's state opens for longer than a login at Keycloak lives", () => {
  const sealed = sealLoginState(encryption, NAME, STATE);
  expect(LOGIN_STATE_SECONDS).toBeGreaterThan(1_800);
  expect(open(sealed, LOGIN_STATE_SECONDS - 1)).toEqual(STATE);
  expect(open(sealed, LOGIN_STATE_SECONDS)).toBeNull();
});

test("a login's state fits a cookie, if need be without what it asked for", () => {
  const parameters = { login_hint: 'h'.repeat(1_000) };
  const long = { ...STATE, parameters, returnTo: `/${'x'.repeat(2_047)}` };
  const sealed = sealLoginState(encryption, NAME, long);
  expect(`${NAME}=${sealed}`.length).toBeLessThan(4_000);
  expect(open(sealed, 1)).toEqual({ ...long, parameters: undefined });
});

test('logins under way are bounded by number and by bytes, the oldest first', () => {
  const logins = (count: number, bytes: number): { name: string; bytes: number }[] =>
    Array.from({ length: count }, (_, i) => ({ name: `${i}`, bytes }));
  expect(loginsToGiveUp(logins(7, 600), 600)).toEqual([]);
  expect(loginsToGiveUp(logins(8, 600), 600)).toEqual(['0']);
  expect(loginsToGiveUp(logins(4, 2_400), 2_400)).toEqual(['0', '1', '2']);
  expect(loginsToGiveUp(logins(2, 3_000), 0)).toEqual([]);
  expect(loginsToGiveUp(logins(3, 3_000), 0)).toEqual(['0']);
  expect(loginsToGiveUp(logins(900, 20), 500)).toHaveLength(16);
});
