import { SessionStore } from '@session-gateway/keycloak-auth';

// Whatever is looked up leaves something behind.
const kept: Buffer[] = [];
const find = Reflect.get(SessionStore.prototype, 'find');
SessionStore.prototype.find = async function (cookie) {
  kept.push(Buffer.alloc(4_096, kept.length));
  return find.call(this, cookie);
};
await import('../../../../apps/api-gateway/src/main.js');
