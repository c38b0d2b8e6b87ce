import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import type Provider from 'oidc-provider';
import type { Configuration, JWKS, KoaContextWithOIDC } from 'oidc-provider';
import { createFileAdapter } from './fileAdapter.js';
import { readOrCreateSecret } from './generatedSecret.js';
import { loginPage, logoutPage, messagePage } from './loginPage.js';

export interface DevelopmentProviderOptions {
  /** Ends with the realm's path, as Keycloak's issuers do. */
  issuer: string;
  dataDir: string;
  clientId: string;
  clientSecret: string;
  redirectUris: string[];
  postLogoutRedirectUris: string[];
  backchannelLogoutUri?: string;
  accessTokenTtlSeconds?: number;
}

export interface DevelopmentProvider {
  /** For requests whose path lies below the issuer's. */
  readonly handler: (request: IncomingMessage, response: ServerResponse) => void;
  close(): Promise<void>;
}

interface User {
  password: string;
  name: string;
  email: string;
  realmRoles: string[];
  clientRoles: string[];
}
const USERS: Readonly<Record<string, User>> = {
  demo: {
    password: 'demo',
    name: 'Demo User',
    email: 'demo@example.com',
    realmRoles: ['user'],
    clientRoles: ['reader'],
  },
  admin: {
    password: 'admin',
    name: 'Admin User',
    email: 'admin@example.com',
    realmRoles: ['user', 'session-admin'],
    clientRoles: ['reader', 'writer'],
  },
};

const RESOURCE = 'urn:session-gateway:account';
const SCOPE = 'openid profile email';
const REFRESH_TOKEN_SECONDS = 1800;
const SSO_SECONDS = 36_000;
const MAX_FORM_BYTES = 8_192;

/**
 * An OpenID Provider for development with Keycloak's routes and claims: PKCE required, JWT access tokens with roles,
 * rotating refresh tokens, RP-initiated and back-channel logout. Keys and grants survive a restart.
 */
export async function createDevelopmentProvider(
  options: DevelopmentProviderOptions,
): Promise<DevelopmentProvider> {
  const { issuer, dataDir } = options;
  const issuerUrl = new URL(issuer);
  const basePath = issuerUrl.pathname.replace(/\/$/, '');
  const storage = createFileAdapter(join(dataDir, 'grants.json'));
  const Implementation = await loadProvider();
  const provider = new Implementation(issuer, {
    ...configuration(options, basePath),
    adapter: storage.adapter,
    jwks: signingKeys(join(dataDir, 'keys.json')),
  });
  provider.proxy = true;
  provider.use(async (ctx, next) => {
    await next();
    // Keycloak says how long a refresh token lives.
    const body = ctx.body as { refresh_token?: string; refresh_expires_in?: number } | undefined;
    if (ctx.path === ROUTES.token && body?.refresh_token)
      body.refresh_expires_in = REFRESH_TOKEN_SECONDS;
  });
  const answer = provider.callback();
  const loginPrefix = `${basePath}/login/`;

  const handler = (
    request: IncomingMessage & { originalUrl?: string },
    response: ServerResponse,
  ): void => {
    // Whatever address it was reached under, the provider speaks as its issuer.
    request.headers.host = issuerUrl.host;
    request.headers['x-forwarded-proto'] = issuerUrl.protocol.slice(0, -1);
    if (request.url?.startsWith(loginPrefix)) {
      login(provider, request, response).catch(() =>
        send(
          response,
          400,
          messagePage(
            'Start again',
            'This login is no longer under way. Go back to the application and log in again.',
          ),
        ),
      );
      return;
    }
    request.originalUrl = request.url ?? '/';
    request.url = request.originalUrl.slice(basePath.length);
    // A browser's forms come without it: this is a client that ends a session from server to server.
    if (isServerLogout(request)) {
      serverLogout(provider, options, request, response).catch(() =>
        json(response, 400, { error: 'invalid_request' }),
      );
      return;
    }
    void answer(request, response);
  };
  return { handler, close: async () => storage.flush() };
}

let loading: Promise<typeof Provider> | undefined;

/**
 * On Node 20, where all that is used here works, the package complains while it is loaded; a
 * newcomer would see that first.
 */
function loadProvider(): Promise<typeof Provider> {
  // Once: two that overlapped would each restore what the other had put there.
  loading ??= (async () => {
    const { console } = globalThis;
    const warn = console.warn.bind(console);
    console.warn = () => undefined;
    try {
      return (await import('oidc-provider')).default;
    } finally {
      console.warn = warn;
    }
  })();
  return loading;
}

const ROUTES = {
  authorization: '/protocol/openid-connect/auth',
  token: '/protocol/openid-connect/token',
  jwks: '/protocol/openid-connect/certs',
  userinfo: '/protocol/openid-connect/userinfo',
  end_session: '/protocol/openid-connect/logout',
  revocation: '/protocol/openid-connect/revoke',
} as const;

function configuration(options: DevelopmentProviderOptions, basePath: string): Configuration {
  const { clientId, dataDir } = options;
  const cookiePath = `${basePath}/`;
  return {
    clients: [
      {
        client_id: clientId,
        client_secret: options.clientSecret,
        redirect_uris: options.redirectUris,
        post_logout_redirect_uris: options.postLogoutRedirectUris,
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        ...(options.backchannelLogoutUri
          ? {
              backchannel_logout_uri: options.backchannelLogoutUri,
              backchannel_logout_session_required: true,
            }
          : {}),
      },
    ],
    routes: ROUTES,
    cookies: {
      keys: [readOrCreateSecret(join(dataDir, 'cookie.key'))],
      names: {
        session: 'provider_session',
        interaction: 'provider_interaction',
        resume: 'provider_resume',
      },
      long: { signed: true, path: cookiePath },
      short: { signed: true },
    },
    fetch: (url, options) => fetch(url, withoutGuard(options)),
    pkce: { required: () => true },
    scopes: SCOPE.split(' '),
    claims: {
      openid: ['sub', 'sid'],
      profile: ['preferred_username', 'name'],
      email: ['email', 'email_verified'],
      acr: null,
      auth_time: null,
      sid: null,
    },
    // Keycloak puts the person's claims into the ID Token.
    conformIdTokenClaims: false,
    findAccount: (_ctx, id) => {
      const [username, user] = Object.entries(USERS).find(([name]) => subjectOf(name) === id) ?? [];
      return username && user
        ? {
            accountId: id,
            claims: () => ({
              sub: id,
              preferred_username: username,
              name: user.name,
              email: user.email,
              email_verified: true,
            }),
          }
        : undefined;
    },
    interactions: { url: (_ctx, interaction) => `${basePath}/login/${interaction.uid}` },
    loadExistingGrant,
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    extraTokenClaims: (ctx, token) =>
      accessTokenClaims(ctx, 'accountId' in token ? token.accountId : undefined, clientId),
    ttl: {
      RefreshToken: REFRESH_TOKEN_SECONDS,
      Grant: SSO_SECONDS,
      Session: SSO_SECONDS,
      Interaction: 1_800,
      IdToken: 300,
      AuthorizationCode: 60,
      AccessToken: 300,
    },
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = logoutPage(form, ctx.oidc.entities.IdTokenHint !== undefined);
        },
        postLogoutSuccessSource: (ctx) => {
          ctx.body = messagePage('Logged out', 'You are logged out.');
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: SCOPE,
          audience: 'account',
          accessTokenFormat: 'jwt',
          accessTokenTTL: options.accessTokenTtlSeconds ?? 300,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    renderError: (ctx, out) => {
      ctx.type = 'html';
      ctx.body = messagePage('That did not work', out.error_description ?? out.error);
    },
  };
}

/**
 * The only address that this provider ever calls is the gateway's own, on loopback, which the
 * package's guard would refuse.
 */
function withoutGuard(options: object | undefined): RequestInit {
  const unguarded: { dispatcher?: unknown } = { ...options };
  delete unguarded.dispatcher;
  return unguarded as RequestInit;
}

/** Consent is given: there is one client, and it is ours. */
async function loadExistingGrant(ctx: KoaContextWithOIDC) {
  const { provider, client, session } = ctx.oidc;
  const grantId = client && session?.grantIdFor(client.clientId);
  const known = grantId ? await provider.Grant.find(grantId) : undefined;
  if (known) return known;
  const grant = new provider.Grant({
    ...(client ? { clientId: client.clientId } : {}),
    ...(session?.accountId ? { accountId: session.accountId } : {}),
  });
  grant.addOIDCScope(SCOPE);
  grant.addResourceScope(RESOURCE, SCOPE);
  await grant.save();
  return grant;
}

function accessTokenClaims(
  ctx: KoaContextWithOIDC,
  accountId: string | undefined,
  clientId: string,
) {
  const [username, user] =
    Object.entries(USERS).find(([name]) => subjectOf(name) === accountId) ?? [];
  const { AuthorizationCode: code, RefreshToken: refresh } = ctx.oidc.entities;
  const sid = (code ?? refresh)?.sid;
  return {
    typ: 'Bearer',
    azp: clientId,
    ...(sid ? { sid } : {}),
    ...(username && user
      ? {
          preferred_username: username,
          name: user.name,
          email: user.email,
          realm_access: { roles: user.realmRoles },
          resource_access: { [clientId]: { roles: user.clientRoles } },
        }
      : {}),
  };
}

async function login(
  provider: Provider,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { params, prompt } = await provider.interactionDetails(request, response);
  if (prompt.name !== 'login') throw new Error(`there is no page for ${prompt.name}`);
  const action = request.url ?? '';
  const hint = typeof params['login_hint'] === 'string' ? params['login_hint'] : '';
  if (request.method !== 'POST')
    return void send(response, 200, loginPage({ action, hint, failed: false }));
  const form = new URLSearchParams(await bodyOf(request));
  const username = form.get('username') ?? '';
  const user = Object.hasOwn(USERS, username) ? USERS[username] : undefined;
  if (user?.password !== form.get('password'))
    return void send(response, 200, loginPage({ action, hint: username, failed: true }));
  await provider.interactionFinished(
    request,
    response,
    { login: { accountId: subjectOf(username), acr: '1', amr: ['pwd'] } },
    { mergeWithLastSubmission: false },
  );
}

const isServerLogout = ({ method, url, headers }: IncomingMessage): boolean =>
  method === 'POST' &&
  url === ROUTES.end_session &&
  (headers.authorization ?? '').startsWith('Basic ');

/** As Keycloak does it: a client and one of its refresh tokens end the session, and its clients are told. */
async function serverLogout(
  provider: Provider,
  { clientId, clientSecret }: DevelopmentProviderOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const credentials = Buffer.from((request.headers.authorization ?? '').slice(6), 'base64');
  const [id, secret] = String(credentials).split(':').map(decodeURIComponent);
  if (id !== clientId || secret !== clientSecret)
    return void json(response, 401, { error: 'invalid_client' });
  const presented = new URLSearchParams(await bodyOf(request)).get('refresh_token') ?? '';
  const token = await provider.RefreshToken.find(presented, { ignoreExpiration: true });
  if (token === undefined) return void json(response, 400, { error: 'invalid_grant' });
  const { sessionUid, grantId, accountId, sid } = token;
  const session = sessionUid ? await provider.Session.findByUid(sessionUid) : undefined;
  await session?.destroy();
  await provider.RefreshToken.revokeByGrantId(grantId ?? '');
  await provider.Grant.find(grantId ?? '').then((grant) => grant?.destroy());
  // The package's types do not name what its own logout calls.
  const client = (await provider.Client.find(clientId)) as Partial<TellsOfLogout> | undefined;
  if (session && client?.backchannelLogoutUri && accountId && sid)
    await client.backchannelLogout?.(accountId, sid).catch(() => undefined);
  response.writeHead(204).end();
}

interface TellsOfLogout {
  backchannelLogoutUri: string;
  backchannelLogout(accountId: string, sid: string): Promise<void>;
}

function json(response: ServerResponse, status: number, body: object): void {
  if (response.headersSent) return;
  response
    .writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' })
    .end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of request) {
    body += String(chunk);
    if (body.length > MAX_FORM_BYTES) throw new Error('the form is too large');
  }
  return body;
}

function send(response: ServerResponse, status: number, html: string): void {
  response
    .writeHead(status, {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
      'Content-Security-Policy':
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    })
    .end(html);
}

/** A subject in the shape of Keycloak's, the same for ever. */
function subjectOf(username: string): string {
  return createHash('sha256')
    .update(`session-gateway:${username}`)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
}

function signingKeys(file: string): JWKS {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as JWKS;
  } catch {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const keys = {
      keys: [
        { ...privateKey.export({ format: 'jwk' }), kid: 'development', use: 'sig', alg: 'RS256' },
      ],
    } as JWKS;
    mkdirSync(join(file, '..'), { recursive: true, mode: 0o700 });
    writeFileSync(file, JSON.stringify(keys), { mode: 0o600 });
    return keys;
  }
}
