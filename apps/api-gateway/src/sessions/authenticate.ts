import { afterEnding, type BearerIdentity, type Session } from '@session-gateway/keycloak-auth';
import { ANY_CHALLENGE, BEARER_CHALLENGE, Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { type HeaderReader, requireSameOrigin } from '../request/sameOrigin.js';

/** Who a request is from. */
export type Caller =
  | { kind: 'session'; session: Session }
  | { kind: 'bearer'; identity: BearerIdentity; token: string };

export interface Authentication {
  readonly accepts: 'session' | 'bearer' | 'any';
  /** False: do not move the idle timeout. */
  readonly extend?: boolean;
}

/**
 * The session cookie of a request, which an unsafe request may carry only with proof of same origin.
 * @throws Problem `cookie_ambiguous`, `csrf_rejected`
 */
export function sessionCookie(
  { cookies, config }: Gateway,
  method: string,
  header: HeaderReader,
): string | null {
  const cookie = cookies.session(header('cookie'));
  if (cookie !== null) requireSameOrigin(method, header, config.publicUrl.origin);
  return cookie;
}

/**
 * The caller of a request. An unsafe request that carries the session cookie must prove same origin first. Where both
 * are sent, a bearer token counts before the cookie, and an invalid one is an error, never a reason to fall back.
 * @throws Problem 401, 403 or 400; storage and provider faults as they are
 */
export async function authenticate(
  gateway: Gateway,
  method: string,
  header: HeaderReader,
  { accepts, extend = true }: Authentication,
): Promise<Caller> {
  const cookie = sessionCookie(gateway, method, header);
  const token = accepts === 'session' ? null : bearerToken(header('authorization'));
  if (token !== null)
    return { kind: 'bearer', identity: await gateway.validator.validate(token), token };
  if (accepts === 'bearer') throw new Problem('bearer_invalid', { challenge: BEARER_CHALLENGE });
  const session = await sessionOfCookie(gateway, cookie, accepts);
  if (extend) gateway.store.touch(session);
  return { kind: 'session', session };
}

/**
 * The live session of a request's cookie where this process knows it; null says nothing.
 * @throws Problem as `authenticate` does
 */
export function knownSession(
  gateway: Gateway,
  method: string,
  header: HeaderReader,
  { extend = true }: { extend?: boolean } = {},
): Session | null {
  const cookie = sessionCookie(gateway, method, header);
  const session = cookie === null ? null : gateway.store.recall(cookie);
  if (session !== null && extend) gateway.store.touch(session);
  return session;
}

/** The live session of a request's cookie. */
export async function requireSession(
  gateway: Gateway,
  method: string,
  header: HeaderReader,
  options: { extend?: boolean } = {},
): Promise<Session> {
  const caller = await authenticate(gateway, method, header, { accepts: 'session', ...options });
  if (caller.kind !== 'session') throw new Problem('session_not_found');
  return caller.session;
}

async function sessionOfCookie(
  gateway: Gateway,
  cookie: string | null,
  accepts: 'session' | 'any',
): Promise<Session> {
  const asked = accepts === 'any' ? { challenge: ANY_CHALLENGE } : {};
  const found = cookie === null ? null : await gateway.store.find(cookie);
  if (!found) throw new Problem('session_not_found', asked);
  if (found.state === 'live') return found.session;
  const { vault, config } = gateway;
  const { id } = found.session;
  await afterEnding(gateway, await vault.endExpired(config.sessionIdleTimeoutMs, { id }));
  throw new Problem('session_expired', asked);
}

/**
 * RFC 6750 §2.1; the scheme is case-insensitive (RFC 9110 §11.1). Another scheme is none of ours.
 * @throws Problem `bearer_invalid` where no token follows
 */
function bearerToken(authorization: string | null): string | null {
  if (!/^Bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])/i.test(authorization ?? '')) return null;
  const token = /^Bearer +([^\s,]+)$/i.exec(authorization ?? '')?.[1];
  if (token === undefined) throw new Problem('bearer_invalid');
  return token;
}
