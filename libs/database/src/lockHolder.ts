import type { Sql } from './prisma.js';

/**
 * Which other session has had one of these tables open the longest, in words; null when none is found, for example
 * because it has gone meanwhile. Tables are named as SQL writes them; one that is not there does not matter.
 */
export async function lockHolder(sql: Sql, tables: readonly string[]): Promise<string | null> {
  const [holder] = await sql.query<{
    pid: number;
    table: string;
    role: string | null;
    application: string | null;
    since: Date | null;
  }>(
    `SELECT l.pid, c.relname::text AS "table", a.usename::text AS role, nullif(a.application_name, '') AS application, a.xact_start AS since
     FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid() AND c.oid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY a.xact_start NULLS LAST LIMIT 1`,
    [tables],
  );
  if (!holder) return null;
  const who = [
    `process ${holder.pid}`,
    ...(holder.role === null ? [] : [`role ${holder.role}`]),
    ...(holder.application === null ? [] : [`application ${holder.application}`]),
    holder.since === null
      ? 'since when is hidden from this role (GRANT pg_read_all_stats)'
      : `since ${holder.since.toISOString()}`,
  ];
  return `${holder.table} is held by ${who.join(', ')}`;
}
