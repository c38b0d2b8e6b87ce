import type { Cluster, ClusterSession } from '@session-gateway/testkit';

/** One thing that a writer of PostgreSQL does to session `a`, with `b` of another person beside it. */
interface PostgresWrite {
  readonly write: (cluster: Cluster, a: ClusterSession, b: ClusterSession) => Promise<unknown>;
  /** Where later logins of these people would find it. */
  readonly undo?: PostgresWrite['write'];
  /** What the cookie of `a` gets then: whom it stands for, and whose token goes upstream. SECURITY.md says the same. */
  readonly expected: string;
}

const swap =
  (...columns: string[]): PostgresWrite['write'] =>
  ({ sql }, a, b) =>
    sql(
      `UPDATE user_sessions s SET ${columns.map((column) => `${column} = o.${column}`).join(', ')}
       FROM user_sessions o WHERE (s.id, o.id) IN (($1, $2), ($2, $1))`,
      [a.id, b.id],
    );

async function swapPeople({ sql }: Cluster, a: ClusterSession, b: ClusterSession): Promise<void> {
  for (const [from, to] of [
    [a.subject, 'somebody'],
    [b.subject, a.subject],
    ['somebody', b.subject],
  ])
    await sql('UPDATE users SET keycloak_id = $2 WHERE keycloak_id = $1', [from, to]);
}

/** What is tried of SECURITY.md's table about writers of PostgreSQL; that page says which rows are not. */
export const POSTGRES_WRITES: Readonly<Record<string, PostgresWrite>> = {
  'nothing (the check of this check)': {
    write: async () => undefined,
    expected: 'identity: own, token: own',
  },
  'access tokens of two rows swapped': {
    write: swap('access_token'),
    expected: 'identity: own, token: token_unreadable',
  },
  'a refresh token where the access token was': {
    write: ({ sql }, { id }) =>
      sql('UPDATE user_sessions SET access_token = refresh_token WHERE id = $1', [id]),
    expected: 'identity: own, token: token_unreadable',
  },
  'a token in plaintext': {
    write: ({ sql }, { id }) =>
      sql(`UPDATE user_sessions SET access_token = 'eyJhbGciOiJub25lIn0.e30.' WHERE id = $1`, [id]),
    expected: 'identity: own, token: token_unreadable',
  },
  'user_id of another person': {
    write: swap('user_id'),
    expected: "identity: the other's, token: own",
  },
  'roles in metadata': {
    write: ({ sql }, { id }) =>
      sql(
        `UPDATE user_sessions SET metadata = metadata || '{"roles": ["realm:session-admin"]}' WHERE id = $1`,
        [id],
      ),
    expected: 'identity: own, token: own, roles: as written',
  },
  'cookie_hash of a cookie that one holds': {
    write: async ({ sql }, a, b) => {
      const [row] = await sql<{ cookie_hash: Buffer }>(
        'SELECT cookie_hash FROM user_sessions WHERE id = $1',
        [a.id],
      );
      await sql('UPDATE user_sessions SET cookie_hash = NULL WHERE id = $1', [a.id]);
      await sql('UPDATE user_sessions SET cookie_hash = $2 WHERE id = $1', [
        b.id,
        row?.cookie_hash,
      ]);
    },
    expected: "identity: the other's, token: the other's",
  },
  'what the same cell held before a renewal': {
    write: async (cluster, { id, cookie }) => {
      const { sql } = cluster;
      const [before] = await sql<{ access_token: string; version: number }>(
        'SELECT access_token, version FROM user_sessions WHERE id = $1',
        [id],
      );
      await cluster.ask(0, '/auth/refresh?force=true', { cookie, method: 'POST' });
      const [after] = await sql<{ version: number }>(
        'UPDATE user_sessions SET access_token = $2 WHERE id = $1 RETURNING version',
        [id, before?.access_token],
      );
      if (after?.version === before?.version) throw new Error('nothing was renewed');
    },
    expected: 'identity: own, token: own',
  },
  'is_active of a session that has ended': {
    write: async (cluster, { id, cookie }) => {
      const { sql } = cluster;
      await cluster.ask(0, '/auth/logout', { cookie, method: 'POST' });
      await sql(
        `UPDATE user_sessions SET is_active = true, ended_at = NULL, end_reason = NULL, expires_at = now() + interval '1 hour' WHERE id = $1`,
        [id],
      );
    },
    expected: 'identity: own, token: session_not_found',
  },
  'users.keycloak_id of another person': {
    write: swapPeople,
    undo: swapPeople,
    expected: "identity: the other's, token: own",
  },
};
