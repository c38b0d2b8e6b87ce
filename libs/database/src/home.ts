import pg from 'pg';
import { parseDatabaseUrl } from './databaseAddress.js';
import { DatabaseError } from './errors.js';

/** What tells our `user_sessions` from another application's table of that name. */
const SHAPE = ['id', 'user_id', 'keycloak_session_id'];

/**
 * The schema that holds `user_sessions`, or will hold it: the first one of the search path with a table of that shape
 * that this role may read, else the one in which this role's new tables come to be.
 * @throws DatabaseError where the search path leads to no schema, or Prisma's `?schema=` names another one
 */
export async function findHome(client: pg.Client, url: string): Promise<string> {
  const {
    rows: [row],
  } = await client.query<{ home: string | null; role: string }>(
    `SELECT coalesce((
       SELECT n.nspname FROM unnest(current_schemas(false)) WITH ORDINALITY AS p (name, place)
       JOIN pg_namespace n ON n.nspname = p.name JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'user_sessions'
       WHERE has_table_privilege(c.oid, 'SELECT')
         AND $1 <@ (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
       ORDER BY p.place LIMIT 1
     ), current_schema())::text AS home, current_user::text AS role`,
    [SHAPE],
  );
  const home = row?.home;
  if (!home)
    throw new DatabaseError(
      'rights_missing',
      `the search path of the role ${row?.role ?? ''} leads to no schema that it may use: GRANT USAGE ON SCHEMA … TO ${row?.role ?? ''}`,
    );
  const asked = parseDatabaseUrl(url).schema ?? home;
  if (asked !== home) {
    throw new DatabaseError(
      'not_adoptable',
      `nothing was changed: DATABASE_URL asks for the schema ${asked}, and the search path of its role leads to ${home}: ALTER ROLE … SET search_path = ${asked}, or leave ?schema= out`,
    );
  }
  return home;
}

/** A name of the schema `home` as SQL writes it. */
export const within = (home: string, name: string): string =>
  `${pg.escapeIdentifier(home)}.${pg.escapeIdentifier(name)}`;
