import process from 'node:process';
import { KeycloakClient, TokenVault } from '@session-gateway/keycloak-auth';

// Ends itself, as by kill -9, when its first refresh reaches the point that KILL_AT names. `lease for ever`: stops
// there with a lease of an hour.
const point = process.env['KILL_AT'];
const at = (reached: string): void => {
  if (point === reached) process.kill(process.pid, 'SIGKILL');
};
const claim = Reflect.get(TokenVault.prototype, 'claimRefresh');
TokenVault.prototype.claimRefresh = async function (id, seenVersion, owner, leaseMs) {
  const claimed = await claim.call(
    this,
    id,
    seenVersion,
    owner,
    point === 'lease for ever' ? 3_600_000 : leaseMs,
  );
  if (claimed.kind === 'claimed') {
    at('lease taken');
    at('lease for ever');
  }
  return claimed;
};
const refresh = Reflect.get(KeycloakClient.prototype, 'refresh');
KeycloakClient.prototype.refresh = async function (refreshToken, subject) {
  const tokens = await refresh.call(this, refreshToken, subject);
  at('answer received');
  return tokens;
};
const store = Reflect.get(TokenVault.prototype, 'storeRefreshed');
TokenVault.prototype.storeRefreshed = async function (id, seenVersion, tokens, absoluteTimeoutMs) {
  at('before commit');
  const stored = await store.call(this, id, seenVersion, tokens, absoluteTimeoutMs);
  at('after commit');
  return stored;
};
await import('../../../../apps/api-gateway/src/main.js');
