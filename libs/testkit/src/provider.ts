import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { JWTHeaderParameters } from 'jose';
import { later, readBody, startServer, type TestServer } from './httpServer.js';
import {
  claimsOf,
  OAuthError,
  ProviderState,
  type StubSettings,
  type StubTokens,
  type StubUser,
} from './providerState.js';

export type StubEndpoint =
  'discovery' | 'certs' | 'auth' | 'token' | 'userinfo' | 'revoke' | 'logout';

/** What happens to one request instead of, or after, the usual. */
export interface StubAnswer {
  /** Default `token`. */
  endpoint?: StubEndpoint;
  delayMs?: number;
  /** With `status` or `body` the request is not acted upon and gets this answer. */
  status?: number;
  body?: unknown;
  headers?: Record<string, string>;
  /** Cuts the connection before anything is done. */
  drop?: boolean;
  /** Does the work (tokens are rotated) and then cuts the connection in place of the answer. */
  dropAfterSending?: boolean;
  /** Does the work and sends half of the answer. */
  truncate?: boolean;
  /** 200, `application/json`, and a body that is none; nothing is done. */
  garbage?: boolean;
}

export interface StubCounts {
  discovery: number;
  certs: number;
  auth: number;
  /** Requests to the token endpoint by grant, answered in whatever way. */
  code: number;
  refresh: number;
  invalidGrants: number;
  userinfo: number;
  revocations: number;
  /** Requests to the end-session endpoint, answered in whatever way. */
  logouts: number;
  /** Those that ended a session from server to server, by a refresh token. */
  endedSessions: number;
}

export interface ProviderStub extends TestServer {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** Changes hold from the next request on. */
  readonly settings: StubSettings;
  readonly counts: StubCounts;
  /** The most refresh grants that were in flight at one moment. */
  maxConcurrentRefreshes(): number;
  /** The same of requests to the end-session endpoint. */
  maxConcurrentLogouts(): number;
  resetCounts(): void;
  /** Queued per endpoint; each answer serves one request. */
  answerNext(...answers: StubAnswer[]): void;
  /**
   * For every request to that endpoint without a queued answer, from now on; null: as usual
   * again, and nothing is queued.
   */
  answerAlways(answer: StubAnswer | null): void;
  /** Who the next authorization requests log in (default `demo`); a known `login_hint` wins. */
  chooseUser(username: string): void;
  /** Adds or changes a user. */
  setUser(username: string, patch?: Partial<StubUser>): StubUser;
  /** A session and its first tokens, without HTTP. */
  grant(username?: string): Promise<StubTokens>;
  /** A bearer token as another client of the realm would present it; claims of undefined are left out. */
  bearer(claims?: Record<string, unknown>, header?: Partial<JWTHeaderParameters>): Promise<string>;
  logoutToken(
    claims: Record<string, unknown>,
    header?: Partial<JWTHeaderParameters>,
  ): Promise<string>;
  sign(claims: Record<string, unknown>, header?: Partial<JWTHeaderParameters>): Promise<string>;
  rotateKeys(keepOld?: boolean): Promise<void>;
  /** Ends a session as its owner would at the provider. */
  endSession(sid: string): boolean;
  isSessionAlive(sid: string): boolean;
  /** How many token sets a session got: one at its login, one for each refresh. */
  issued(sid: string): number;
  dispose(): Promise<void>;
}

export interface ProviderStubOptions extends Partial<StubSettings> {
  clientId?: string;
  clientSecret?: string;
  realm?: string;
  port?: number;
}

/**
 * A tiny OpenID Provider with Keycloak's routes and Keycloak's reaction to a replayed refresh token, for tests of faults. All
 * of its routes are in one file: they share its settings and counts.
 */
export async function startProviderStub(options: ProviderStubOptions = {}): Promise<ProviderStub> {
  const {
    clientId = 'api-gateway',
    clientSecret = 'development-only-secret',
    realm = 'neurotracker',
    port,
    ...chosen
  } = options;
  const settings: StubSettings = {
    rotation: true,
    reuse: 0,
    latencyMs: 0,
    accessTokenLifespanSeconds: 60,
    refreshExpiresInSeconds: 1800,
    lightweight: false,
    idTokenOnRefresh: true,
    ...chosen,
  };
  const counts: StubCounts = {
    discovery: 0,
    certs: 0,
    auth: 0,
    code: 0,
    refresh: 0,
    invalidGrants: 0,
    userinfo: 0,
    revocations: 0,
    logouts: 0,
    endedSessions: 0,
  };
  const queued: StubAnswer[] = [];
  let always: StubAnswer | null = null;
  let [refreshing, maxRefreshing] = [0, 0];
  let [loggingOut, maxLoggingOut] = [0, 0];
  let chosenUser = 'demo';

  const server = await startServer(async (request, response) => {
    const url = new URL(request.url ?? '/', server.url);
    const endpoint = endpointOf(url.pathname, base);
    if (!endpoint) return void response.writeHead(404).end();
    const form = new URLSearchParams(
      request.method === 'POST' ? await readBody(request) : url.search,
    );
    const counted = count(endpoint, form.get('grant_type'));
    if (counted === 'refresh') maxRefreshing = Math.max(maxRefreshing, (refreshing += 1));
    if (counted === 'logouts') maxLoggingOut = Math.max(maxLoggingOut, (loggingOut += 1));
    try {
      const special = takeSpecial(endpoint);
      await later(special.delayMs ?? settings.latencyMs);
      if (special.drop) return void request.socket.destroy();
      const reply = instead(special) ?? (await work(endpoint, request, form));
      if (special.dropAfterSending) return void request.socket.destroy();
      send(response, reply, special.truncate ?? false);
    } finally {
      if (counted === 'refresh') refreshing -= 1;
      if (counted === 'logouts') loggingOut -= 1;
    }
  }, port);
  const base = `/realms/${realm}`;
  const issuer = `${server.url}${base}`;
  const state = await ProviderState.create(issuer, clientId, settings);

  /** What was asked for in place of the usual; a queued answer serves once. */
  function takeSpecial(endpoint: StubEndpoint): StubAnswer {
    const at = queued.findIndex((answer) => (answer.endpoint ?? 'token') === endpoint);
    if (at >= 0) return queued.splice(at, 1)[0] as StubAnswer;
    return always && (always.endpoint ?? 'token') === endpoint ? always : {};
  }

  function count(endpoint: StubEndpoint, grantType: string | null): keyof StubCounts {
    const counted = countOf(endpoint, grantType);
    counts[counted] += 1;
    return counted;
  }

  async function work(
    endpoint: StubEndpoint,
    request: IncomingMessage,
    form: URLSearchParams,
  ): Promise<Reply> {
    try {
      switch (endpoint) {
        case 'discovery':
          return json(metadata(issuer));
        case 'certs':
          return json(state.jwks());
        case 'auth':
          return authorize(form);
        case 'token':
          return json(await token(request, form));
        case 'userinfo':
          return userinfo(request);
        case 'revoke':
          authenticateClient(request, form);
          state.endByToken(form.get('token') ?? '');
          return { status: 200, headers: {}, body: '' };
        case 'logout':
          return logout(request, form);
      }
    } catch (error) {
      if (!(error instanceof OAuthError)) throw error;
      if (error.error === 'invalid_grant') counts.invalidGrants += 1;
      return json({ error: error.error, error_description: error.message }, error.status);
    }
  }

  function authorize(form: URLSearchParams): Reply {
    const [redirectUri, challenge] = [form.get('redirect_uri'), form.get('code_challenge')];
    if (form.get('client_id') !== clientId || !redirectUri)
      return { status: 400, headers: {}, body: 'unknown client or redirect_uri' };
    const back = new URL(redirectUri);
    if (form.has('state')) back.searchParams.set('state', form.get('state') ?? '');
    back.searchParams.set('iss', issuer);
    if (
      form.get('response_type') !== 'code' ||
      !challenge ||
      form.get('code_challenge_method') !== 'S256'
    ) {
      back.searchParams.set('error', 'invalid_request');
      return redirect(back);
    }
    const hint = form.get('login_hint') ?? '';
    const session = state.login(
      state.users.has(hint) ? hint : chosenUser,
      form.get('scope') ?? 'openid',
    );
    back.searchParams.set('session_state', session.sid);
    back.searchParams.set(
      'code',
      state.authorize(session, { redirectUri, challenge, nonce: form.get('nonce') }),
    );
    return redirect(back);
  }

  async function token(request: IncomingMessage, form: URLSearchParams): Promise<object> {
    authenticateClient(request, form);
    switch (form.get('grant_type')) {
      case 'authorization_code':
        return tokenAnswer(
          await state.redeemCode(
            form.get('code') ?? '',
            form.get('redirect_uri') ?? '',
            form.get('code_verifier') ?? '',
          ),
          true,
        );
      case 'refresh_token':
        return tokenAnswer(
          await state.refresh(form.get('refresh_token') ?? ''),
          settings.idTokenOnRefresh,
        );
      default:
        throw new OAuthError('unsupported_grant_type', 'Unsupported grant_type');
    }
  }

  function tokenAnswer(tokens: StubTokens, withIdToken: boolean): object {
    return {
      access_token: tokens.accessToken,
      expires_in: tokens.expiresIn,
      refresh_expires_in: tokens.refreshExpiresIn,
      refresh_token: tokens.refreshToken,
      token_type: 'Bearer',
      ...(withIdToken ? { id_token: tokens.idToken } : {}),
      'not-before-policy': 0,
      session_state: tokens.sid,
      scope: 'openid email profile',
    };
  }

  function authenticateClient(request: IncomingMessage, form: URLSearchParams): void {
    const [scheme, encoded = ''] = (request.headers.authorization ?? '').split(' ');
    const [id, secret] =
      scheme === 'Basic'
        ? Buffer.from(encoded, 'base64').toString('utf8').split(':').map(decodeURIComponent)
        : [form.get('client_id'), form.get('client_secret')];
    // A signed assertion names the client in its subject; its signature is not this stub's subject.
    const known = form.has('client_assertion')
      ? claimsOf(form.get('client_assertion'))['sub'] === clientId
      : id === clientId && secret === clientSecret;
    if (!known)
      throw new OAuthError('invalid_client', 'Invalid client or Invalid client credentials', 401);
  }

  function userinfo(request: IncomingMessage): Reply {
    const { sid } = claimsOf((request.headers.authorization ?? '').replace(/^Bearer /, ''));
    const user = state.userOf(String(sid));
    if (!user) throw new OAuthError('invalid_token', 'Token verification failed', 401);
    return json({
      sub: user.sub,
      preferred_username: user.preferredUsername,
      email: user.email,
      name: user.name,
      realm_access: { roles: user.realmRoles },
      ...user.idTokenClaims,
    });
  }

  function logout(request: IncomingMessage, form: URLSearchParams): Reply {
    const refreshToken = form.get('refresh_token');
    if (request.method === 'POST' && refreshToken !== null) {
      // As Keycloak does it from server to server: also for a token that was spent.
      authenticateClient(request, form);
      if (!state.knowsRefreshToken(refreshToken))
        throw new OAuthError('invalid_grant', 'Invalid refresh token');
      state.endByToken(refreshToken);
      counts.endedSessions += 1;
      return { status: 204, headers: {}, body: '' };
    }
    state.endByToken(form.get('id_token_hint') ?? '');
    const target = form.get('post_logout_redirect_uri');
    if (!target)
      return { status: 200, headers: { 'content-type': 'text/html' }, body: 'You are logged out' };
    const back = new URL(target);
    if (form.has('state')) back.searchParams.set('state', form.get('state') ?? '');
    return redirect(back);
  }

  function setUser(username: string, patch: Partial<StubUser> = {}): StubUser {
    const user = state.users.get(username) ?? {
      sub: randomUUID(),
      preferredUsername: username,
      email: `${username}@example.com`,
      name: username,
      realmRoles: ['user'],
      clientRoles: {},
      accessTokenClaims: {},
      idTokenClaims: {},
    };
    state.users.set(username, Object.assign(user, patch));
    return user;
  }

  setUser('demo', { name: 'Demo User', clientRoles: { [clientId]: ['reader'] } });
  setUser('alice', { name: 'Alice Abel', clientRoles: { [clientId]: ['reader', 'writer'] } });
  setUser('bob', { name: 'Bob Baker' });
  setUser('admin', { name: 'Ada Admin', realmRoles: ['user', 'admin', 'session-admin'] });

  return {
    ...server,
    issuer,
    clientId,
    clientSecret,
    settings,
    counts,
    setUser,
    maxConcurrentRefreshes: () => maxRefreshing,
    maxConcurrentLogouts: () => maxLoggingOut,
    resetCounts() {
      for (const name of Object.keys(counts) as (keyof StubCounts)[]) counts[name] = 0;
      [maxRefreshing, maxLoggingOut] = [0, 0];
    },
    answerNext: (...answers) => void queued.push(...answers),
    answerAlways(answer) {
      always = answer;
      if (answer === null) queued.length = 0;
    },
    chooseUser(username) {
      setUser(username);
      chosenUser = username;
    },
    grant: (username = chosenUser) => state.issue(state.login(username), null),
    bearer: (claims = {}, header) => {
      const nowSeconds = Math.floor(Date.now() / 1000);
      const { sub, preferredUsername, realmRoles } = setUser('demo');
      return state.sign(
        {
          iss: issuer,
          sub,
          aud: clientId,
          azp: 'reports',
          iat: nowSeconds,
          exp: nowSeconds + 60,
          jti: randomUUID(),
          typ: 'Bearer',
          preferred_username: preferredUsername,
          realm_access: { roles: realmRoles },
          ...claims,
        },
        header,
      );
    },
    logoutToken: (claims, header) => state.logoutToken(claims, header),
    sign: (claims, header) => state.sign(claims, header),
    rotateKeys: (keepOld) => state.rotateKeys(keepOld),
    endSession: (sid) => state.end(sid),
    isSessionAlive: (sid) => state.isAlive(sid),
    issued: (sid) => state.issued(sid),
    dispose: server.stop,
  };
}

interface Reply {
  status: number;
  headers: Record<string, string>;
  body: string;
}

const ENDPOINTS: Record<string, StubEndpoint> = {
  '/.well-known/openid-configuration': 'discovery',
  '/protocol/openid-connect/certs': 'certs',
  '/protocol/openid-connect/auth': 'auth',
  '/protocol/openid-connect/token': 'token',
  '/protocol/openid-connect/userinfo': 'userinfo',
  '/protocol/openid-connect/revoke': 'revoke',
  '/protocol/openid-connect/logout': 'logout',
};

function endpointOf(path: string, base: string): StubEndpoint | undefined {
  return path.startsWith(base) ? ENDPOINTS[path.slice(base.length)] : undefined;
}

function countOf(endpoint: StubEndpoint, grantType: string | null): keyof StubCounts {
  if (endpoint === 'token') return grantType === 'refresh_token' ? 'refresh' : 'code';
  if (endpoint === 'revoke') return 'revocations';
  return endpoint === 'logout' ? 'logouts' : endpoint;
}

function metadata(issuer: string): object {
  const endpoint = (name: string): string => `${issuer}/protocol/openid-connect/${name}`;
  return {
    issuer,
    authorization_endpoint: endpoint('auth'),
    token_endpoint: endpoint('token'),
    userinfo_endpoint: endpoint('userinfo'),
    jwks_uri: endpoint('certs'),
    end_session_endpoint: endpoint('logout'),
    revocation_endpoint: endpoint('revoke'),
    response_types_supported: ['code'],
    grant_types_supported: ['authorization_code', 'refresh_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: [
      'client_secret_basic',
      'client_secret_post',
      'private_key_jwt',
    ],
    authorization_response_iss_parameter_supported: true,
    backchannel_logout_supported: true,
    backchannel_logout_session_supported: true,
    frontchannel_logout_supported: true,
    frontchannel_logout_session_supported: true,
  };
}

function instead(special: StubAnswer): Reply | null {
  if (special.garbage)
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: '<html>\u0000{"access_token":',
    };
  if (special.status === undefined && special.body === undefined) return null;
  const body = typeof special.body === 'string' ? special.body : JSON.stringify(special.body ?? {});
  return {
    status: special.status ?? 200,
    headers: { 'content-type': 'application/json', ...special.headers },
    body,
  };
}

function json(body: object, status = 200): Reply {
  return {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
    body: JSON.stringify(body),
  };
}

function redirect(to: URL): Reply {
  return { status: 302, headers: { location: to.href, 'cache-control': 'no-store' }, body: '' };
}

function send(response: ServerResponse, { status, headers, body }: Reply, truncate: boolean): void {
  const length = status === 204 ? {} : { 'content-length': String(Buffer.byteLength(body)) };
  response.writeHead(status, { ...headers, ...length });
  if (!truncate) return void response.end(body);
  response.write(body.slice(0, Math.ceil(body.length / 2)), () => response.destroy());
}
