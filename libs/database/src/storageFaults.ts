import { randomUUID } from 'node:crypto';
import type { Database, Sql } from './prisma.js';

type Right = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE';

/** What the gateway does with each table. Locking a row takes the right to update it. */
export const NEEDED_RIGHTS: Readonly<Record<string, readonly Right[]>> = {
  users: ['SELECT', 'INSERT', 'UPDATE'],
  user_sessions: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  session_changes: ['SELECT', 'DELETE'],
  session_events: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  exchanged_tokens: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  logout_tokens: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  provider_logouts: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  token_keys: ['SELECT', 'INSERT'],
  gateway_instances: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
};

/** Those of our migrations, which other gateways hear of changes by; any other may do anything to a write. */
const OWN_TRIGGERS = [
  'user_sessions_cookie_hash',
  'user_sessions_erase_exchanged_tokens',
  'user_sessions_tell_change',
  'user_sessions_tell_idle',
  'user_sessions_tell_deletion',
  'user_sessions_tell_truncation',
];

interface TableRow {
  name: string;
  is_there: boolean;
  /** The schema that it was found in, where that is not the one of `user_sessions`. */
  elsewhere: string | null;
  lacking: string[];
  row_security: boolean;
  rules: string[];
  sequences: string[];
  triggers: string[];
  silenced: string[];
}

// Only catalogs are read, whatever the size of the tables.
const LOOK = `
  SELECT needed.name, t.oid IS NOT NULL AS is_there,
    CASE WHEN t.relnamespace <> (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('user_sessions')) THEN t.relnamespace::regnamespace::text END AS elsewhere,
    ARRAY(SELECT r FROM unnest(string_to_array(needed.rights, ',')) r WHERE NOT has_table_privilege(t.oid, r)
      AND (r = 'DELETE' OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND NOT has_column_privilege(t.oid, a.attnum, r)))) AS lacking,
    coalesce(row_security_active(t.oid), false) AS row_security,
    ARRAY(SELECT w.rulename::text FROM pg_rewrite w WHERE w.ev_class = t.oid AND w.is_instead AND w.ev_type <> '1' AND w.ev_enabled IN ('O', 'A')) AS rules,
    ARRAY(SELECT s.relname::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid WHERE d.refobjid = t.oid AND d.deptype = 'a'
      AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') ELSE false END) AS sequences,
    ARRAY(SELECT g.tgname::text FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
      AND NOT g.tgname = ANY ($3::text[])) AS triggers,
    ARRAY(SELECT own FROM unnest($3::text[]) own WHERE needed.name = 'user_sessions' AND t.oid IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = t.oid AND g.tgname = own
        AND (g.tgenabled = 'A' OR g.tgenabled = 'O' AND current_setting('session_replication_role') <> 'replica'))) AS silenced
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS needed (name, rights, place)
    LEFT JOIN pg_class t ON t.oid = to_regclass(quote_ident(needed.name))
  ORDER BY needed.place`;

/**
 * What keeps this connection's role from doing the gateway's work, one sentence each: missing tables and rights, tables
 * of another schema that the search path leads to first, row-level security, rules and triggers that swallow writes,
 * triggers of ours that do not fire. Empty when nothing does. Where tables have triggers that are none of ours, a
 * session is written, ended and rolled back to see what comes of it.
 */
export async function storageFaults(db: Pick<Database, 'sql' | 'transaction'>): Promise<string[]> {
  const rows = await db.sql.query<TableRow>(LOOK, [
    Object.keys(NEEDED_RIGHTS),
    Object.values(NEEDED_RIGHTS).map((rights) => rights.join(',')),
    OWN_TRIGGERS,
  ]);
  const faults = rows.flatMap(faultsOf);
  const triggers = rows.flatMap(({ name, triggers: names }) =>
    names.map((trigger) => `${trigger} on ${name}`),
  );
  if (faults.length > 0 || triggers.length === 0) return faults;
  const problem = await rehearse(db);
  return problem === null ? [] : [`${problem} (triggers: ${triggers.join(', ')})`];
}

function faultsOf({
  name,
  is_there: isThere,
  elsewhere,
  lacking,
  row_security: rowSecurity,
  rules,
  sequences,
  silenced,
}: TableRow): string[] {
  if (!isThere)
    return [`the table ${name} is not there, or the role lacks USAGE on the schema that holds it`];
  if (elsewhere !== null)
    return [
      `the search path of the role leads to ${name} in the schema ${elsewhere}, which is not that of user_sessions`,
    ];
  return [
    ...(lacking.length > 0 ? [`the role lacks ${lacking.join(', ')} on ${name}`] : []),
    ...sequences.map((sequence) => `the role lacks USAGE on the sequence ${sequence}`),
    ...(rowSecurity
      ? [`row-level security of ${name} applies to the role: it needs BYPASSRLS`]
      : []),
    ...rules.map((rule) => `the rule ${rule} on ${name} replaces writes`),
    ...silenced.map((trigger) => `the trigger ${trigger} of ${name} is missing or disabled`),
  ];
}

/** The life of a session, rolled back; null when every write does what it says. */
async function rehearse(db: Pick<Database, 'transaction'>): Promise<string | null> {
  let found: string | null = null;
  const rolledBack = new Error('rolled back, as it was a rehearsal');
  try {
    await db.transaction(
      async (sql) => {
        found = await lifeOfASession(sql);
        // Deferred triggers would speak at the commit only.
        await sql.query('SET CONSTRAINTS ALL IMMEDIATE');
        throw rolledBack;
      },
      { lockMs: 1_000, statementMs: 2_000 },
    );
  } catch (error) {
    if (error !== rolledBack) return `a session cannot be written: ${messageOf(error)}`;
  }
  return found;
}

async function lifeOfASession(sql: Sql): Promise<string | null> {
  const steps: [string, string][] = [
    [
      'a new user',
      `INSERT INTO users (id, keycloak_id, updated_at) VALUES ($1, $1, now()) RETURNING id = $1 AS done`,
    ],
    [
      'a new session',
      `INSERT INTO user_sessions (id, user_id, cookie_hash, expires_at, updated_at)
       VALUES ($1, $1, sha256(convert_to($1, 'UTF8')), now() + interval '1 minute', now()) RETURNING id = $1 AS done`,
    ],
    [
      'new tokens',
      `UPDATE user_sessions SET version = version + 1, last_accessed_at = now() WHERE id = $1 AND is_active RETURNING version = 1 AS done`,
    ],
    [
      'an exchanged token',
      `INSERT INTO exchanged_tokens (session_id, audience) VALUES ($1, 'rehearsal') RETURNING session_id = $1 AS done`,
    ],
    [
      'the renewal of an exchanged token',
      `UPDATE exchanged_tokens SET lease_owner = 'rehearsal' WHERE session_id = $1 RETURNING lease_owner = 'rehearsal' AS done`,
    ],
    [
      'the end of a session',
      `UPDATE user_sessions SET is_active = false, ended_at = now(), end_reason = 'rehearsal', version = version + 1 WHERE id = $1 RETURNING NOT is_active AS done`,
    ],
    [
      'the news of that end',
      `SELECT true AS done FROM session_changes WHERE cookie_hash = sha256(convert_to($1, 'UTF8')) AND version IS NULL`,
    ],
    [
      'a logout that the provider is owed',
      `INSERT INTO provider_logouts (id, session_id, subject, reason, call, refresh_token, expires_at)
       VALUES ($1, $1, $1, 'rehearsal', 'end_session', 'v2.rehearsal.' || repeat('A', 54), now()) RETURNING id = $1 AS done`,
    ],
    [
      'another attempt at that',
      `UPDATE provider_logouts SET attempts = attempts + 1 WHERE id = $1 RETURNING attempts = 1 AS done`,
    ],
    ['the answer to that', `DELETE FROM provider_logouts WHERE id = $1 RETURNING true AS done`],
    [
      "a logout token's jti",
      `INSERT INTO logout_tokens (issuer, jti, expires_at) VALUES ('rehearsal', $1, now()) RETURNING jti = $1 AS done`,
    ],
    [
      'a process that is alive',
      `INSERT INTO gateway_instances (id, primary_kid, keys) VALUES ($1, 'rehearsal', '[]') RETURNING id = $1 AS done`,
    ],
    [
      'an event',
      `INSERT INTO session_events (event, session_id, actor) VALUES ('rehearsal', $1, 'gateway') RETURNING session_id = $1 AS done`,
    ],
    ['the removal of a session', 'DELETE FROM user_sessions WHERE id = $1 RETURNING true AS done'],
  ];
  const id = `rehearsal-${randomUUID()}`;
  for (const [what, statement] of steps) {
    const [row] = await sql.query<{ done: boolean }>(statement, [id]);
    if (row?.done !== true) return `PostgreSQL drops the write of ${what} without an error`;
  }
  return null;
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
