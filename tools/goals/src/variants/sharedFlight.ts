import { RefreshTokenManager, type Session } from '@session-gateway/keycloak-auth';

// One refresh at a time in the process, its outcome for all who wait: single-flight with a key wider than the session.
const refresh = Reflect.get(RefreshTokenManager.prototype, 'refresh');
let flight: Promise<Session> | undefined;
RefreshTokenManager.prototype.refresh = function (session) {
  flight ??= refresh.call(this, session).finally(() => (flight = undefined));
  return flight;
};
await import('../../../../apps/api-gateway/src/main.js');
