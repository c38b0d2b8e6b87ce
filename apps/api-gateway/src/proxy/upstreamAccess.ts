import type { IncomingMessage } from 'node:http';
import { keepNewest } from '@session-gateway/database';
import {
  credentialOf,
  hasRole,
  isAuthError,
  meetsAcr,
  type Session,
} from '@session-gateway/keycloak-auth';
import { authenticate, type Caller } from '../sessions/authenticate.js';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { requireSameOrigin } from '../request/sameOrigin.js';
import { headerOf } from '../request/headers.js';
import type { Credentials } from './upstreamHeaders.js';
import { bearerToken, boundToken, NO_TOKEN } from './upstreamProofs.js';

/** A request that may pass, and what it brings to the upstream. */
export interface Access {
  /** Null where the route asks for nobody. */
  readonly caller: Caller | null;
  readonly credentials: Credentials;
}

/** @throws Problem 401, 403 or 400; storage and provider faults as they are */
export async function requireAccess(
  gateway: Gateway,
  futile: FutileRenewals,
  route: GatewayRoute,
  request: IncomingMessage,
): Promise<Access> {
  const header = (name: string): string | null => headerOf(request, name);
  if (route.auth === 'none') {
    // The cookie decides nothing here and goes no further, but whoever carries it is held to the same rule everywhere.
    if (gateway.cookies.carriesSession(request.headers.cookie))
      requireSameOrigin(request.method ?? 'GET', header, gateway.config.publicUrl.origin);
    return { caller: null, credentials: {} };
  }
  const caller = await authenticate(gateway, request.method ?? 'GET', header, {
    accepts: route.auth,
  });
  if (route.token === 'none' && route.enforce.length === 0) {
    requireLevel(gateway, route, caller);
    return { caller, credentials: NO_TOKEN };
  }
  try {
    return await accessOf(gateway, route, caller);
  } catch (error) {
    if (!(error instanceof TokenRefused)) throw error;
    if (caller.kind === 'bearer') throw new Problem('bearer_invalid', { cause: error.cause });
    // The provider refuses what it gave: either it has ended the session, which a renewal brings to light, or
    // the token is out of date.
    const session = futile.has(route, caller.session.id)
      ? null
      : await gateway.refresher.refresh(caller.session);
    return await accessOf(
      gateway,
      route,
      session === null ? caller : { kind: 'session', session },
    ).catch((again: unknown) => {
      if (!(again instanceof TokenRefused)) throw again;
      futile.add(route, caller.session.id);
      throw again.cause instanceof Error ? again.cause : new Problem('forbidden');
    });
  }
}

/**
 * The same once more with renewed tokens, after the upstream refused those of a session; null when that is no help: the
 * caller has no session, or a renewal brought nothing a moment ago.
 * @throws AuthError `reauthentication_required` when the provider has ended the session. Where it is away or refuses us
 * the upstream's 401 would tell the person to log in, who is logged in: its fault is thrown as it is
 */
export async function renewedAccess(
  gateway: Gateway,
  futile: FutileRenewals,
  route: GatewayRoute,
  { caller, credentials }: Access,
): Promise<Access | null> {
  if (
    caller?.kind !== 'session' ||
    typeof credentials['authorization'] !== 'string' ||
    futile.has(route, caller.session.id)
  )
    return null;
  try {
    return await accessOf(gateway, route, {
      kind: 'session',
      session: await gateway.refresher.refresh(caller.session),
    });
  } catch (error) {
    if (error instanceof TokenRefused) return null;
    throw error;
  }
}

/** The provider does not take the caller's token, though it is not over yet. */
class TokenRefused extends Error {}

async function accessOf(gateway: Gateway, route: GatewayRoute, caller: Caller): Promise<Access> {
  let session = caller.kind === 'session' ? await gateway.refresher.usable(caller.session) : null;
  let own =
    caller.kind === 'bearer' ? caller.token : session && (await gateway.vault.accessToken(session));
  if (own === null && session !== null && (await gateway.store.reload(session.id)) !== null) {
    // Live, with no access token in its row: a renewal brings one.
    session = await gateway.refresher.refresh(session);
    own = await gateway.vault.accessToken(session);
  }
  if (own === null) throw new Problem('session_not_found');
  // By the roles of the token that is sent, not of one that it has just replaced.
  requireLevel(gateway, route, session === null ? caller : { kind: 'session', session });
  const { token: bare } = credentialOf(own);
  if (route.enforce.length > 0) await requirePermissions(gateway, route.enforce, bare);
  const token =
    typeof route.token === 'object'
      ? await exchanged(gateway, route.token.audience, session, bare)
      : own;
  return {
    caller: session === null ? caller : { kind: 'session', session },
    credentials: route.token === 'none' ? NO_TOKEN : credentialsOf(gateway, token),
  };
}

function credentialsOf({ dpop }: Gateway, token: string): Credentials {
  if (credentialOf(token).thumbprint === null) return bearerToken(token);
  if (dpop?.binding(token) === 'ours') return boundToken(token);
  // The key has been changed, or is set no more, without its having been there as a second one for a while: a
  // renewal brings a token for ours.
  throw new TokenRefused('the token is bound to a key that this process does not have');
}

async function requirePermissions(
  { permissions }: Gateway,
  enforced: readonly string[],
  token: string,
): Promise<void> {
  switch (await permissions.check(token, enforced)) {
    case 'granted':
      return;
    case 'denied':
      throw new Problem('forbidden');
    case 'token_rejected':
      throw new TokenRefused('the provider decides nothing for this token');
  }
}

async function exchanged(
  { exchangedTokens }: Gateway,
  audience: string,
  session: Session | null,
  token: string,
): Promise<string> {
  try {
    const found =
      session === null
        ? await exchangedTokens.ofBearer(token, audience)
        : await exchangedTokens.ofSession(session, audience, token);
    if (found === null) throw new Problem('session_not_found');
    return found;
  } catch (error) {
    // Keycloak says invalid_request of a token whose session is over as well as of an audience that it does not know.
    if (
      isAuthError(error, 'reauthentication_required') ||
      (isAuthError(error, 'provider_rejected') && error.reason !== 'invalid_client')
    )
      throw new TokenRefused('the provider does not exchange this token', { cause: error });
    throw error;
  }
}

/** The role first: whom it keeps out, a stronger login would not help. */
function requireLevel({ client }: Gateway, { protect, acr }: GatewayRoute, caller: Caller): void {
  const { roles, acr: own } = caller.kind === 'session' ? caller.session : caller.identity;
  if (protect !== undefined && !hasRole(roles, protect, client.clientId))
    throw new Problem('forbidden');
  if (acr !== undefined && !meetsAcr(own, acr))
    throw new Problem('insufficient_user_authentication', { acrValues: acr });
}

const FUTILE_MS = 30_000;
const MAX_FUTILE = 10_000;

/**
 * Remembers for a while where renewed tokens were refused as well, so that an upstream which always answers 401 does
 * not make every request a refresh.
 */
export class FutileRenewals {
  readonly #until = new Map<string, number>();

  has(route: GatewayRoute, sessionId: string): boolean {
    return (this.#until.get(`${route.path} ${sessionId}`) ?? 0) > Date.now();
  }

  add(route: GatewayRoute, sessionId: string): void {
    keepNewest(this.#until, `${route.path} ${sessionId}`, Date.now() + FUTILE_MS, MAX_FUTILE);
  }
}
