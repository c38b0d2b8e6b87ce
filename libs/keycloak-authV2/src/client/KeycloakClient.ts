import { createRemoteJWKSet, customFetch as joseFetch, decodeJwt, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import * as oidc from 'openid-client';
import { AuthError, isAuthError } from '../errors.js';

/** Who a token set is about, as far as the provider told. */
export interface Identity {
  readonly subject: string;
  readonly sid: string | null;
  readonly preferredUsername: string | null;
  readonly email: string | null;
  readonly name: string | null;
  /** `realm:NAME` and `CLIENT:NAME`, sorted. */
  readonly roles: readonly string[];
}

/** The provider's answer to a grant. A refresh may leave out what stays as it was (RFC 6749 §6): null then. */
export interface TokenSet {
  readonly accessToken: string;
  readonly refreshToken: string | null;
  readonly idToken: string | null;
  readonly tokenExpiresAt: Date;
  readonly tokenLifetimeSeconds: number;
  /** Null when the provider sets no bound (`refresh_expires_in` 0 or absent). */
  readonly refreshExpiresAt: Date | null;
  readonly identity: Identity;
}

export interface AuthorizationRequest {
  readonly url: URL;
  readonly state: string;
  readonly oidcNonce: string;
  readonly codeVerifier: string;
}

export interface KeycloakClientOptions {
  issuer: string;
  clientId: string;
  clientSecret: string;
  /** Another address of the same realm for calls from server to server. */
  internalUrl?: string | undefined;
  clientAuth?: 'client_secret_basic' | 'client_secret_post';
  /** Ask the userinfo endpoint too; its `sub` must match (OpenID Connect Core §5.3.2). */
  userinfo?: boolean;
  timeoutSeconds?: number;
}

const CLOCK_TOLERANCE_SECONDS = 15;
const DEFAULT_TOKEN_LIFETIME_SECONDS = 60;
const DISCOVERY_RETRY_AFTER_SECONDS = 5;

/**
 * The relying party's side of OpenID Connect with one Keycloak realm. Discovery happens at the first use and is tried
 * anew after a failure, so the provider may be away when the process starts.
 * Every failure is an AuthError: `provider_unavailable` (worth another try), `provider_rejected` (our configuration),
 * `reauthentication_required` (`invalid_grant`), `callback_rejected`.
 */
export class KeycloakClient {
  readonly #options: KeycloakClientOptions;
  readonly #fetch: typeof fetch;
  #configuration: Promise<oidc.Configuration> | undefined;
  #discovered: oidc.Configuration | undefined;
  #jwks: JWTVerifyGetKey | undefined;

  constructor(options: KeycloakClientOptions) {
    this.#options = options;
    this.#fetch = fetchThrough(options.issuer, options.internalUrl);
  }

  get issuer(): string {
    return this.#options.issuer;
  }

  get clientId(): string {
    return this.#options.clientId;
  }

  /** Resolves once the realm's metadata is known. */
  async ready(): Promise<void> {
    await this.#config();
  }

  /** A new authorization request: code flow, PKCE S256 (RFC 7636), state and nonce. */
  async authorizationRequest(redirectUri: string, extra: Record<string, string> = {}): Promise<AuthorizationRequest> {
    const config = await this.#config();
    const [state, oidcNonce, codeVerifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()];
    const url = oidc.buildAuthorizationUrl(config, {
      ...extra,
      redirect_uri: redirectUri,
      scope: 'openid profile email',
      state,
      nonce: oidcNonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
    });
    return { url, state, oidcNonce, codeVerifier };
  }

  /**
   * Redeems the code of an authorization response after checking state, `iss` (RFC 9207), nonce and the ID Token with
   * its signature. `callbackUrl` is the redirect URI with the response's query.
   */
  async exchangeCode(callbackUrl: URL, expected: { state: string; oidcNonce: string; codeVerifier: string; maxAgeSeconds?: number }): Promise<TokenSet> {
    const config = await this.#config();
    try {
      const response = await oidc.authorizationCodeGrant(config, callbackUrl, {
        expectedState: expected.state,
        expectedNonce: expected.oidcNonce,
        pkceCodeVerifier: expected.codeVerifier,
        idTokenExpected: true,
        ...(expected.maxAgeSeconds === undefined ? {} : { maxAge: expected.maxAgeSeconds }),
      });
      return await this.#tokenSet(config, response, null);
    } catch (error) {
      const classified = classify(error);
      if (classified.code !== 'reauthentication_required') throw classified;
      throw new AuthError('callback_rejected', 'the provider refused the authorization code', { reason: 'invalid_grant', cause: error });
    }
  }

  /** Spends a refresh token. `subject` is the session's: it stands in where the answer brings no ID Token. */
  async refresh(refreshToken: string, subject: string): Promise<TokenSet> {
    const config = await this.#config();
    try {
      return await this.#tokenSet(config, await oidc.refreshTokenGrant(config, refreshToken), subject);
    } catch (error) {
      throw classify(error);
    }
  }

  /** Revokes a refresh token (RFC 7009) and so the session that hangs on it. */
  async revoke(refreshToken: string): Promise<void> {
    const config = await this.#config();
    try {
      await oidc.tokenRevocation(config, refreshToken, { token_type_hint: 'refresh_token' });
    } catch (error) {
      throw classify(error);
    }
  }

  /**
   * Where a browser ends the session at the provider (OpenID Connect RP-Initiated Logout 1.0 §2). Never waits for the
   * provider: while its metadata is unknown the address follows Keycloak's layout.
   */
  endSessionUrl(postLogoutRedirectUri: string, idTokenHint: string | null): URL {
    const { issuer, clientId } = this.#options;
    const endpoint = this.#discovered?.serverMetadata().end_session_endpoint ?? `${issuer}/protocol/openid-connect/logout`;
    const url = new URL(endpoint);
    url.searchParams.set('client_id', clientId);
    url.searchParams.set('post_logout_redirect_uri', postLogoutRedirectUri);
    if (idTokenHint !== null) url.searchParams.set('id_token_hint', idTokenHint);
    return url;
  }

  /** The realm's signing keys, fetched when an unknown key id turns up, at most once in 10 s. */
  async jwks(): Promise<JWTVerifyGetKey> {
    const { jwks_uri } = (await this.#config()).serverMetadata();
    if (jwks_uri === undefined) throw new AuthError('provider_rejected', 'the provider names no jwks_uri', { reason: 'metadata' });
    this.#jwks ??= createRemoteJWKSet(new URL(jwks_uri), {
      timeoutDuration: this.#timeoutSeconds * 1000,
      cooldownDuration: 10_000,
      [joseFetch]: this.#fetch,
    });
    return this.#jwks;
  }

  get #timeoutSeconds(): number {
    return this.#options.timeoutSeconds ?? 5;
  }

  #config(): Promise<oidc.Configuration> {
    this.#configuration ??= this.#discover().catch((error: unknown) => {
      // The next caller tries again; those who waited for this attempt share its failure.
      this.#configuration = undefined;
      throw error;
    });
    return this.#configuration;
  }

  async #discover(): Promise<oidc.Configuration> {
    const { issuer, clientId, clientSecret, clientAuth } = this.#options;
    const auth = clientAuth === 'client_secret_post' ? oidc.ClientSecretPost(clientSecret) : oidc.ClientSecretBasic(clientSecret);
    try {
      const config = await oidc.discovery(new URL(issuer), clientId, { [oidc.clockTolerance]: CLOCK_TOLERANCE_SECONDS }, auth, {
        // Whether http is acceptable at all was decided by the configuration.
        // ID Tokens are verified with the realm's keys even where TLS would do (OpenID Connect Core §3.1.3.7).
        execute: [...(issuer.startsWith('http:') ? [oidc.allowInsecureRequests] : []), oidc.enableNonRepudiationChecks],
        timeout: this.#timeoutSeconds,
        [oidc.customFetch]: this.#fetch as oidc.CustomFetch,
      });
      this.#discovered = config;
      return config;
    } catch (error) {
      throw new AuthError('provider_unavailable', 'the provider\'s metadata cannot be read', {
        reason: 'discovery', retryAfterSeconds: DISCOVERY_RETRY_AFTER_SECONDS, cause: error,
      });
    }
  }

  async #tokenSet(
    config: oidc.Configuration,
    response: oidc.TokenEndpointResponse & oidc.TokenEndpointResponseHelpers,
    knownSubject: string | null,
  ): Promise<TokenSet> {
    const now = Date.now();
    const idClaims: JWTPayload = response.claims() ?? {};
    const accessClaims = decodeLeniently(response.access_token);
    const subject = idClaims.sub ?? knownSubject;
    if (subject === null) throw new AuthError('provider_rejected', 'the provider sent no ID Token', { reason: 'no_id_token' });
    const userinfo = this.#options.userinfo ? await oidc.fetchUserInfo(config, response.access_token, subject) : {};
    const lifetime = response.expires_in ?? lifetimeOf(accessClaims, now) ?? DEFAULT_TOKEN_LIFETIME_SECONDS;
    const refreshLifetime = Number(response['refresh_expires_in'] ?? 0);
    return {
      accessToken: response.access_token,
      refreshToken: response.refresh_token ?? null,
      idToken: response.id_token ?? null,
      tokenExpiresAt: new Date(now + lifetime * 1000),
      tokenLifetimeSeconds: lifetime,
      refreshExpiresAt: Number.isFinite(refreshLifetime) && refreshLifetime > 0 ? new Date(now + refreshLifetime * 1000) : null,
      identity: identityOf(subject, accessClaims, userinfo, idClaims),
    };
  }
}

/** Roles as they are written everywhere here, from whichever claims hold them: access token first, then userinfo, then ID Token. */
export function rolesOf(...sources: Record<string, unknown>[]): string[] {
  for (const claims of sources) {
    const realm = roleNames(claims['realm_access']).map((role) => `realm:${role}`);
    // A client called `realm` would pass its roles off as the realm's.
    const clients = Object.entries(record(claims['resource_access'])).filter(([client]) => !/^realm(:|$)/.test(client)).flatMap(([client, access]) => roleNames(access).map((role) => `${client}:${role}`));
    if (realm.length + clients.length > 0) return [...new Set([...realm, ...clients])].sort();
  }
  return [];
}

function identityOf(subject: string, access: JWTPayload, userinfo: Record<string, unknown>, id: JWTPayload): Identity {
  const first = (claim: string): string | null => {
    for (const claims of [id, userinfo, access]) if (typeof claims[claim] === 'string') return claims[claim];
    return null;
  };
  return {
    subject,
    sid: first('sid'),
    preferredUsername: first('preferred_username'),
    email: first('email'),
    name: first('name'),
    roles: rolesOf(access, userinfo, id),
  };
}

/** By OAuth's `error` code and HTTP status, never by text. Only a 400 `invalid_grant` says that the grant is dead (RFC 6749 §5.2). */
function classify(error: unknown): AuthError {
  if (isAuthError(error)) return error;
  if (error instanceof oidc.AuthorizationResponseError) {
    return new AuthError('callback_rejected', 'the provider answered the authorization request with an error', { reason: error.error, cause: error });
  }
  if (error instanceof oidc.ResponseBodyError && error.status < 500 && error.status !== 429) {
    if (error.error === 'invalid_grant') {
      return new AuthError('reauthentication_required', 'the provider ended the grant', { reason: 'invalid_grant', cause: error });
    }
    if (error.error !== 'temporarily_unavailable' && error.error !== 'slow_down') {
      return new AuthError('provider_rejected', 'the provider refused this client', { reason: error.error, cause: error });
    }
  }
  if (error instanceof oidc.WWWAuthenticateChallengeError && error.status === 401) {
    return new AuthError('provider_rejected', 'the provider refused this client\'s credentials', { reason: 'invalid_client', cause: error });
  }
  if (error instanceof oidc.ClientError && CALLBACK_FAULTS.has(error.code ?? '')) {
    return new AuthError('callback_rejected', 'the authorization response or its ID Token is not acceptable', { reason: error.code ?? 'invalid_response', cause: error });
  }
  return new AuthError('provider_unavailable', 'the provider gives no usable answer', { retryAfterSeconds: retryAfter(error), cause: error });
}

const CALLBACK_FAULTS = new Set([
  'OAUTH_INVALID_RESPONSE', 'OAUTH_JWT_CLAIM_COMPARISON_FAILED', 'OAUTH_JWT_TIMESTAMP_CHECK_FAILED', 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED', 'OAUTH_KEY_SELECTION_FAILED',
]);
const MAX_RETRY_AFTER_SECONDS = 300;

function retryAfter(error: unknown): number {
  const response = error instanceof Error && error.cause instanceof Response ? error.cause : null;
  const seconds = Number(response?.headers.get('retry-after') ?? NaN);
  return Number.isInteger(seconds) && seconds > 0 ? Math.min(seconds, MAX_RETRY_AFTER_SECONDS) : 2;
}

function lifetimeOf(claims: JWTPayload, now: number): number | undefined {
  return claims.exp === undefined ? undefined : Math.max(0, claims.exp - Math.floor(now / 1000));
}

/** An access token is opaque to a client; where it is a JWT that came straight from the token endpoint its claims are good to read. */
function decodeLeniently(token: string): JWTPayload {
  try {
    return decodeJwt(token);
  } catch {
    return {};
  }
}

function fetchThrough(issuer: string, internalUrl: string | undefined): typeof fetch {
  if (internalUrl === undefined) return fetch;
  return (input, init) => {
    const url = String(input);
    return fetch(url === issuer || url.startsWith(`${issuer}/`) ? internalUrl + url.slice(issuer.length) : url, init);
  };
}

const record = (value: unknown): Record<string, unknown> => (typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {});
const roleNames = (access: unknown): string[] => {
  const { roles } = record(access);
  return Array.isArray(roles) ? roles.filter((role): role is string => typeof role === 'string') : [];
};
