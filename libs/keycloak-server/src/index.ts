export type { AdminApi, EventFilter, KeycloakEvent, KeycloakSession } from './admin.js';
export {
  type Child,
  type ChildExit,
  type ChildOptions,
  childrenOf,
  isAlive,
  signalPid,
  startChild,
} from './child.js';
export { installKeycloak, KEYCLOAK_VERSION, keycloakInstalled, whyNoKeycloak } from './install.js';
export { type KeycloakOptions, type KeycloakServer, startKeycloak } from './keycloak.js';
export { freePort } from './ports.js';
export { GATEWAY_CLIENT_ID, type RealmFile, type RealmOptions, renderRealm } from './realm.js';
export { until } from './until.js';
