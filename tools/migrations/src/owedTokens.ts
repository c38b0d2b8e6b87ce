import type { Database } from '@session-gateway/database';
import type { Keyring } from '@session-gateway/keycloak-auth';
import type { JobResult } from './jobResult.js';
import { Judge } from './judge.js';
import type { JobOptions } from './options.js';
import { type Counters, noCounters } from './runs.js';
import { openTokenTable, type TokenTable } from './tokenTable.js';

/** What ended sessions owe the provider is sealed too: a few rows, gone within seconds unless the provider is away. */
const SHAPE = { table: 'provider_logouts', idColumn: 'id', columns: ['refresh_token'] };
const PAGE_ROWS = 100;
/** A row that a gateway sends at this moment is met again, or gone. */
const MOST_SWEEPS = 10;

/**
 * Adds what `provider_logouts` holds to the result of a job on the gateway's own table: looked at, or with `execute`
 * rewritten in the same way. Plaintext is never written there.
 * @throws UnknownKidError
 */
export async function withOwedTokens(
  result: JobResult,
  { mode }: Pick<JobOptions, 'mode'>,
  { db, keyring }: { db: Database; keyring: Keyring },
): Promise<JobResult> {
  const [there] = await db.sql.query<{ found: boolean }>(
    'SELECT to_regclass($1) IS NOT NULL AS found',
    [SHAPE.table],
  );
  if (!there?.found || result.target === 'plain' || result.exitCode === 130) return result;
  const table = await openTokenTable(db.sql, SHAPE);
  let changed = 0;
  for (let left = MOST_SWEEPS; ; left--) {
    const swept = await sweep(db, table, keyring, result.target, mode === 'execute');
    changed += swept.counters.changed;
    // The last sweep is one that found nothing to write.
    if (mode === 'execute' && swept.wanted > 0 && left > 1) continue;
    return merged(result, { ...swept.counters, changed }, swept.judge, mode);
  }
}

async function sweep(
  db: Database,
  table: TokenTable,
  keyring: Keyring,
  target: string,
  writes: boolean,
): Promise<{ counters: Counters; wanted: number; judge: Judge }> {
  const { columns } = SHAPE;
  const { name: tableName, maxLengths } = table;
  const judge = new Judge({ keyring, target, columns, maxLengths, tableName });
  const counters = noCounters();
  let wanted = 0;
  for (let after: string | null = null; ;) {
    const rows = await table.read(db.sql, after, PAGE_ROWS);
    const last = rows.at(-1);
    if (!last) return { counters, wanted, judge };
    after = last.id;
    const judged = judge.judge(rows, counters, { firstSweep: true, stopAtUnknownKid: writes });
    judge.count(judged.met);
    counters.scanned += rows.length;
    counters.quarantined += judged.quarantined.length;
    wanted += judged.writes.length;
    if (writes && judged.writes.length > 0)
      counters.changed += (await db.transaction((sql) => table.write(sql, judged.writes))).length;
  }
}

function merged(
  result: JobResult,
  owed: Counters,
  { met }: Judge,
  mode: JobOptions['mode'],
): JobResult {
  if (owed.values === 0) return result;
  const { counters, byColumn, bytes } = result;
  const remain = owed.remaining.plain + owed.remaining.plan + owed.remaining.otherKid;
  return {
    ...result,
    counters: {
      ...counters,
      scanned: counters.scanned + owed.scanned,
      changed: counters.changed + owed.changed,
      alreadyCurrent: counters.alreadyCurrent + owed.alreadyCurrent,
      quarantined: counters.quarantined + owed.quarantined,
      values: counters.values + owed.values,
      remaining: {
        plain: counters.remaining.plain + owed.remaining.plain,
        plan: counters.remaining.plan + owed.remaining.plan,
        otherKid: counters.remaining.otherKid + owed.remaining.otherKid,
      },
    },
    byColumn: {
      ...byColumn,
      [`${SHAPE.table}.refresh_token`]: met.byColumn['refresh_token'] ?? {},
    },
    bytes: {
      before: bytes.before + met.bytes.before,
      after: bytes.after + met.bytes.after,
      written: bytes.written + met.bytes.written,
    },
    exitCode: mode !== 'dry-run' && remain + owed.quarantined > 0 ? 3 : result.exitCode,
  };
}
