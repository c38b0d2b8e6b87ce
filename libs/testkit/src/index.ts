export { freePort, type KeycloakEvent, type KeycloakServer, type KeycloakSession, startKeycloak, until } from '@session-gateway/keycloak-server';
export { type Browser, openBrowser, whyNoChromium } from './chromium.js';
export { type Cookie, CookieJar } from './cookieJar.js';
export { type GatewayOptions, startGateway, type TestGateway } from './gateway.js';
export { type HttpAnswer, HttpBrowser, type HttpRequest } from './http.js';
export { describeWith, type Service, whyMissing } from './needs.js';
export { startPostgres, type TestPostgres } from './postgres.js';
export {
  type ProviderStub, type ProviderStubOptions, startProviderStub, type StubAnswer, type StubCounts, type StubEndpoint,
} from './provider.js';
export type { StubSettings, StubTokens, StubUser } from './providerState.js';
export { type RedisEntry, startRedis, type TestRedis, whyNoRedis } from './redis.js';
export { startUpstream, type Upstream, type UpstreamRequest } from './upstream.js';
