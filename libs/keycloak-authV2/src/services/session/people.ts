import type { Sql } from '@session-gateway/database';

/** Somebody who has logged in here, as the provider named them then. */
export interface Person {
  readonly subject: string;
  readonly preferredUsername: string | null;
  readonly email: string | null;
  readonly name: string | null;
}

interface PersonRow {
  subject: string;
  preferred_username: string | null;
  email: string | null;
  name: string | null;
}

const SELECT = `SELECT u.keycloak_id AS subject, u.email, u.name,
  (SELECT s.metadata->>'preferred_username' FROM user_sessions s WHERE s.user_id = u.id ORDER BY s.created_at DESC LIMIT 1) AS preferred_username
  FROM users u`;

/**
 * The people whose subject, e-mail address or user name this is, written in full; letters of either case are one for
 * the last two. Each is looked up by an index. A user name is known as long as one of its sessions is kept.
 */
export async function findPeople(sql: Sql, text: string, limit: number): Promise<Person[]> {
  // PostgreSQL takes no NUL in a text.
  if (text === '' || text.includes('\0')) return [];
  const rows = await sql.query<PersonRow>(
    `${SELECT} WHERE u.id IN (
       SELECT id FROM users WHERE keycloak_id = $1
       UNION SELECT id FROM users WHERE lower(email) = lower($1)
       UNION SELECT user_id FROM user_sessions WHERE lower(metadata->>'preferred_username') = lower($1))
     ORDER BY u.keycloak_id LIMIT $2`,
    [text, limit],
  );
  return rows.map(personOf);
}

/** The person of a subject; null: nobody who has ever logged in here. */
export async function personOfSubject(sql: Sql, subject: string): Promise<Person | null> {
  if (subject.includes('\0')) return null;
  const [row] = await sql.query<PersonRow>(`${SELECT} WHERE u.keycloak_id = $1`, [subject]);
  return row === undefined ? null : personOf(row);
}

const personOf = ({ subject, preferred_username, email, name }: PersonRow): Person => ({
  subject,
  preferredUsername: preferred_username,
  email,
  name,
});
