import type { Sql } from '@session-gateway/database';
import type { Range } from './ranges.js';
import { type Counters, FencedError, noCounters, type Run } from './runs.js';

const ADDED = [
  'scanned',
  'changed',
  'lostRace',
  'alreadyCurrent',
  'quarantined',
  'values',
  'late',
] as const;
const plus = (path: string, name: string): string =>
  `'${name}', coalesce((counters${path}->>'${name}')::bigint, 0) + (d${path}->>'${name}')::bigint`;

/**
 * Writes down what a batch came to, in the transaction of that batch: how far its range is swept, and what the run has
 * counted. In one statement, for the batch's rows are locked meanwhile, and the range first, as `sumRanges` locks them.
 * What all have counted so far; null when the range is another's by now.
 * @throws FencedError when the run was taken over
 */
export async function saveBatch(
  sql: Sql,
  { id, generation }: Pick<Run, 'id' | 'generation'>,
  range: Range,
  worker: string,
  { wanted, delta, throttledBy }: { wanted: number; delta: Counters; throttledBy: string | null },
): Promise<Counters | null> {
  const [row] = await sql.query<{ counters: Counters }>(
    `WITH saved AS (
       UPDATE token_encryption_ranges SET checkpoint = $5, wanted = wanted + $6, lost = lost + $7 WHERE run_id = $1 AND number = $3 AND owner = $4 AND NOT done RETURNING $8::jsonb AS d
     )
     UPDATE token_encryption_runs SET checkpoint = $5, status = 'running', throttled_by = $9, updated_at = now(), counters = counters || jsonb_build_object(
       ${ADDED.map((name) => plus('', name)).join(', ')}, 'remaining', jsonb_build_object(${['plain', 'plan', 'otherKid'].map((name) => plus(`->'remaining'`, name)).join(', ')}),
       'durationMs', greatest((counters->>'durationMs')::float8, (d->>'durationMs')::float8))
     FROM saved WHERE id = $1 AND token_encryption_runs.owner = $2 RETURNING counters`,
    [
      id,
      generation,
      range.number,
      worker,
      range.checkpoint,
      wanted,
      delta.lostRace,
      JSON.stringify(delta),
      throttledBy,
    ],
  );
  if (row) return { ...noCounters(), ...row.counters };
  const known = await sql.query(
    'SELECT 1 FROM token_encryption_runs WHERE id = $1 AND owner = $2',
    [id, generation],
  );
  if (known.length === 0) throw new FencedError(`run ${id} was taken over by another process`);
  return null;
}
