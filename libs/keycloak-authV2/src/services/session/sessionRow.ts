import { isOverSql } from './sessionTimes.js';
import type { Session } from './sessionMetadata.js';

/** What a reading of rows brings; names of the columns below. */
export interface SessionRow {
  id: string;
  subject: string;
  sid: string | null;
  created_at: Date;
  last_accessed_at: Date;
  expires_at: Date;
  token_expires_at: Date | null;
  fingerprint: string | null;
  version: number;
  is_active: boolean;
  is_over: boolean;
  end_reason: string | null;
  cookie_hash: Buffer | null;
  token_lifetime: number | null;
  idle_timeout: number | null;
  acr: string | null;
  roles: string[] | null;
  preferred_username: string | null;
  email: string | null;
  name: string | null;
}

/** The beginning of a reading of rows, taken before the statement is sent. */
export interface Reading {
  readonly at: number;
  readonly confirmedAt: number;
  readonly gaps: number;
}

/**
 * Of a row `s` of `user_sessions` and `u` of `users`. Never a token column: the session store knows metadata only.
 * Whether a session is over is PostgreSQL's to say; $1 is the idle timeout.
 */
export const SESSION_COLUMNS = `s.id, u.keycloak_id AS subject, s.keycloak_session_id AS sid, s.created_at, s.last_accessed_at, s.expires_at,
  s.token_expires_at, s.fingerprint, s.version, s.is_active, ${isOverSql('$1')} AS is_over, s.end_reason, s.cookie_hash,
  s.metadata->'token_lifetime' AS token_lifetime, s.metadata->'idle_timeout' AS idle_timeout, s.metadata->'acr' AS acr, s.metadata->'roles' AS roles,
  s.metadata->>'preferred_username' AS preferred_username, u.email, u.name`;

export function sessionOfRow(row: SessionRow): Session {
  return {
    id: row.id,
    subject: row.subject,
    sid: row.sid,
    createdAt: row.created_at,
    lastAccessedAt: row.last_accessed_at,
    expiresAt: row.expires_at,
    tokenExpiresAt: row.token_expires_at,
    fingerprint: row.fingerprint,
    version: row.version,
    tokenLifetimeSeconds: typeof row.token_lifetime === 'number' ? row.token_lifetime : null,
    idleTimeoutSeconds: typeof row.idle_timeout === 'number' ? row.idle_timeout : null,
    acr: typeof row.acr === 'string' && row.acr !== '' ? row.acr : null,
    roles: Array.isArray(row.roles) ? row.roles.filter((role) => typeof role === 'string') : [],
    profile: { preferredUsername: row.preferred_username, email: row.email, name: row.name },
  };
}
