import process from 'node:process';
import { SessionStore } from '@session-gateway/keycloak-auth';
import { Redis } from 'ioredis';
import { cacheKeyOfCookie } from '../../../../libs/keycloak-authV2/src/services/session/cookieHash.js';

// Redis is where sessions are: what it does not hold, or cannot be asked for, is no session.
const redis = new Redis(process.env['REDIS_URL'] ?? '', {
  maxRetriesPerRequest: 0,
  commandTimeout: 250,
  enableOfflineQueue: false,
});
redis.on('error', () => undefined);
const find = Reflect.get(SessionStore.prototype, 'find');
SessionStore.prototype.recall = () => null;
SessionStore.prototype.find = async function (cookie) {
  const found = await find.call(this, cookie);
  const held = await redis.exists(cacheKeyOfCookie(cookie)).catch(() => 0);
  return held === 1 ? found : null;
};
await import('../../../../apps/api-gateway/src/main.js');
