export {
  freePort,
  type KeycloakEvent,
  type KeycloakServer,
  type KeycloakSession,
  startKeycloak,
  until,
} from '@session-gateway/keycloak-server';
export { type Browser, openBrowser, type Page, type Request, whyNoChromium } from './chromium.js';
export {
  type Cluster,
  type ClusterOptions,
  type ClusterSession,
  KEY_TEXT,
  type Reply,
  startCluster,
} from './cluster.js';
export { type Cookie, CookieJar } from './cookieJar.js';
export { type FaultProxy, type Faults, startFaultProxy } from './faultProxy.js';
export { type GatewayOptions, startGateway, type TestGateway } from './gateway.js';
export { type HttpAnswer, HttpBrowser, type HttpRequest } from './http.js';
export { findProgram } from './findProgram.js';
export { describeUnless, describeWith, type Service, whyMissing } from './needs.js';
export {
  type OriginalApplication,
  seedOriginalSessions,
  sessionsLost,
  startOriginalApplication,
} from './originalApplication.js';
export { startPostgres, startReplica, type TestPostgres } from './postgres.js';
export {
  type ProviderStub,
  type ProviderStubOptions,
  startProviderStub,
  type StubAnswer,
  type StubCounts,
  type StubEndpoint,
} from './provider.js';
export type { StubSettings, StubTokens, StubUser } from './providerState.js';
export { type RedisEntry, startRedis, type TestRedis, whyNoRedis } from './redis.js';
export { shiftedClock } from './shiftedClock.js';
export { mountSmallDisk, type SmallDisk, whyNoSmallDisk } from './smallDisk.js';
export { findSecrets, type Secret, tokenSecrets } from './secrets.js';
export { type Counts, storm } from './storm.js';
export {
  startRedisCluster,
  startRedisSentinel,
  type TestRedisCluster,
  type TestRedisSentinel,
} from './redisTopologies.js';
export { startUpstream, type Upstream, type UpstreamRequest } from './upstream.js';
export { startVault, type Vault, type VaultOptions, type VaultRequest } from './vault.js';
export { startPgbouncer, type TestPgbouncer } from './pgbouncer.js';
