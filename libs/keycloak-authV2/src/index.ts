export { ConfigError, type Environment, PACKAGED, readKeyring, readSecret } from './config.js';
export { AuthError, type AuthErrorCode, isAuthError, type KeyErrorCode } from './errors.js';
export { CircuitBreaker } from './client/circuitBreaker.js';
export { assertionKey, type ClientAuthMethod } from './client/clientAuthentication.js';
export { DEFAULT_SCOPE, type KeycloakClientOptions } from './client/clientOptions.js';
export { type Identity, meetsAcr } from './client/identity.js';
export {
  type AuthorizationRequest,
  KeycloakClient,
  type Verdict,
} from './client/KeycloakClient.js';
export { areDpopKeys, credentialOf, DpopKeys } from './client/dpop.js';
export { SIGNATURE_ALGORITHMS } from './client/jwtFaults.js';
export type { ProviderKeySet } from './client/providerKeys.js';
export { hasRole, PermissionChecker } from './client/permissions.js';
export { canSignWith, CLIENT_ALGORITHMS, isSigningKey } from './client/signingKey.js';
export { checkRealm } from './client/realmCheck.js';
export type { RealmCheck, RealmCheckOptions, RealmFinding } from './client/realmFinding.js';
export type { TokenSet } from './client/tokenSet.js';
export { providerWords, type Reason, type RefusalReason, REASONS } from './reasons.js';
export type { TokenLocation } from './services/encryption/associatedData.js';
export {
  createKeyring,
  keyOfText,
  type Keyring,
  MIN_KEY_TEXT_LENGTH,
  reloadable,
  type ReloadableKeyring,
} from './services/encryption/keyring.js';
export {
  type KeyUse,
  MAX_TOKEN_BYTES,
  type ReadPolicy,
  type StoredClass,
  TokenEncryption,
} from './services/encryption/TokenEncryption.js';
export {
  forgetInstance,
  HEARTBEAT_MS,
  type Instance,
  liveInstances,
  reportInstance,
} from './services/keys/instances.js';
export {
  fileProvider,
  type KeyProvider,
  keyProviderOf,
  loadKeyring,
  WRAPPED,
} from './services/keys/keyProvider.js';
export {
  announce,
  confirmKeys,
  countStored,
  faultOf,
  forgetKey,
  keyFaults,
  type KnownKey,
  knownKeys,
  type OldFormats,
  rememberKeys,
  type StoredCount,
} from './services/keys/keyRegistry.js';
export { purge } from './services/audit/purge.js';
export {
  type Origin,
  type RecordedEvent,
  type SessionEvent,
  type SessionEventKind,
  SessionEvents,
} from './services/audit/sessionEvents.js';
export { backchannelLogout, requireNotLoggedOut } from './services/logout/backchannelLogout.js';
export { afterEnding, type Enders, endSessions } from './services/logout/endSessions.js';
export {
  PROVIDER_LOGOUT_BOUNDS,
  type ProviderLogoutOutcome,
  ProviderLogouts,
} from './services/logout/ProviderLogouts.js';
export { type LogoutRequest, validateLogoutToken } from './services/logout/logoutToken.js';
export {
  ChangeFeed,
  FEED_READ_MS,
  type FeedListener,
  HEARD_FOR_MS,
  type Hearing,
} from './services/session/ChangeFeed.js';
export { cookieHash, newSessionCookie } from './services/session/cookieHash.js';
export { EntryAuthenticator } from './services/session/EntryAuthenticator.js';
export { type ListPosition, positionOf } from './services/session/listPosition.js';
export { findPeople, type Person, personOfSubject } from './services/session/people.js';
export { CACHE_TRUST_MS, CUT_OFF_MS } from './services/session/SessionCopies.js';
export type { Profile, Session } from './services/session/sessionMetadata.js';
export {
  type ListedSession,
  type ListOptions,
  listSessions,
} from './services/session/listSessions.js';
export { type AnsweredBy, type NewSession, SessionStore } from './services/session/SessionStore.js';
export { MAX_CLOCK_SKEW_MS } from './services/session/serverClock.js';
export { shownId } from './services/session/shownId.js';
export { ExchangedTokens } from './services/token/ExchangedTokens.js';
export { type BearerIdentity, JWTValidator } from './services/token/JWTValidator.js';
export {
  LEASE_MS,
  type RefreshOutcome,
  RefreshTokenManager,
  WAIT_MS,
} from './services/token/RefreshTokenManager.js';
export type { EndOptions, SessionSelection } from './services/token/endRows.js';
export { TokenVault } from './services/token/TokenVault.js';
export type { EndedSession, EndReason } from './services/audit/endedSession.js';
export { SETTLE_MS, WRITE_MS } from './services/token/TokenWrites.js';
export type { UnreadableReason } from './reasons.js';
