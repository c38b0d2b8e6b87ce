import {
  type ListedSession,
  type Profile,
  type Session,
  shownId,
} from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { sessionEnd } from './sessionEnd.js';

/** `GET /auth/session`: times in ISO 8601, never a token. */
export function sessionBody(gateway: Gateway, session: Session, profile: Profile): unknown {
  const { at, latest } = sessionEnd(gateway, session);
  return {
    session: {
      id: shownId(session.id),
      created_at: session.createdAt,
      expires_at: session.expiresAt,
      idle_expires_at: at,
      extendable: at < latest,
      token_expires_at: session.tokenExpiresAt,
      last_accessed_at: session.lastAccessedAt,
      acr: session.acr,
    },
    user: {
      sub: session.subject,
      preferred_username: profile.preferredUsername,
      email: profile.email,
      name: profile.name,
      roles: session.roles,
    },
  };
}

export function listedBody(
  session: ListedSession,
  current: Session | null,
): Record<string, unknown> {
  return {
    id: session.id,
    created_at: session.createdAt,
    last_accessed_at: session.lastAccessedAt,
    expires_at: session.expiresAt,
    ip_address: session.ipAddress,
    user_agent: session.userAgent,
    ...(current === null
      ? { sub: session.subject }
      : { current: session.id === shownId(current.id) }),
  };
}
