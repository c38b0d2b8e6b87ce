import type { Session } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';

/** How far two lifetimes of one answer of the provider may be off: it counts in whole seconds. */
const ROUNDING_MS = 1_000;

/** When a session ends. */
export interface SessionEnd {
  /** If nobody uses it. */
  readonly at: Date;
  /** However much it is used, as far as is known now. */
  readonly latest: Date;
}

/**
 * When a session ends. The refresh token's end counts only where it will not move: background rounds renew the tokens
 * of a session in use before then.
 */
export function sessionEnd(
  { store, config }: Pick<Gateway, 'store' | 'config'>,
  session: Session,
): SessionEnd {
  const idle = store.idleExpiresAt(session);
  const idleMs = idle.getTime() - session.lastAccessedAt.getTime();
  const latest = willBeRenewed(session, idleMs, config)
    ? new Date(session.createdAt.getTime() + config.sessionAbsoluteTimeoutMs)
    : session.expiresAt;
  return { at: idle < latest ? idle : latest, latest };
}

function willBeRenewed(
  { tokenExpiresAt, tokenLifetimeSeconds, expiresAt }: Session,
  idleMs: number,
  { refreshSweepMs, sessionIdleFromProvider }: Gateway['config'],
): boolean {
  if (refreshSweepMs === 0 || tokenExpiresAt === null || tokenLifetimeSeconds === null)
    return false;
  // A provider's refresh tokens last for its idle time, and for less only near the end of its own session.
  const issuedAt = tokenExpiresAt.getTime() - tokenLifetimeSeconds * 1000;
  return !sessionIdleFromProvider || expiresAt.getTime() - issuedAt >= idleMs - ROUNDING_MS;
}
