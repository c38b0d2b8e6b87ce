import type { Sql } from '@session-gateway/database';

/** How PostgreSQL is doing, as it says itself. */
export interface Load {
  /** Bytes of WAL that it has ever written. */
  readonly walBytes: number;
  /** The replica that is furthest behind; null when there is none, or none that this role may see. */
  readonly replica: { readonly name: string; readonly behindMs: number } | null;
  /** The replication slot that keeps the most WAL, in use or not; null when there is none. */
  readonly slot: { readonly name: string; readonly keptBytes: number } | null;
  /** Sessions of others that are running a statement, whole server. */
  readonly activeSessions: number;
  /** Those of them that wait for a lock. */
  readonly lockWaits: number;
  /** False when this role sees neither other roles' sessions nor replicas: the numbers are too low. */
  readonly seesAll: boolean;
}

export interface LoadSignals {
  read(): Promise<Load>;
}

interface Replica {
  readonly pid: number;
  readonly name: string;
  readonly replayed: number;
  readonly lag_ms: number | null;
}

const LOAD = `
  SELECT wal::float8, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all, others.active, others.waiting,
    (SELECT coalesce(json_agg(json_build_object('pid', pid, 'name', application_name, 'replayed', (replay_lsn - '0/0')::float8, 'lag_ms', extract(epoch FROM replay_lag) * 1000)), '[]')
     FROM pg_stat_replication WHERE replay_lsn IS NOT NULL) AS replicas,
    (SELECT json_build_object('name', slot_name, 'keptBytes', greatest(0, wal - (restart_lsn - '0/0'))::float8)
     FROM pg_replication_slots WHERE restart_lsn IS NOT NULL ORDER BY restart_lsn LIMIT 1) AS slot
  FROM (SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0') AS wal) AS position,
    (SELECT count(*)::int AS active, (count(*) FILTER (WHERE wait_event_type = 'Lock'))::int AS waiting FROM pg_stat_activity
     WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> current_setting('application_name')) AS others`;

/**
 * Reads the load by one short statement. The lag of a replica is also measured here, by how long it takes to reach a
 * position that the server was at: `replay_lag` says nothing of a replica that has stopped replaying.
 */
export function loadSignals(sql: Sql, now: () => number = Date.now): LoadSignals {
  /** By the replica's connection: where the server was when. */
  const marks = new Map<number, { readonly wal: number; readonly at: number }>();
  return {
    async read() {
      const [row] = await sql.query<{
        wal: number;
        sees_all: boolean;
        active: number;
        waiting: number;
        replicas: Replica[];
        slot: Load['slot'];
      }>(LOAD);
      if (!row) throw new Error('PostgreSQL says nothing of its load');
      const at = now();
      const behind = row.replicas.map(({ pid, name, replayed, lag_ms }) => {
        const mark = marks.get(pid);
        if (!mark || replayed >= mark.wal) marks.set(pid, { wal: row.wal, at });
        const measured = replayed >= row.wal || !mark || replayed >= mark.wal ? 0 : at - mark.at;
        return { name, behindMs: replayed >= row.wal ? 0 : Math.max(measured, lag_ms ?? 0) };
      });
      for (const pid of marks.keys())
        if (!row.replicas.some((replica) => replica.pid === pid)) marks.delete(pid);
      const [furthest = null] = behind.sort((a, b) => b.behindMs - a.behindMs);
      return {
        walBytes: row.wal,
        replica: furthest,
        slot: row.slot,
        activeSessions: row.active,
        lockWaits: row.waiting,
        seesAll: row.sees_all,
      };
    },
  };
}
