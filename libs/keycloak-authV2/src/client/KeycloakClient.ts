import { compactVerify, createRemoteJWKSet, customFetch as joseFetch, decodeJwt, errors as joseErrors, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import * as oidc from 'openid-client';
import { AuthError } from '../errors.js';
import { type ClientAuthMethod, clientAuthentication } from './clientAuthentication.js';
import type { DpopKeys } from './dpop.js';
import { type Identity, identityOf, record } from './identity.js';
import { providerFault, refusesToken } from './providerFaults.js';
import { providerCall, providerFetch } from './providerFetch.js';
import { ProviderHealth } from './providerHealth.js';

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

/** What Keycloak says of a permission; `token_rejected`: nothing about it, the token itself does not count any more. */
export type Verdict = 'granted' | 'denied' | 'token_rejected';

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
  clientAuth?: ClientAuthMethod;
  /** PEM, for `private_key_jwt`. */
  clientKey?: string | undefined;
  /** Send authorization requests ahead, from server to server (RFC 9126). */
  pushedRequests?: boolean;
  /** Ask for access tokens that are bound to a key (RFC 9449). */
  dpop?: DpopKeys | undefined;
  /** Ask the userinfo endpoint too; its `sub` must match (OpenID Connect Core §5.3.2). */
  userinfo?: boolean;
  timeoutSeconds?: number;
  /** Sends the requests in place of Node's own. */
  fetch?: typeof fetch;
}

/** Signatures that a provider may make; never a shared secret, never none. */
export const SIGNATURE_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];

const UMA_TICKET = 'urn:ietf:params:oauth:grant-type:uma-ticket';
const CLOCK_TOLERANCE_SECONDS = 15;
const DEFAULT_TOKEN_LIFETIME_SECONDS = 60;
const METADATA_UNREADABLE = 'the provider\'s metadata cannot be read';
/** Whatever an answer claims: a date beyond this cannot be stored. */
const MAX_LIFETIME_SECONDS = 315_360_000;

/**
 * The relying party's side of OpenID Connect with one Keycloak realm. Discovery happens at the first use and is tried
 * anew after a failure, so the provider may be away when the process starts.
 * Every failure is an AuthError: `provider_unavailable` (worth another try), `provider_rejected` (our configuration),
 * `reauthentication_required` (`invalid_grant`), `callback_rejected`.
 */
export class KeycloakClient {
  #options: KeycloakClientOptions;
  readonly #fetch: typeof fetch;
  readonly #health = new ProviderHealth();
  #configuration: Promise<oidc.Configuration> | undefined;
  #discovered: oidc.Configuration | undefined;
  /** Why there is none, also where the provider answered. */
  #undiscovered = METADATA_UNREADABLE;
  #jwks: ReturnType<typeof createRemoteJWKSet> | undefined;
  /** For each request that asks for a token or shows one. */
  #proofs: oidc.DPoPOptions = {};

  constructor(options: KeycloakClientOptions) {
    this.#options = options;
    this.#fetch = providerFetch(options.issuer, options.internalUrl, this.#health.watch(options.fetch ?? fetch));
  }

  get issuer(): string {
    return this.#options.issuer;
  }

  get clientId(): string {
    return this.#options.clientId;
  }

  /** Authenticates with another secret from the next request on; whether it is another. */
  useSecret(clientSecret: string): boolean {
    const isNew = clientSecret !== this.#options.clientSecret;
    this.#options = { ...this.#options, clientSecret };
    return isNew;
  }

  /** Resolves once the realm's metadata is known. */
  async ready(): Promise<void> {
    await this.#config();
  }

  /**
   * Whether the realm's metadata is known, without which nothing can be asked of it, and why the provider is taken to be
   * away just now, or null. Asks it every few seconds at most, and waits for less than one.
   */
  async health(): Promise<{ metadataKnown: boolean; reason: string | null }> {
    const reason = await this.#health.reason(() => (this.#discovered === undefined ? this.ready() : this.#readMetadata()));
    return this.#discovered === undefined
      ? { metadataKnown: false, reason: reason ?? this.#undiscovered }
      : { metadataKnown: true, reason };
  }

  async #readMetadata(): Promise<void> {
    const answer = await this.#fetch(`${this.issuer}/.well-known/openid-configuration`, { signal: AbortSignal.timeout(this.#timeoutSeconds * 1000) });
    // A realm that is gone or disabled answers too.
    if (!answer.ok) this.#health.note(`${METADATA_UNREADABLE}: ${answer.status}`);
    await answer.arrayBuffer();
  }

  /** A new authorization request: code flow, PKCE S256 (RFC 7636), state and nonce. */
  async authorizationRequest(redirectUri: string, extra: Record<string, string> = {}): Promise<AuthorizationRequest> {
    const config = await this.#config();
    const [state, oidcNonce, codeVerifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()];
    const parameters = {
      ...extra,
      redirect_uri: redirectUri,
      scope: 'openid profile email',
      state,
      nonce: oidcNonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
      // Binds the code too (RFC 9449 §10).
      ...(this.#options.dpop === undefined ? {} : { dpop_jkt: this.#options.dpop.thumbprint }),
    };
    const url = this.#options.pushedRequests
      ? await oidc.buildAuthorizationUrlWithPAR(config, parameters, this.#proofs).catch((error: unknown) => { throw providerFault(error, 'other'); })
      : oidc.buildAuthorizationUrl(config, parameters);
    return { url, state, oidcNonce, codeVerifier };
  }

  /**
   * Redeems the code of an authorization response after checking state, `iss` (RFC 9207), nonce and the ID Token with
   * its signature. `callbackUrl` is the redirect URI with the response's query.
   */
  async exchangeCode(callbackUrl: URL, expected: { state: string; oidcNonce: string; codeVerifier: string; maxAgeSeconds?: number }): Promise<TokenSet> {
    const config = await this.#config();
    // Of other flows; the library takes the question for one that it cannot answer.
    if (['id_token', 'token', 'access_token', 'response'].some((name) => callbackUrl.searchParams.has(name))) {
      throw new AuthError('callback_rejected', 'the authorization response is none of the code flow', { reason: 'response_type' });
    }
    try {
      const response = await oidc.authorizationCodeGrant(config, callbackUrl, {
        expectedState: expected.state,
        expectedNonce: expected.oidcNonce,
        pkceCodeVerifier: expected.codeVerifier,
        idTokenExpected: true,
        ...(expected.maxAgeSeconds === undefined ? {} : { maxAge: expected.maxAgeSeconds }),
      }, undefined, this.#proofs);
      await this.#verifySignature(response.id_token ?? '');
      return await this.#tokenSet(response, null, this.#options.userinfo
        ? (subject) => this.#userinfo(config, response, subject).catch(absentIfRefused) : undefined);
    } catch (error) {
      const fault = providerFault(error, 'authorization');
      if (fault.code !== 'reauthentication_required') throw fault;
      throw new AuthError('callback_rejected', 'the provider refused the authorization code', { reason: 'invalid_grant', cause: error });
    }
  }

  /**
   * Spends a refresh token, within 5 s however many requests that takes. `subject` is the session's: it stands in where
   * the answer brings no ID Token. Once the token is spent nothing but the answer itself can fail the call: its ID Token
   * is believed for coming straight from the token endpoint (OpenID Connect Core §3.1.3.7), and userinfo that cannot be
   * had is done without.
   * @throws AuthError with reason `answer_lost` where the token may be spent although no answer came
   */
  async refresh(refreshToken: string, subject: string): Promise<TokenSet> {
    const config = await this.#config();
    return providerCall(this.#timeoutSeconds * 1000, async (answerLost) => {
      try {
        const response = await oidc.refreshTokenGrant(config, refreshToken, undefined, this.#proofs);
        return await this.#tokenSet(response, subject, this.#options.userinfo
          ? (about) => this.#userinfo(config, response, about).catch(absentOrAnother) : undefined);
      } catch (error) {
        const fault = providerFault(error, 'refresh');
        if (!answerLost() || fault.code === 'provider_rejected') throw fault;
        throw new AuthError(fault.code, fault.message, { reason: 'answer_lost', retryAfterSeconds: fault.retryAfterSeconds, cause: error });
      }
    });
  }

  /** Asks for an access token by a grant of another kind; when it ends is told too. */
  async grant(type: string, parameters: Record<string, string>): Promise<{ accessToken: string; tokenExpiresAt: Date }> {
    const config = await this.#config();
    try {
      const { access_token: accessToken, expires_in: expiresIn } = await oidc.genericGrantRequest(config, type, parameters, this.#proofs);
      const now = Date.now();
      const lifetime = Math.min(expiresIn ?? lifetimeOf(decodeLeniently(accessToken), now) ?? DEFAULT_TOKEN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS);
      return { accessToken, tokenExpiresAt: new Date(now + lifetime * 1000) };
    } catch (error) {
      throw providerFault(error, 'other');
    }
  }

  /**
   * What Keycloak's authorization services say of one permission of our client (`RESOURCE` or `RESOURCE#SCOPE`), asked in
   * the name of an access token, which authenticates the question (UMA 2.0 grant §3.3.1).
   */
  async decision(accessToken: string, permission: string): Promise<Verdict> {
    const config = await this.#config();
    const question = new URLSearchParams({ grant_type: UMA_TICKET, audience: this.clientId, response_mode: 'decision', permission });
    const answer = await this.#ask(config, accessToken, question);
    if (answer === null || answer.status === 401) return 'token_rejected';
    if (answer.status === 403) return 'denied';
    const body = record(await answer.json().catch(() => null));
    if (answer.status === 200) return body['result'] === true ? 'granted' : 'denied';
    if (answer.status === 400 && body['error'] === 'invalid_grant') return 'token_rejected';
    if (answer.status === 400) throw new AuthError('provider_rejected', 'the provider does not know a resource or scope that a route enforces', { reason: 'permission_unknown' });
    throw new AuthError('provider_unavailable', 'the provider decides no permissions just now', { reason: 'unexpected_status', retryAfterSeconds: 2 });
  }

  /** Null: the provider challenges the token. */
  async #ask(config: oidc.Configuration, accessToken: string, question: URLSearchParams): Promise<Response | null> {
    try {
      return await oidc.fetchProtectedResource(config, accessToken, new URL(config.serverMetadata().token_endpoint ?? ''), 'POST', question, new Headers({ accept: 'application/json' }));
    } catch (error) {
      if (error instanceof oidc.WWWAuthenticateChallengeError && error.status === 401) return null;
      throw providerFault(error, 'other');
    }
  }

  /** Revokes a refresh token (RFC 7009) and so the session that hangs on it. */
  async revoke(refreshToken: string): Promise<void> {
    const config = await this.#config();
    try {
      await oidc.tokenRevocation(config, refreshToken, { token_type_hint: 'refresh_token' });
    } catch (error) {
      throw providerFault(error, 'other');
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
    return this.#keys();
  }

  async #keys(): Promise<ReturnType<typeof createRemoteJWKSet>> {
    const { jwks_uri } = (await this.#config()).serverMetadata();
    if (jwks_uri === undefined) throw new AuthError('provider_rejected', 'the provider names no jwks_uri', { reason: 'metadata' });
    this.#jwks ??= createRemoteJWKSet(new URL(jwks_uri), {
      timeoutDuration: this.#timeoutSeconds * 1000,
      cooldownDuration: 10_000,
      [joseFetch]: this.#fetch,
    });
    return this.#jwks;
  }

  /** A provider that does not know about proofs gives a token that is bound to nothing. */
  #userinfo(config: oidc.Configuration, { access_token: token, token_type: type }: oidc.TokenEndpointResponse, subject: string): Promise<oidc.UserInfoResponse> {
    return oidc.fetchUserInfo(config, token, subject, type === 'dpop' ? this.#proofs : undefined);
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
    const { issuer, internalUrl, clientId, clientAuth } = this.#options;
    const auth = await clientAuthentication(clientAuth ?? 'client_secret_basic', { secret: () => this.#options.clientSecret, clientKey: this.#options.clientKey });
    try {
      const config = await oidc.discovery(new URL(issuer), clientId, { [oidc.clockTolerance]: CLOCK_TOLERANCE_SECONDS }, auth, {
        // Whether http is acceptable at all was decided by the configuration. Metadata that is read at the internal address may name endpoints there.
        execute: [issuer, internalUrl].some((url) => url?.startsWith('http:')) ? [oidc.allowInsecureRequests] : [],
        timeout: this.#timeoutSeconds,
        [oidc.customFetch]: this.#fetch as oidc.CustomFetch,
      });
      const { dpop } = this.#options;
      if (dpop) this.#proofs = { DPoP: oidc.getDPoPHandle(config, dpop.keyPair) };
      this.#discovered = config;
      return config;
    } catch (error) {
      const { retryAfterSeconds } = providerFault(error, 'other');
      // The library's words are its own, never the answer's: an issuer by another name is the usual mistake.
      this.#undiscovered = error instanceof Error ? `${METADATA_UNREADABLE}: ${error.message}` : METADATA_UNREADABLE;
      throw new AuthError('provider_unavailable', this.#undiscovered, { reason: 'discovery', retryAfterSeconds, cause: error });
    }
  }

  /** Verifies a login's ID Token with the realm's keys even where TLS would do. It comes from the provider: a key that is new to us is looked for at once. */
  async #verifySignature(idToken: string): Promise<void> {
    const keys = await this.#keys();
    const verify = (): Promise<unknown> => compactVerify(idToken, keys, { algorithms: SIGNATURE_ALGORITHMS });
    try {
      await verify().catch(async (error: unknown) => {
        if (!(error instanceof joseErrors.JWKSNoMatchingKey)) throw error;
        await keys.reload();
        return verify();
      });
    } catch (error) {
      const aboutToken = error instanceof joseErrors.JWSSignatureVerificationFailed || error instanceof joseErrors.JWKSNoMatchingKey
        || error instanceof joseErrors.JOSEAlgNotAllowed || error instanceof joseErrors.JWSInvalid;
      throw aboutToken
        ? new AuthError('callback_rejected', 'the ID Token is not signed by the provider', { reason: error.code, cause: error })
        : new AuthError('provider_unavailable', 'the provider\'s keys cannot be fetched', { reason: 'jwks', cause: error });
    }
  }

  async #tokenSet(
    response: oidc.TokenEndpointResponse & oidc.TokenEndpointResponseHelpers,
    knownSubject: string | null,
    askUserinfo: ((subject: string) => Promise<Record<string, unknown> | null>) | undefined,
  ): Promise<TokenSet> {
    const now = Date.now();
    const idClaims: JWTPayload = response.claims() ?? {};
    const accessClaims = decodeLeniently(response.access_token);
    const subject = idClaims.sub ?? knownSubject;
    if (subject === null) throw new AuthError('provider_rejected', 'the provider sent no ID Token', { reason: 'no_id_token' });
    const userinfo = askUserinfo ? await askUserinfo(subject) : {};
    const lifetime = Math.min(response.expires_in ?? lifetimeOf(accessClaims, now) ?? DEFAULT_TOKEN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS);
    const refreshLifetime = Math.min(Number(response['refresh_expires_in'] ?? 0), MAX_LIFETIME_SECONDS);
    return {
      accessToken: response.access_token,
      refreshToken: response.refresh_token ?? null,
      idToken: response.id_token ?? null,
      tokenExpiresAt: new Date(now + lifetime * 1000),
      tokenLifetimeSeconds: lifetime,
      refreshExpiresAt: refreshLifetime > 0 ? new Date(now + refreshLifetime * 1000) : null,
      identity: identityOf(typeof userinfo?.['sub'] === 'string' ? userinfo['sub'] : subject, accessClaims, userinfo, idClaims),
    };
  }
}

/** A token that the endpoint refuses for good is done without it: Keycloak takes no lightweight ones there, and the ID Token may tell as much. */
function absentIfRefused(error: unknown): null {
  if (refusesToken(error)) return null;
  throw error;
}

/** Userinfo that cannot be had is done without; about somebody else it counts, and says so (OpenID Connect Core §5.3.2). */
function absentOrAnother(error: unknown): Record<string, unknown> | null {
  return error instanceof oidc.ClientError && error.code === 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED' ? { sub: 'another subject' } : null;
}

function lifetimeOf(claims: JWTPayload, now: number): number | undefined {
  return typeof claims.exp === 'number' ? Math.max(0, claims.exp - Math.floor(now / 1000)) : undefined;
}

/** An access token is opaque to a client; where it is a JWT that came straight from the token endpoint its claims are good to read. */
function decodeLeniently(token: string): JWTPayload {
  try {
    return decodeJwt(token);
  } catch {
    return {};
  }
}
