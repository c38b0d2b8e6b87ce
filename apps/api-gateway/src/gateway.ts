import type { Database } from '@session-gateway/database';
import type { JWTValidator, KeycloakClient, RefreshTokenManager, SessionStore, TokenEncryption, TokenVault } from '@session-gateway/keycloak-auth';
import type { Logger } from 'pino';
import type { Config } from './config.js';
import type { Metrics } from './metrics.js';
import type { GatewayCookies } from './sessionCookie.js';

/** What the parts of the gateway work with: one object, built once in main. */
export interface Gateway {
  readonly config: Config;
  readonly cookies: GatewayCookies;
  readonly db: Database;
  readonly encryption: TokenEncryption;
  readonly store: SessionStore;
  readonly vault: TokenVault;
  readonly refresher: RefreshTokenManager;
  readonly client: KeycloakClient;
  readonly validator: JWTValidator;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Why the gateway is not ready, by dependency; null for those that are well. */
  readonly health: () => Promise<Readonly<Record<'database' | 'cache' | 'provider', string | null>>>;
}
