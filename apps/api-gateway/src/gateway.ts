import type { Database } from '@session-gateway/database';
import type {
  DpopKeys,
  ExchangedTokens,
  JWTValidator,
  KeycloakClient,
  PermissionChecker,
  ProviderLogouts,
  RefreshTokenManager,
  SessionEvents,
  SessionStore,
  TokenEncryption,
  TokenVault,
} from '@session-gateway/keycloak-auth';
import type { Config } from './settings/config.js';
import type { RequestLimits } from './request/limits.js';
import type { Log } from './observability/logging.js';
import type { Metrics } from './observability/metrics.js';
import type { GatewayCookies } from './request/sessionCookie.js';
import type { Tracer } from './observability/tracer.js';

/** What the parts of the gateway work with: one object, built once in main. */
export interface Gateway {
  readonly config: Config;
  readonly cookies: GatewayCookies;
  readonly db: Database;
  /** For what browsers carry: whatever they send does not count as a stored value. */
  readonly cookieEncryption: TokenEncryption;
  readonly store: SessionStore;
  readonly vault: TokenVault;
  readonly events: SessionEvents;
  readonly providerLogouts: ProviderLogouts;
  readonly refresher: RefreshTokenManager;
  readonly client: KeycloakClient;
  /** Null: access tokens are bound to no key. */
  readonly dpop: DpopKeys | null;
  readonly validator: JWTValidator;
  readonly limits: RequestLimits;
  readonly permissions: PermissionChecker;
  readonly exchangedTokens: ExchangedTokens;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Null: traces are not kept here. */
  readonly tracer: Tracer | null;
  /** PostgreSQL's time in milliseconds since 1970, by which sessions and tokens are judged. */
  readonly now: () => number;
  /** True from the moment that the process is asked to end. */
  readonly life: { stopping: boolean };
  readonly health: () => Promise<
    Readonly<Record<'process' | 'database' | 'clock' | 'cache' | 'provider', DependencyHealth>>
  >;
}

export interface DependencyHealth {
  /** Why it is away; null: it is well. */
  readonly reason: string | null;
  /** Whether the gateway is unready while it is away. */
  readonly needed: boolean;
}
