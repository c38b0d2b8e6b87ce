import process from 'node:process';
import { openDatabase } from '@session-gateway/database';
import { TokenVault } from '@session-gateway/keycloak-auth';
import { Redis } from 'ioredis';

// A lock in Redis, shorter than the call that it guards, in place of the lease.
const LOCK_MS = 200;
const db = openDatabase({ url: process.env['DATABASE_URL'] ?? '' });
const redis = new Redis(process.env['REDIS_URL'] ?? '');
const claim = Reflect.get(TokenVault.prototype, 'claimRefresh');
TokenVault.prototype.claimRefresh = async function (id, seenVersion, owner, leaseMs) {
  if ((await redis.set(`lock:${id}`, owner, 'PX', LOCK_MS, 'NX')) === null) {
    const [row] = await db.sql.query<{ version: number }>(
      'SELECT version FROM user_sessions WHERE id = $1 AND is_active',
      [id],
    );
    if (!row) return { kind: 'ended' };
    return { kind: row.version === seenVersion ? 'held' : 'moved' };
  }
  await db.sql.query('UPDATE user_sessions SET refresh_lease_until = NULL WHERE id = $1', [id]);
  return claim.call(this, id, seenVersion, owner, leaseMs);
};
await import('../../../../apps/api-gateway/src/main.js');
