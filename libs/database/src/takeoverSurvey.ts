import type pg from 'pg';
import type { DatabaseErrorCode } from './errors.js';
import { within } from './home.js';

/** From this size on, what one transaction does to every row of a table would hold others up. */
export const LARGE_BYTES = 2 * 1024 * 1024;

/** Something that an operator should know before a database is taken over. */
export interface Finding {
  /** The object, what is wrong with it, and the remedy. */
  readonly text: string;
  /** Why nothing can be changed as long as it stands; null where it is only worth knowing. */
  readonly bars: DatabaseErrorCode | null;
}

export interface Column {
  readonly table: string;
  readonly name: string;
  readonly type: string;
}

const TEXTS = ['text', 'character varying', 'character'];
const TIMES = ['timestamp with time zone', 'timestamp without time zone'];
const TOKENS = ['access_token', 'refresh_token', 'id_token'];
/** What an existing database must have for its sessions to be taken over. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  users: ['id', 'keycloak_id'],
  user_sessions: [
    'id',
    'user_id',
    'keycloak_session_id',
    ...TOKENS,
    'expires_at',
    'created_at',
    'updated_at',
  ],
};
/**
 * Text of any length: a limit that did for the older program fails a login (a cookie's id, an IPv6
 * address, a long user agent).
 */
export const UNLIMITED: Readonly<Record<string, readonly string[]>> = {
  users: ['id', 'keycloak_id', 'email', 'name'],
  user_sessions: [
    'id',
    'user_id',
    'keycloak_session_id',
    ...TOKENS,
    'fingerprint',
    'ip_address',
    'user_agent',
  ],
};
/** What the migrations would leave as it is where there is a column of that name already. */
const TYPES: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(['id', ...TOKENS].map((name) => [name, TEXTS])),
  ...Object.fromEntries(['end_reason', 'refresh_lease_owner'].map((name) => [name, TEXTS])),
  ...Object.fromEntries(
    [
      'token_expires_at',
      'refresh_expires_at',
      'expires_at',
      'last_accessed_at',
      'ended_at',
      'refresh_lease_until',
    ].map((name) => [name, TIMES]),
  ),
  metadata: ['jsonb'],
  is_active: ['boolean'],
  cookie_hash: ['bytea'],
  version: ['integer'],
};
/** An index of one of these names is taken for that of the migrations. */
const INDEXES: Readonly<Record<string, string>> = {
  users_keycloak_id_key: 'UNIQUE keycloak_id',
  user_sessions_user_id_idx: 'user_id',
  user_sessions_keycloak_session_id_idx: 'keycloak_session_id',
  user_sessions_cookie_hash_key: 'UNIQUE cookie_hash',
};
/** An index of one of these names on user_sessions makes way; on another table it is in the way. */
const REMADE = [
  'user_sessions_is_active_token_expires_at_idx',
  'user_sessions_is_active_last_accessed_at_idx',
  'user_sessions_is_active_expires_at_idx',
  'user_sessions_ended_at_idx',
];

const bar = (text: string): Finding => ({ text, bars: 'not_adoptable' });
const note = (text: string): Finding => ({ text, bars: null });

/** What `users` and `user_sessions` of the schema `home` are made of; empty where there is neither. */
export async function readColumns(client: pg.Client, home: string): Promise<Column[]> {
  const { rows } = await client.query<Column>(
    `SELECT c.relname::text AS "table", a.attname::text AS name, format_type(a.atttypid, NULL) AS type
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE n.nspname = $1 AND c.relname IN ('users', 'user_sessions') AND c.relkind NOT IN ('i', 'S', 'c') AND a.attnum > 0 AND NOT a.attisdropped`,
    [home],
  );
  return rows;
}

/**
 * Everything about existing tables that bars the way of the migrations or of the gateway, and
 * what else is worth knowing.
 */
export async function surveyTables(
  client: pg.Client,
  home: string,
  columns: readonly Column[],
): Promise<Finding[]> {
  const missing = Object.entries(REQUIRED).flatMap(([table, names]) =>
    names
      .filter((name) => !columns.some((column) => column.table === table && column.name === name))
      .map((name) => `${table}.${name}`),
  );
  if (missing.length > 0)
    return [
      bar(
        `this database has tables of these names but not these columns: ${missing.join(', ')}; give the gateway a database or a schema of its own`,
      ),
    ];
  const found = [...wrongTypes(columns), ...(await wrongKinds(client, home))];
  // The rest could fail on tables of another kind.
  if (found.length > 0) return found;
  for (const look of [dependents, rebuilt, duplicates, takenNames, hiddenRows, listeners])
    found.push(...(await look(client, home, columns)));
  return found;
}

type Look = (client: pg.Client, home: string, columns: readonly Column[]) => Promise<Finding[]>;

function wrongTypes(columns: readonly Column[]): Finding[] {
  const wrong = columns.filter(
    ({ table, name, type }) =>
      table === 'user_sessions' && TYPES[name] && !TYPES[name].includes(type),
  );
  const texts = wrong.filter(({ name }) => TYPES[name] === TEXTS);
  return [
    ...(texts.length > 0
      ? [
          bar(
            `these columns are not of type text: ${texts.map(({ name, type }) => `user_sessions.${name} is ${type}`).join(', ')}`,
          ),
        ]
      : []),
    ...wrong
      .filter((column) => !texts.includes(column))
      .map(({ name, type }) =>
        bar(
          `user_sessions.${name} is ${type}, and must be ${TYPES[name]?.[0] ?? ''}; ALTER TABLE user_sessions ALTER COLUMN ${name} TYPE …, or rename it`,
        ),
      ),
  ];
}

async function wrongKinds(client: pg.Client, home: string): Promise<Finding[]> {
  const { rows } = await client.query<{ name: string; kind: string; key: boolean }>(
    `SELECT c.relname::text AS name, CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'view' END AS kind,
       EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1 AND a.attname = 'id') AS key
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname IN ('users', 'user_sessions') AND c.relkind NOT IN ('i', 'S', 'c')`,
    [home],
  );
  return rows.flatMap(({ name, kind, key }) => {
    if (kind !== 'table')
      return [
        bar(`${name} is a ${kind}, and must be a plain table; copy its rows into one of that name`),
      ];
    return key ? [] : [bar(`${name}.id is not unique; ALTER TABLE ${name} ADD PRIMARY KEY (id)`)];
  });
}

/** Columns whose type the take-over changes; what is made of them must be made anew. */
const changesType = ({ table, name, type }: Column): boolean =>
  type === 'timestamp without time zone' ||
  (type.startsWith('character') && (UNLIMITED[table]?.includes(name) ?? false));

const dependents: Look = async (client, home, columns) => {
  const { rows } = await client.query<{ what: string; table: string; column: string }>(
    `SELECT DISTINCT c.relname::text AS "table", a.attname::text AS "column",
       CASE WHEN d.classid = 'pg_rewrite'::regclass
         THEN (SELECT pg_describe_object('pg_class'::regclass, ev_class, 0) FROM pg_rewrite WHERE oid = d.objid)
         ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS what
     FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
     WHERE d.refclassid = 'pg_class'::regclass AND n.nspname = $1 AND c.relname IN ('users', 'user_sessions')
       AND (d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass)
         OR d.classid = 'pg_class'::regclass AND d.objid = d.refobjid AND d.objsubid > 0)
     ORDER BY 3, 1, 2`,
    [home],
  );
  return rows
    .filter(({ table, column }) =>
      columns.some((one) => one.table === table && one.name === column && changesType(one)),
    )
    .map(({ what, table, column }) =>
      bar(
        `${what} depends on column "${column}" of ${table}, whose type has to change; drop that, migrate, and make it anew`,
      ),
    );
};

/** What PostgreSQL makes anew, or checks row by row, while it changes a column's type: too long for a large table. */
const rebuilt: Look = async (client, home, columns) => {
  const changed = columns.filter(changesType);
  const { rows } = await client.query<{ what: string; table: string; column: string }>(
    `SELECT 'the index ' || x.indexrelid::regclass AS what, t.relname::text AS "table", a.attname::text AS "column"
     FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(x.indkey) AND a.atttypid = 'timestamp'::regtype
     WHERE n.nspname = $1 AND t.relname IN ('users', 'user_sessions') AND pg_relation_size(t.oid) > $2 AND NOT i.relname = ANY($3)
     UNION ALL SELECT 'the constraint ' || conname, t.relname::text, a.attname::text
     FROM pg_constraint o JOIN pg_class t ON t.oid = o.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(o.conkey)
     WHERE n.nspname = $1 AND t.relname IN ('users', 'user_sessions') AND pg_relation_size(t.oid) > $2 AND o.contype = 'c' ORDER BY 1, 3`,
    [home, LARGE_BYTES, REMADE],
  );
  return rows
    .filter(({ table, column }) =>
      changed.some((one) => one.table === table && one.name === column),
    )
    .map(({ what, table, column }) =>
      bar(
        `${what} is on column "${column}" of ${table}, whose type has to change: it would be made anew while nobody can use this large table; drop it (an index with DROP INDEX CONCURRENTLY), migrate, and make it again`,
      ),
    );
};

const duplicates: Look = async (client, home) => {
  const {
    rows: [row],
  } = await client.query<{ count: number; one: string | null }>(
    `SELECT count(*)::int AS count, min(keycloak_id)::text AS one FROM (
       SELECT keycloak_id FROM ${within(home, 'users')} WHERE keycloak_id IS NOT NULL GROUP BY keycloak_id HAVING count(*) > 1) AS twice`,
  );
  return row && row.count > 0
    ? [
        bar(
          `users.keycloak_id is not unique: ${row.count} value${row.count === 1 ? '' : 's'} of it ${row.count === 1 ? 'is' : 'are'} in several rows, ${row.one ?? ''} for one; give these people's sessions to one row each and delete the others`,
        ),
      ]
    : [];
};

const takenNames: Look = async (client, home) => {
  const { rows } = await client.query<{ name: string; is: string; table: string }>(
    `SELECT i.relname::text AS name, CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END
       || array_to_string(ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, false) FROM generate_series(1, x.indnkeyatts) k), ', ')
       || CASE WHEN x.indpred IS NULL THEN '' ELSE ' WHERE …' END AS is
       , x.indrelid::regclass::text AS "table"
     FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace JOIN pg_class t ON t.oid = x.indrelid
     WHERE n.nspname = $1 AND (i.relname = ANY($2) OR i.relname = ANY($3) AND t.relname <> 'user_sessions')`,
    [home, Object.keys(INDEXES), REMADE],
  );
  return rows
    .filter(({ name, is }) => is !== INDEXES[name] && is !== `UNIQUE ${INDEXES[name] ?? ''}`)
    .map(({ name, is, table }) =>
      bar(
        `the index ${name} is one of (${is}) of ${table}, and a migration makes one of that name; ALTER INDEX ${name} RENAME TO …`,
      ),
    );
};

const hiddenRows: Look = async (client, home) => {
  const { rows } = await client.query<{ name: string; active: boolean }>(
    `SELECT c.relname::text AS name, row_security_active(c.oid) AS active FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname IN ('users', 'user_sessions') AND c.relrowsecurity`,
    [home],
  );
  return rows.map(({ name, active }) =>
    active
      ? bar(
          `row-level security hides rows of ${name} from this role; ALTER TABLE ${name} DISABLE ROW LEVEL SECURITY, or migrate as a role with BYPASSRLS`,
        )
      : note(
          `row-level security is on for ${name}: the gateway's role needs policies that show and let it write every row`,
        ),
  );
};

/** Who copies what is written: plaintext may live on there. */
const listeners: Look = async (client, home) => {
  const { rows } = await client.query<{ what: string; table: string }>(
    `SELECT 'the trigger ' || t.tgname AS what, c.relname::text AS "table" FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname IN ('users', 'user_sessions') AND NOT t.tgisinternal AND t.tgenabled <> 'D'
       AND t.tgname NOT IN ('user_sessions_cookie_hash', 'user_sessions_erase_exchanged_tokens')
     UNION ALL SELECT 'the publication ' || pubname, tablename FROM pg_publication_tables WHERE schemaname = $1 AND tablename IN ('users', 'user_sessions') ORDER BY 1, 2`,
    [home],
  );
  return rows.map(({ what, table }) =>
    note(
      `${what} sees every change of ${table}: what it copies may hold tokens in the clear; see docs/operate/take-over.md`,
    ),
  );
};

/**
 * Tables of Better-Auth, which the migrations drop: rows that they still hold, and what depends on them. A table of one
 * of these names with another shape is another application's, and left alone.
 */
export async function surveyLegacy(
  client: pg.Client,
  home: string,
  dropData: boolean,
): Promise<Finding[]> {
  const { rows: tables } = await client.query<{ id: number; name: string; hidden: boolean }>(
    `SELECT c.oid AS id, c.relname::text AS name, row_security_active(c.oid) AS hidden FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname IN ('accounts', 'verifications') AND c.relkind IN ('r', 'p')
       AND CASE c.relname WHEN 'accounts' THEN ARRAY['id', 'accountid', 'providerid', 'userid'] ELSE ARRAY['id', 'identifier', 'value', 'expiresat'] END
         <@ (SELECT array_agg(replace(lower(attname), '_', '')) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
     ORDER BY c.relname`,
    [home],
  );
  const found = await dependentsOfLegacy(
    client,
    tables.map(({ id }) => id),
  );
  if (dropData) return found;
  const counts: string[] = [];
  for (const { name, hidden } of tables) {
    if (hidden) {
      found.push({
        text: `row-level security hides rows of ${name} from this role, so that they cannot be counted; ${SAVE_THEM}`,
        bars: 'legacy_tables_not_empty',
      });
      continue;
    }
    const {
      rows: [row],
    } = await client.query<{ count: string }>(`SELECT count(*) FROM ${within(home, name)}`);
    if (row && row.count !== '0')
      counts.push(`${name} has ${row.count} row${row.count === '1' ? '' : 's'}`);
  }
  if (counts.length > 0)
    found.unshift({
      text: `${counts.join(' and ')}; ${SAVE_THEM}`,
      bars: 'legacy_tables_not_empty',
    });
  return found;
}

export const SAVE_THEM =
  'save them, then migrate with --drop-data to drop these tables with their rows';

async function dependentsOfLegacy(client: pg.Client, ids: readonly number[]): Promise<Finding[]> {
  const { rows } = await client.query<{ what: string; table: string }>(
    `SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass AS what, confrelid::regclass::text AS "table" FROM pg_constraint
     WHERE contype = 'f' AND confrelid = ANY($1) AND NOT conrelid = ANY($1) AND conparentid = 0
     UNION SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0), d.refobjid::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
     WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY($1) ORDER BY 1`,
    [ids],
  );
  return rows.map(({ what, table }) =>
    bar(`${what} depends on ${table}, which is dropped; drop that first`),
  );
}
