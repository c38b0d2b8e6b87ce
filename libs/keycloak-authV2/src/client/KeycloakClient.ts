import * as oidc from 'openid-client';
import { AuthError, isAuthError } from '../errors.js';
import { SharedReads } from '../services/sharedReads.js';
import { assertionKey } from './clientAuthentication.js';
import { DEFAULT_SCOPE, type KeycloakClientOptions } from './clientOptions.js';
import { base } from './base.js';
import { discover, discoveryFault, dpopHandle, METADATA_UNREADABLE } from './discovery.js';
import { keptToken } from './dpop.js';
import { endSession } from './endSession.js';
import { record } from './identity.js';
import { signedWith, verifyIdToken } from './idToken.js';
import { providerFault, refusesToken } from './providerFaults.js';
import { providerCall, type ProviderFetch, providerFetch } from './providerFetch.js';
import { ProviderHealth } from './providerHealth.js';
import { ProviderKeys, type ProviderKeySet, type TokenSource } from './providerKeys.js';
import { expiryOf, type TokenSet, tokenSetOf } from './tokenSet.js';

/** What Keycloak says of a permission; `token_rejected`: nothing about it, the token itself does not count any more. */
export type Verdict = 'granted' | 'denied' | 'token_rejected';

export interface AuthorizationRequest {
  readonly url: URL;
  readonly state: string;
  readonly oidcNonce: string;
  readonly codeVerifier: string;
}

const UMA_TICKET = 'urn:ietf:params:oauth:grant-type:uma-ticket';
type SeenIssuer = 'ours' | 'another' | 'unreadable';
const ANOTHER_ISSUER =
  "the provider's metadata names another issuer (its hostname or frontend URL has changed, or KEYCLOAK_ISSUER is wrong)";
/** A look at the metadata before a session is ended. */
const LOOK_MS = 1_500;
/** Characters of an address that a browser is sent to. */
const MAX_END_SESSION_URL = 2_048;

/**
 * The relying party's side of OpenID Connect with one Keycloak realm. Discovery happens at the first use and is tried
 * anew after a failure, so the provider may be away when the process starts.
 * Every failure is an AuthError: `provider_unavailable` (worth another try), `provider_rejected` (our configuration),
 * `reauthentication_required` (`invalid_grant`), `callback_rejected`.
 * In one file, since every call shares one discovery, one client authentication and one view of the provider's health.
 */
export class KeycloakClient {
  #options: KeycloakClientOptions;
  readonly #fetch: ProviderFetch;
  readonly #health = new ProviderHealth();
  readonly #looks = new SharedReads<SeenIssuer>();
  #configuration: Promise<oidc.Configuration> | undefined;
  #discovered: oidc.Configuration | undefined;
  #authenticate: oidc.ClientAuth = oidc.None();
  /** Why there is none, also where the provider answered. */
  #undiscovered = METADATA_UNREADABLE;
  #keys: ProviderKeys | undefined;
  /** For each request that asks for a token or shows one. */
  #proofs: oidc.DPoPOptions = {};

  constructor(options: KeycloakClientOptions) {
    this.#options = options;
    this.#fetch = providerFetch(
      options.issuer,
      options.internalUrl,
      this.#health.watch(options.fetch ?? fetch),
    );
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
   * Whether the realm's metadata is known, without which nothing can be asked of it, and why the provider is taken to
   * be away just now, or null. Asks it every few seconds at most, and waits for less than one.
   */
  async health(): Promise<{ metadataKnown: boolean; reason: string | null }> {
    const reason = await this.#health.reason(() =>
      this.#discovered === undefined
        ? this.ready()
        : this.#readMetadata(this.#timeoutSeconds * 1000),
    );
    return this.#discovered === undefined
      ? { metadataKnown: false, reason: reason ?? this.#undiscovered }
      : { metadataKnown: true, reason };
  }

  /**
   * Before a refusal ends anything: whether the provider goes by the issuer that refresh tokens were made under. Under
   * another name, as after a change of its hostname, Keycloak refuses every token as if the grants were dead.
   * @throws AuthError `provider_unavailable` for another issuer, or where that cannot be seen
   */
  async #confirmIssuer(): Promise<void> {
    const seen = await this.#looks.read('metadata', () =>
      this.#readMetadata(LOOK_MS).catch(() => 'unreadable' as const),
    );
    if (seen === 'ours') return;
    throw seen === 'another'
      ? new AuthError('provider_unavailable', ANOTHER_ISSUER, { reason: 'issuer_mismatch' })
      : new AuthError('provider_unavailable', METADATA_UNREADABLE, {
          reason: 'issuer_unconfirmed',
        });
  }

  async #readMetadata(timeoutMs: number): Promise<SeenIssuer> {
    const answer = await this.#fetch(`${base(this.issuer)}/.well-known/openid-configuration`, {
      signal: AbortSignal.timeout(timeoutMs),
    });
    const metadata = record(await answer.json().catch(() => null));
    // A realm that is gone or disabled answers too.
    if (!answer.ok) this.#health.note(`${METADATA_UNREADABLE}: ${answer.status}`);
    if (!answer.ok || typeof metadata['issuer'] !== 'string') return 'unreadable';
    const issuer = this.#discovered?.serverMetadata().issuer ?? this.issuer;
    const isOurs = metadata['issuer'] === issuer;
    this.#health.noteIssuer(isOurs ? null : ANOTHER_ISSUER);
    return isOurs ? 'ours' : 'another';
  }

  /**
   * A new authorization request: code flow, PKCE S256 (RFC 7636), state and nonce. Of `extra`, a `scope` counts and
   * replaces the usual one; `stateEnding` is put behind the random state.
   */
  async authorizationRequest(
    redirectUri: string,
    extra: Record<string, string> = {},
    stateEnding = '',
  ): Promise<AuthorizationRequest> {
    const config = await this.#config();
    const [state, oidcNonce, codeVerifier] = [
      oidc.randomState() + stateEnding,
      oidc.randomNonce(),
      oidc.randomPKCECodeVerifier(),
    ];
    const parameters = {
      scope: this.#options.scope ?? DEFAULT_SCOPE,
      ...extra,
      redirect_uri: redirectUri,
      state,
      nonce: oidcNonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: 'S256',
      // Binds the code too (RFC 9449 §10).
      ...(this.#options.dpop === undefined ? {} : { dpop_jkt: this.#options.dpop.thumbprint }),
    };
    const url = this.#options.pushedRequests
      ? await oidc
          .buildAuthorizationUrlWithPAR(config, parameters, this.#proofs)
          .catch((error: unknown) => {
            throw providerFault(error, 'other');
          })
      : oidc.buildAuthorizationUrl(config, parameters);
    return { url, state, oidcNonce, codeVerifier };
  }

  /**
   * Redeems the code of an authorization response after checking state, `iss` (RFC 9207), nonce and the ID Token with
   * its signature. `callbackUrl` is the redirect URI with the response's query.
   */
  async exchangeCode(
    callbackUrl: URL,
    expected: {
      state: string;
      oidcNonce: string;
      codeVerifier: string;
      maxAgeSeconds?: number;
      /** One of these must be the ID Token's `acr`. */
      acrValues?: string | undefined;
    },
  ): Promise<TokenSet> {
    const config = await this.#config();
    // Of other flows; the library takes the question for one that it cannot answer.
    if (
      ['id_token', 'token', 'access_token', 'response'].some((name) =>
        callbackUrl.searchParams.has(name),
      )
    ) {
      throw new AuthError(
        'callback_rejected',
        'the authorization response is none of the code flow',
        { reason: 'response_type' },
      );
    }
    try {
      const response = await oidc.authorizationCodeGrant(
        config,
        callbackUrl,
        {
          expectedState: expected.state,
          expectedNonce: expected.oidcNonce,
          pkceCodeVerifier: expected.codeVerifier,
          idTokenExpected: true,
          ...(expected.maxAgeSeconds === undefined ? {} : { maxAge: expected.maxAgeSeconds }),
        },
        undefined,
        this.#proofs,
      );
      await verifyIdToken(response.id_token ?? '', response.claims() ?? {}, {
        keys: await (await this.#realmKeys()).current('provider'),
        algorithms: await this.providerAlgorithms(),
        clientId: this.clientId,
        acrValues: expected.acrValues,
      });
      return await this.#tokenSet(
        response,
        null,
        this.#options.userinfo
          ? (subject) => this.#userinfo(config, response, subject).catch(absentIfRefused)
          : undefined,
      );
    } catch (error) {
      const fault = providerFault(error, 'authorization');
      if (fault.code !== 'reauthentication_required') throw fault;
      throw new AuthError('callback_rejected', 'the provider refused the authorization code', {
        reason: 'invalid_grant',
        providerSaid: fault.providerSaid,
        cause: error,
      });
    }
  }

  /**
   * Spends a refresh token, within 5 s however many requests that takes. `subject` is the session's: it stands in where
   * the answer brings no ID Token. Once the token is spent nothing but the answer itself can fail the call: its ID
   * Token is believed for coming straight from the token endpoint (OpenID Connect Core §3.1.3.7), and userinfo that
   * cannot be had is done without. A refusal counts only from a provider that goes by the configured issuer.
   * @throws AuthError with reason `answer_lost` where the token may be spent although no answer came
   */
  async refresh(refreshToken: string, subject: string): Promise<TokenSet> {
    return this.#spend(refreshToken, subject).catch(async (error: unknown) => {
      if (isAuthError(error, 'reauthentication_required')) await this.#confirmIssuer();
      throw error;
    });
  }

  async #spend(refreshToken: string, subject: string): Promise<TokenSet> {
    const config = await this.#config();
    return providerCall(this.#timeoutSeconds * 1000, async (answerLost) => {
      try {
        const response = await oidc.refreshTokenGrant(
          config,
          refreshToken,
          undefined,
          this.#proofs,
        );
        return await this.#tokenSet(
          response,
          subject,
          this.#options.userinfo
            ? (about) => this.#userinfo(config, response, about).catch(absentOrAnother)
            : undefined,
        );
      } catch (error) {
        const fault = providerFault(error, 'refresh');
        if (!answerLost() || fault.code === 'provider_rejected') throw fault;
        throw new AuthError(fault.code, fault.message, {
          reason: 'answer_lost',
          retryAfterSeconds: fault.retryAfterSeconds,
          cause: error,
        });
      }
    });
  }

  /** Asks for an access token by a grant of another kind; when it ends is told too. */
  async grant(
    type: string,
    parameters: Record<string, string>,
  ): Promise<{ accessToken: string; tokenExpiresAt: Date }> {
    const config = await this.#config();
    try {
      const answer = await oidc.genericGrantRequest(config, type, parameters, this.#proofs);
      const { access_token: token, token_type: tokenType } = answer;
      return {
        accessToken: keptToken(token, tokenType, this.#options.dpop?.thumbprint),
        tokenExpiresAt: expiryOf(answer, Date.now()),
      };
    } catch (error) {
      throw providerFault(error, 'other');
    }
  }

  /**
   * What Keycloak's authorization services say of one permission of our client (`RESOURCE` or `RESOURCE#SCOPE`), asked
   * in the name of an access token, which authenticates the question (UMA 2.0 grant §3.3.1).
   */
  async decision(accessToken: string, permission: string): Promise<Verdict> {
    const config = await this.#config();
    const question = new URLSearchParams({
      grant_type: UMA_TICKET,
      audience: this.clientId,
      response_mode: 'decision',
      permission,
    });
    const answer = await this.#ask(config, accessToken, question);
    if (answer === null || answer.status === 401) return 'token_rejected';
    if (answer.status === 403) return 'denied';
    const body = record(await answer.json().catch(() => null));
    if (answer.status === 200) return body['result'] === true ? 'granted' : 'denied';
    if (answer.status === 400 && body['error'] === 'invalid_grant') return 'token_rejected';
    if (answer.status === 400)
      throw new AuthError(
        'provider_rejected',
        'the provider does not know a resource or scope that a route enforces',
        { reason: 'permission_unknown' },
      );
    throw new AuthError('provider_unavailable', 'the provider decides no permissions just now', {
      reason: 'unexpected_status',
      retryAfterSeconds: 2,
    });
  }

  /** Null: the provider challenges the token. */
  async #ask(
    config: oidc.Configuration,
    accessToken: string,
    question: URLSearchParams,
  ): Promise<Response | null> {
    try {
      return await oidc.fetchProtectedResource(
        config,
        accessToken,
        new URL(config.serverMetadata().token_endpoint ?? ''),
        'POST',
        question,
        new Headers({ accept: 'application/json' }),
      );
    } catch (error) {
      if (error instanceof oidc.WWWAuthenticateChallengeError && error.status === 401) return null;
      throw providerFault(error, 'other');
    }
  }

  /**
   * Ends the provider's session of a refresh token, for all its clients; also one whose token was spent. A provider
   * that does not take that from server to server revokes the token instead (RFC 7009), which ends this client's part.
   * @throws AuthError `provider_unavailable`, or `provider_rejected` (nothing has ended then)
   */
  async endSession(refreshToken: string): Promise<'ended' | 'already_over' | 'revoked'> {
    const config = await this.#config();
    const outcome = await endSession(config, this.#authenticate, this.#fetch, refreshToken);
    if (outcome !== 'unsupported') return outcome;
    await this.revoke(refreshToken);
    return 'revoked';
  }

  /** Revokes a refresh token (RFC 7009) and with it this client's part of the provider's session. */
  async revoke(refreshToken: string): Promise<void> {
    const config = await this.#config();
    if (config.serverMetadata().revocation_endpoint === undefined)
      throw new AuthError('provider_rejected', 'the provider names no revocation_endpoint', {
        reason: 'metadata',
      });
    try {
      await oidc.tokenRevocation(config, refreshToken, { token_type_hint: 'refresh_token' });
    } catch (error) {
      throw providerFault(error, 'other');
    }
  }

  /**
   * Where a browser ends the session at the provider (OpenID Connect RP-Initiated Logout 1.0 §2). Never waits for the
   * provider: while its metadata is unknown the address follows Keycloak's layout. A hint that would make the address
   * longer than browsers, proxies and Keycloak take is left out: once the session is over Keycloak does not ask for it.
   */
  endSessionUrl(
    postLogoutRedirectUri: string,
    { idTokenHint, state }: { idTokenHint: string | null; state?: string },
  ): URL {
    const { issuer, clientId } = this.#options;
    const endpoint =
      this.#discovered?.serverMetadata().end_session_endpoint ??
      `${base(issuer)}/protocol/openid-connect/logout`;
    const url = new URL(endpoint);
    url.searchParams.set('client_id', clientId);
    url.searchParams.set('post_logout_redirect_uri', postLogoutRedirectUri);
    if (state !== undefined) url.searchParams.set('state', state);
    if (idTokenHint === null) return url;
    const hinted = new URL(url);
    hinted.searchParams.set('id_token_hint', idTokenHint);
    return hinted.href.length < MAX_END_SESSION_URL ? hinted : url;
  }

  /**
   * The realm's signing keys, for a token from somewhere.
   * @throws AuthError `provider_unavailable` when they cannot be fetched
   */
  async jwks(source: TokenSource = 'bearer'): Promise<ProviderKeySet> {
    return (await this.#realmKeys()).current(source);
  }

  /** What ID Tokens and logout tokens may be signed with. */
  async providerAlgorithms(): Promise<string[]> {
    const metadata = (await this.#config()).serverMetadata();
    return signedWith(
      this.#options.idTokenAlgorithm,
      metadata.id_token_signing_alg_values_supported,
    );
  }

  /** What the client's own keys sign with and the provider's metadata does not list, by what it is for. */
  async unlistedAlgorithms(): Promise<string[]> {
    const { clientAuth, clientKey, clientKeyId: keyId, clientKeyAlgorithm, dpop } = this.#options;
    const metadata = (await this.#config()).serverMetadata();
    const listed = metadata.token_endpoint_auth_signing_alg_values_supported;
    const asserted =
      clientAuth === 'private_key_jwt'
        ? await assertionKey({ clientKey, keyId, algorithm: clientKeyAlgorithm }, listed)
        : null;
    const proved = dpop?.keyPair.algorithm;
    const isMissing = (name: string | undefined, names: readonly string[] | undefined): boolean =>
      name !== undefined && names !== undefined && !names.includes(name);
    return [
      ...(isMissing(asserted?.algorithm, listed)
        ? [`client assertions: ${asserted?.algorithm}`]
        : []),
      ...(isMissing(proved, metadata.dpop_signing_alg_values_supported)
        ? [`DPoP proofs: ${proved}`]
        : []),
    ];
  }

  async #realmKeys(): Promise<ProviderKeys> {
    const { jwks_uri: uri } = (await this.#config()).serverMetadata();
    if (uri === undefined)
      throw new AuthError('provider_rejected', 'the provider names no jwks_uri', {
        reason: 'metadata',
      });
    this.#keys ??= new ProviderKeys({ issuer: this.issuer, read: () => this.#readKeys(uri) });
    return this.#keys;
  }

  async #readKeys(uri: string): Promise<unknown> {
    const answer = await this.#fetch(uri, {
      redirect: 'manual',
      headers: { accept: 'application/json, application/jwk-set+json' },
      signal: AbortSignal.timeout(this.#timeoutSeconds * 1000),
    });
    if (answer.status !== 200) {
      await answer.body?.cancel();
      throw new TypeError(`the provider answers ${answer.status} for its keys`);
    }
    return answer.json();
  }

  /** A provider that does not know about proofs gives a token that is bound to nothing. */
  #userinfo(
    config: oidc.Configuration,
    { access_token: token, token_type: type }: oidc.TokenEndpointResponse,
    subject: string,
  ): Promise<oidc.UserInfoResponse> {
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
    try {
      const secret = (): string => this.#options.clientSecret;
      const { config, authenticate } = await discover(this.#options, this.#fetch, secret);
      const { dpop } = this.#options;
      this.#proofs = dpop ? { DPoP: await dpopHandle(config, dpop) } : {};
      this.#discovered = config;
      this.#authenticate = authenticate;
      return config;
    } catch (error) {
      const fault = discoveryFault(error, this.issuer);
      this.#undiscovered = fault.message;
      throw fault;
    }
  }

  #tokenSet(
    response: oidc.TokenEndpointResponse & oidc.TokenEndpointResponseHelpers,
    knownSubject: string | null,
    askUserinfo: ((subject: string) => Promise<Record<string, unknown> | null>) | undefined,
  ): Promise<TokenSet> {
    const thumbprint = this.#options.dpop?.thumbprint;
    return tokenSetOf(response, { knownSubject, askUserinfo, thumbprint });
  }
}

/**
 * A token that the endpoint refuses for good is done without it: Keycloak takes no lightweight ones there, and the
 * ID Token may tell as much.
 */
function absentIfRefused(error: unknown): null {
  if (refusesToken(error)) return null;
  throw error;
}

/**
 * Userinfo that cannot be had is done without; about somebody else it counts, and says so (OpenID Connect Core §5.3.2).
 */
function absentOrAnother(error: unknown): Record<string, unknown> | null {
  return error instanceof oidc.ClientError &&
    error.code === 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED'
    ? { sub: 'another subject' }
    : null;
}
