import type { Database, Sql } from '@session-gateway/database';
import { ConfigError } from '../../config.js';
import { isAuthError } from '../../errors.js';
import type { TokenLocation } from '../encryption/associatedData.js';
import type { Keyring } from '../encryption/keyring.js';
import { type ReadPolicy, TokenEncryption } from '../encryption/TokenEncryption.js';

/** How many values a column holds of one kind. */
export interface StoredCount {
  readonly column: string;
  readonly kind: 'v2' | 'plan' | 'plain' | 'malformed';
  /** Of v2 values only. */
  readonly kid: string | null;
  /** Whether their sessions are live. */
  readonly live: boolean;
  readonly values: number;
}

export interface KnownKey {
  readonly kid: string;
  readonly fingerprint: string;
  readonly canary: string;
  readonly createdAt: Date;
  readonly promotedAt: Date | null;
  readonly retiredAt: Date | null;
  /**
   * Whether it is the one promoted last of those that are not retired; PostgreSQL says so, whose
   * clock is finer than a Date.
   */
  readonly isPromoted: boolean;
}

/** What live sessions hold of formats from before. */
export interface OldFormats {
  readonly plan: number;
  readonly plain: number;
}

const CANARY = 'session-gateway canary';
const canaryAt = (kid: string) => ({ table: 'token_keys', column: 'canary', rowId: kid });
const COLUMNS = ['access_token', 'refresh_token', 'id_token'] as const;
const SAMPLE = 20;
/** A start must not wait for a large table: each look at the token columns gets this long. */
const LOOK_MS = 2_000;
const NAMES = 'SESSION_TOKEN_KEYRING or SESSION_TOKEN_ENCRYPTION_KEY';

/**
 * What the token columns hold, by the first characters of each value: nothing is opened. What is owed to the provider
 * counts too, as of live sessions: it is still to be opened.
 */
export async function countStored(sql: Sql): Promise<StoredCount[]> {
  const owed = (await hasOwed(sql))
    ? `UNION ALL SELECT 'provider_logouts.refresh_token', true, left(refresh_token, 66) FROM provider_logouts`
    : '';
  return sql.query<{
    column: string;
    kind: StoredCount['kind'];
    kid: string | null;
    live: boolean;
    values: number;
  }>(
    `SELECT "column", kind, kid, live, count(*)::int AS values FROM (
       SELECT "column", substring(head FROM '^v2\\.([a-z0-9]{1,16})\\.') AS kid, live,
         CASE WHEN head ~ '^v2\\.[a-z0-9]{1,16}\\.' THEN 'v2' WHEN head LIKE 'v2.%' THEN 'malformed'
           WHEN head ~ '^[0-9a-f]{32}:[0-9a-f]{32}:' THEN 'plan' ELSE 'plain' END AS kind
       FROM (
         SELECT v."column", s.is_active AND s.expires_at > now() AS live, v.head FROM user_sessions s
           CROSS JOIN LATERAL (VALUES ${COLUMNS.map((column) => `('${column}', left(s.${column}, 66))`).join(', ')}) AS v("column", head)
         ${owed}) AS held
       WHERE head <> '') AS stored
     GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`,
  );
}

/** A tool may meet a database that a gateway has not migrated yet. */
async function hasOwed(sql: Sql): Promise<boolean> {
  const [row] = await sql.query<{ found: boolean }>(
    `SELECT to_regclass('provider_logouts') IS NOT NULL AS found`,
  );
  return row?.found === true;
}

/** Every key that values of this database were ever sealed under. */
export async function knownKeys(sql: Sql): Promise<KnownKey[]> {
  return sql.query<{
    kid: string;
    fingerprint: string;
    canary: string;
    createdAt: Date;
    promotedAt: Date | null;
    retiredAt: Date | null;
    isPromoted: boolean;
  }>(
    `SELECT kid, fingerprint, canary, created_at AS "createdAt", promoted_at AS "promotedAt", retired_at AS "retiredAt",
       retired_at IS NULL AND coalesce(promoted_at = max(promoted_at) FILTER (WHERE retired_at IS NULL) OVER (), false) AS "isPromoted"
     FROM token_keys ORDER BY created_at, kid`,
  );
}

/** What the database's list of keys says against a process's keyring; a glance, whatever the size of the tables. */
export async function keyFaults(sql: Sql, keyring: Keyring): Promise<string[]> {
  return faultsAmong(await knownKeys(sql), keyring);
}

/**
 * Makes sure that a process's keys are the ones that the database knows by their ids, that none is missing that stored
 * values need, and that the read policy can serve the live sessions; keys that are new are written down. Until this has
 * passed, nothing may be sealed. Resolves with what live sessions hold of older formats; null when the table is too
 * large to count at a start, where a key that is missing is then refused unless it is seen that nothing needs it.
 * @throws ConfigError with every problem at once
 */
export async function confirmKeys(
  db: Database,
  keyring: Keyring,
  readPolicy: ReadPolicy,
): Promise<OldFormats | null> {
  const counted = await briefly(db, countStored);
  const known = await knownKeys(db.sql);
  const problems = faultsAmong(known, keyring);
  for (const [kid, values] of await missing(db, keyring, counted, known)) {
    problems.push(
      `${NAMES}: the key ${kid} is missing, and ${values} sealed under it: add it (decrypt-only will do); if it is lost for good, set those values to NULL (and delete those of provider_logouts), and their people log in again`,
    );
  }
  const ofLive = (kind: StoredCount['kind']): number =>
    sum((counted ?? []).filter((count) => count.live && count.kind === kind));
  const old = { plan: ofLive('plan'), plain: ofLive('plain') };
  if (readPolicy === 'v2' && old.plan + old.plain > 0) {
    problems.push(
      `TOKEN_READ_POLICY is v2, but live sessions hold ${old.plan} values of the older format and ${old.plain} in plaintext, which it refuses to read: run \`nx run migrations:encrypt-tokens -- --execute\` first`,
    );
  } else if (old.plan > 0 && !keyring.planKey) {
    problems.push(
      `SESSION_TOKEN_ENCRYPTION_KEY must be set: ${old.plan} values of live sessions have the older format, which only it opens`,
    );
  }
  for (const kid of keyring.kids) {
    if (problems.length > 0) break;
    if (
      known.some((key) => key.kid === kid) ||
      (counted && !counted.some((count) => count.kid === kid))
    )
      continue;
    // A database from before keys were written down, or one whose list was lost.
    if (!(await opensWhatIsThere(db, keyring, kid)))
      problems.push(
        `${NAMES}: the key ${kid} is not the one that values under ${kid} were sealed with: none of a sample opens`,
      );
  }
  if (problems.length > 0) throw new ConfigError(problems);
  await rememberKeys(db.sql, keyring);
  return counted && old;
}

/**
 * Writes down which keys there are.
 * @throws ConfigError when somebody else has just written down another key under one of the ids
 */
export async function rememberKeys(sql: Sql, keyring: Keyring): Promise<void> {
  const encryption = new TokenEncryption({ keyring });
  for (const kid of keyring.kids) {
    await sql.query(
      'INSERT INTO token_keys (kid, fingerprint, canary) VALUES ($1, $2, $3) ON CONFLICT (kid) DO NOTHING',
      [kid, keyring.fingerprint(kid), encryption.seal(CANARY, canaryAt(kid), kid)],
    );
  }
  const faults = (await knownKeys(sql)).flatMap((key) => faultOf(keyring, key) ?? []);
  if (faults.length > 0) throw new ConfigError(faults);
}

/** Takes back what was written down of a key that came to nothing. */
export async function forgetKey(sql: Sql, keyring: Keyring, kid: string): Promise<void> {
  await sql.query(
    'DELETE FROM token_keys WHERE kid = $1 AND fingerprint = $2 AND promoted_at IS NULL',
    [kid, keyring.fingerprint(kid)],
  );
}

/**
 * Says, for processes that start from now on, that they must have this key, or (retired) that they must not seal under
 * it. Said before the processes at work are looked at: whoever starts meanwhile is seen there, or sees it here.
 * Resolves with a function that takes it back.
 */
export async function announce(
  sql: Sql,
  kid: string,
  what: 'promoted' | 'retired',
): Promise<() => Promise<void>> {
  const column = `${what}_at`;
  const [before] = await sql.query<{ at: Date | null }>(
    `SELECT ${column} AS at FROM token_keys WHERE kid = $1`,
    [kid],
  );
  await sql.query(`UPDATE token_keys SET ${column} = clock_timestamp() WHERE kid = $1`, [kid]);
  return async () =>
    void (await sql.query(`UPDATE token_keys SET ${column} = $2 WHERE kid = $1`, [
      kid,
      before?.at ?? null,
    ]));
}

/**
 * Why a key of the keyring is not the one that the database knows under its id; null when it is,
 * or is in only one of them.
 */
export function faultOf(keyring: Keyring, known: KnownKey): string | null {
  const fingerprint = keyring.fingerprint(known.kid);
  if (fingerprint === undefined) return null;
  if (fingerprint !== known.fingerprint) {
    return `${NAMES}: the key ${known.kid} is another key than the one that this database knows under that id: put the right key there, or give this one an id of its own`;
  }
  try {
    return new TokenEncryption({ keyring }).open(known.canary, canaryAt(known.kid)) === CANARY
      ? null
      : `token_keys: the canary of ${known.kid} is not ours`;
  } catch (error) {
    if (!isAuthError(error, 'token_unreadable')) throw error;
    return `token_keys: the canary of ${known.kid} does not open although the key is the right one: the row was changed; restore it`;
  }
}

function faultsAmong(known: readonly KnownKey[], keyring: Keyring): string[] {
  const faults = known.flatMap((key) => faultOf(keyring, key) ?? []);
  if (known.some((key) => key.kid === keyring.primary && key.retiredAt))
    faults.push(
      `${NAMES}: the primary key ${keyring.primary} has been retired: make another key the primary`,
    );
  const promoted = known.find((key) => key.isPromoted);
  if (promoted && !keyring.key(promoted.kid))
    faults.push(
      `${NAMES}: the key ${promoted.kid}, which gateways were told to seal under, is missing: take the newest keyring`,
    );
  return faults;
}

/** Key ids that stored values name and the keyring lacks, and how many values that are. */
async function missing(
  db: Database,
  keyring: Keyring,
  counted: StoredCount[] | null,
  known: readonly KnownKey[],
): Promise<Map<string, string>> {
  const said = new Map<string, string>();
  for (const { kid } of counted ?? []) {
    if (kid === null || keyring.key(kid)) continue;
    const values = sum((counted ?? []).filter((count) => count.kid === kid));
    said.set(kid, values === 1 ? '1 value is' : `${values} values are`);
  }
  if (counted) return said;
  for (const { kid, retiredAt } of known) {
    if (retiredAt || keyring.key(kid)) continue;
    const found = await briefly(db, async (sql) => {
      const owed = (await hasOwed(sql))
        ? `UNION ALL (SELECT 1 FROM provider_logouts WHERE ${under('refresh_token')} LIMIT 1)`
        : '';
      return sql.query(
        `(SELECT 1 FROM user_sessions WHERE ${COLUMNS.map((column) => under(column)).join(' OR ')} LIMIT 1) ${owed}`,
        [`v2.${kid}.`],
      );
    });
    if (found === null) said.set(kid, 'values may be');
    else if (found.length > 0) said.set(kid, 'values are');
  }
  return said;
}

/** Whether any of some values under a key id opens; true when there are none, or none that is found in time. */
async function opensWhatIsThere(db: Database, keyring: Keyring, kid: string): Promise<boolean> {
  const encryption = new TokenEncryption({ keyring });
  let met = false;
  for (const column of COLUMNS) {
    const rows = await briefly(db, (sql) =>
      sql.query<{ id: string; value: string }>(
        `SELECT id, ${column} AS value FROM user_sessions WHERE ${under(column)} LIMIT ${SAMPLE}`,
        [`v2.${kid}.`],
      ),
    );
    for (const { id, value } of rows ?? []) {
      if (TokenEncryption.kidOf(value) !== kid) continue;
      met = true;
      if (opens(encryption, value, { table: 'user_sessions', column, rowId: id })) return true;
    }
  }
  return !met;
}

function opens(encryption: TokenEncryption, value: string, location: TokenLocation): boolean {
  try {
    encryption.open(value, location);
    return true;
  } catch (error) {
    if (!isAuthError(error, 'token_unreadable')) throw error;
    return false;
  }
}

/** Only the beginning: to compare a whole value, PostgreSQL would fetch it from where it keeps large ones. */
const under = (column: string): string => `left(${column}, length($1)) = $1`;
const sum = (counts: readonly StoredCount[]): number =>
  counts.reduce((total, { values }) => total + values, 0);

/** Null when the look takes longer than a start may. */
async function briefly<Result>(
  db: Database,
  look: (sql: Sql) => Promise<Result>,
): Promise<Result | null> {
  try {
    return await db.transaction(async (sql) => {
      await sql.query(`SET LOCAL statement_timeout = ${LOOK_MS}`);
      return look(sql);
    });
  } catch (error) {
    // query_canceled
    if ((error as { code?: unknown }).code === '57014') return null;
    throw error;
  }
}
