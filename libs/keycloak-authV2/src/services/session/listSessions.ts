import type { Sql } from '@session-gateway/database';
import { cursorOf, type ListPosition } from './listPosition.js';
import { isOverSql } from './sessionTimes.js';
import { rowIdOf, shownId } from './shownId.js';

export interface ListedSession {
  /** As it is shown. */
  readonly id: string;
  readonly subject: string;
  readonly createdAt: Date;
  readonly lastAccessedAt: Date;
  readonly expiresAt: Date;
  readonly ipAddress: string | null;
  readonly userAgent: string | null;
  /** The list goes on behind it. */
  readonly cursor: string;
}

export interface ListOptions {
  readonly subject?: string | undefined;
  readonly limit: number;
  readonly after?: ListPosition | undefined;
  /** Only that one; its row id. */
  readonly id?: string | undefined;
}

interface ListedRow {
  id: string;
  subject: string;
  created_at: Date;
  last_accessed_at: Date;
  expires_at: Date;
  ip_address: string | null;
  user_agent: string | null;
  created_at_micros: string;
}

/**
 * The live sessions of a subject, or of everyone, newest first; keyset pagination: those behind `after`, whether or
 * not that session still is.
 */
export async function listSessions(
  sql: Sql,
  idleTimeoutMs: number,
  options: ListOptions,
): Promise<ListedSession[]> {
  const { subject, limit, after, id } = options;
  const values: unknown[] = [idleTimeoutMs, limit];
  const parameter = (value: unknown): string => `$${values.push(value)}`;
  const afterId = after && ((await rowIdOf(sql, after.id)) ?? after.id);
  // Only what is asked for is in the statement, so that PostgreSQL plans it for the index.
  const which = [
    `s.is_active AND NOT ${isOverSql('$1')}`,
    ...(subject === undefined ? [] : [`u.keycloak_id = ${parameter(subject)}`]),
    ...(id === undefined ? [] : [`s.id = ${parameter(id)}`]),
    ...(after === undefined
      ? []
      : [
          `(s.created_at, s.id) < (timestamptz 'epoch' + ${parameter(after.createdAtMicros)}::bigint * interval '1 microsecond', ${parameter(afterId)}::text)`,
        ]),
  ];
  const rows = await sql.query<ListedRow>(
    `SELECT s.id, u.keycloak_id AS subject, s.created_at, s.last_accessed_at, s.expires_at, s.ip_address, s.user_agent,
         (extract(epoch FROM s.created_at) * 1000000)::bigint::text AS created_at_micros
       FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE ${which.join(' AND ')} ORDER BY s.created_at DESC, s.id DESC LIMIT $2`,
    values,
  );
  return rows.map((row) => ({
    id: shownId(row.id),
    subject: row.subject,
    createdAt: row.created_at,
    lastAccessedAt: row.last_accessed_at,
    expiresAt: row.expires_at,
    ipAddress: row.ip_address,
    userAgent: row.user_agent,
    cursor: cursorOf({ createdAtMicros: row.created_at_micros, id: shownId(row.id) }),
  }));
}
