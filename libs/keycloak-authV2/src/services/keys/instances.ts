import type { Sql } from '@session-gateway/database';
import type { Keyring } from '../encryption/keyring.js';

/** A gateway at work. */
export interface Instance {
  readonly id: string;
  /** The key that it seals under, or may have sealed something under that is about to be stored. */
  readonly primaryKid: string;
  /** Key id to fingerprint. */
  readonly keys: Readonly<Record<string, string>>;
  readonly startedAt: Date;
  readonly seenAt: Date;
}

export const HEARTBEAT_MS = 5_000;
/**
 * One that has not been seen for so long is gone: six heartbeats, so that a short outage of PostgreSQL hides nobody.
 */
const GONE_AFTER_SECONDS = 30;

/** Tells which keys an instance has, and which one it seals under. */
export async function reportInstance(
  sql: Sql,
  id: string,
  keyring: Keyring,
  primaryKid: string = keyring.primary,
): Promise<void> {
  const keys = Object.fromEntries(keyring.kids.map((kid) => [kid, keyring.fingerprint(kid)]));
  await sql.query(
    `WITH gone AS (DELETE FROM gateway_instances WHERE seen_at < now() - interval '1 hour')
     INSERT INTO gateway_instances (id, primary_kid, keys) VALUES ($1, $2, $3)
     ON CONFLICT (id) DO UPDATE SET primary_kid = excluded.primary_kid, keys = excluded.keys, seen_at = now()`,
    [id, primaryKid, JSON.stringify(keys)],
  );
}

export async function forgetInstance(sql: Sql, id: string): Promise<void> {
  await sql.query('DELETE FROM gateway_instances WHERE id = $1', [id]);
}

export async function liveInstances(sql: Sql): Promise<Instance[]> {
  return sql.query<{
    id: string;
    primaryKid: string;
    keys: Record<string, string>;
    startedAt: Date;
    seenAt: Date;
  }>(
    `SELECT id, primary_kid AS "primaryKid", keys, started_at AS "startedAt", seen_at AS "seenAt" FROM gateway_instances
     WHERE seen_at > now() - interval '${GONE_AFTER_SECONDS} seconds' ORDER BY started_at, id`,
  );
}
