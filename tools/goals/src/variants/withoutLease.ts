import process from 'node:process';
import { openDatabase } from '@session-gateway/database';
import { TokenVault } from '@session-gateway/keycloak-auth';

// Nobody's lease counts: whoever asks for one has it.
const db = openDatabase({ url: process.env['DATABASE_URL'] ?? '' });
const claim = Reflect.get(TokenVault.prototype, 'claimRefresh');
TokenVault.prototype.claimRefresh = async function (id, seenVersion, owner, leaseMs) {
  await db.sql.query('UPDATE user_sessions SET refresh_lease_until = NULL WHERE id = $1', [id]);
  return claim.call(this, id, seenVersion, owner, leaseMs);
};
await import('../../../../apps/api-gateway/src/main.js');
