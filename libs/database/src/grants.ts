import pg from 'pg';
import { connectAlone } from './connection.js';
import { HISTORY, readMigrations } from './history.js';
import { findHome, within } from './home.js';

/** Names of the roles that rights are printed for. */
export interface Roles {
  readonly gateway: string;
  readonly job: string;
  readonly operator: string;
}

const ALL = 'SELECT, INSERT, UPDATE, DELETE';
/** What a table of the job is called. */
const JOB_TABLE = /^token_encryption_/;
/** What the job does with tables that are not its own; of others it reads and rewrites values. */
const JOB: Readonly<Record<string, string | null>> = {
  users: null,
  session_events: null,
  logout_tokens: null,
  gateway_instances: 'SELECT',
  token_keys: ALL,
};
/** What `sessions list|end` and questions of an auditor need; keys and `--finalize` are the owner's. */
const OPERATOR: Readonly<Record<string, string>> = {
  user_sessions: 'SELECT, UPDATE',
  exchanged_tokens: 'SELECT, DELETE',
  session_events: 'SELECT, INSERT',
  provider_logouts: 'SELECT, INSERT',
};

/**
 * The least that each role needs on the database at `url`, as SQL for its owner: one statement a line. Also for tables
 * that later migrations add, so that an upgrade needs no grants.
 */
export async function grants(
  { url, prismaDir }: { url: string; prismaDir: string },
  roles: Roles,
): Promise<string[]> {
  const client = await connectAlone(url, 'session-gateway-grants');
  try {
    const home = await findHome(client, url);
    const {
      rows: [row],
    } = await client.query<{ owner: string; database: string }>(
      `SELECT coalesce((SELECT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = 'user_sessions'), current_user)::text AS owner, current_database()::text AS database`,
      [home],
    );
    return statements(home, row ?? { owner: 'postgres', database: 'postgres' }, {
      roles,
      tables: await tablesOf(prismaDir),
    });
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Every table that the migrations make and do not drop. */
async function tablesOf(prismaDir: string): Promise<string[]> {
  const dropped = new Set(['accounts', 'verifications']);
  const migrations = await readMigrations(prismaDir);
  const made = migrations.flatMap(({ sql }) =>
    [...sql.matchAll(/^CREATE TABLE "(\w+)"/gm)].map(([, name = '']) => name),
  );
  return made.filter((name) => !dropped.has(name)).sort();
}

function statements(
  home: string,
  { owner, database }: { owner: string; database: string },
  { roles, tables }: { roles: Roles; tables: readonly string[] },
): string[] {
  const quoted = {
    home: pg.escapeIdentifier(home),
    owner: pg.escapeIdentifier(owner),
    database: pg.escapeIdentifier(database),
  };
  const rightsOf: Readonly<Record<keyof Roles, (table: string) => string | null>> = {
    gateway: (table) => (JOB_TABLE.test(table) ? null : ALL),
    job: (table) => {
      if (JOB_TABLE.test(table)) return ALL;
      const own = JOB[table];
      return own === undefined ? 'SELECT, UPDATE' : own;
    },
    operator: (table) => OPERATOR[table] ?? 'SELECT',
  };
  const names = ['gateway', 'job', 'operator'] as const;
  return names.flatMap((name) => {
    const role = pg.escapeIdentifier(roles[name]);
    const later = name === 'operator' ? 'SELECT' : ALL;
    const by = `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoted.owner} IN SCHEMA ${quoted.home} GRANT`;
    return [
      `-- ${name}`,
      `GRANT CONNECT ON DATABASE ${quoted.database} TO ${role};`,
      `GRANT USAGE ON SCHEMA ${quoted.home} TO ${role};`,
      ...tables.flatMap((table) => {
        const rights = rightsOf[name](table);
        return rights === null ? [] : [`GRANT ${rights} ON ${within(home, table)} TO ${role};`];
      }),
      `GRANT SELECT ON ${within(home, HISTORY)} TO ${role};`,
      ...(name === 'job'
        ? []
        : [`GRANT USAGE ON SEQUENCE ${within(home, 'session_events_id_seq')} TO ${role};`]),
      `${by} ${later} ON TABLES TO ${role};`,
      `${by} USAGE ON SEQUENCES TO ${role};`,
    ];
  });
}
