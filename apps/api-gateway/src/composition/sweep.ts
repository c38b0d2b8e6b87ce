import { isStorageUnavailable } from '@session-gateway/database';
import { purge } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { reasonOf } from '../observability/logging.js';

/** Between background rounds where those of REFRESH_SWEEP are off: what is old is removed all the same. */
const PURGE_PAUSE_MS = 10_000;
/** Batches of old rows removed in one background round at most. */
const PURGE_BATCHES = 10;

/** Background rounds, a pause apart; the returned function stops them and waits for the one under way. */
export function sweep({ config, db, refresher, log }: Gateway): () => Promise<void> {
  const sweeps = config.refreshSweepMs > 0;
  let round: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const next = (): void => {
    timer = setTimeout(() => {
      const work = async (): Promise<void> => {
        if (sweeps) await refresher.sweep();
        for (let i = 0; i < PURGE_BATCHES && (await purge(db.sql, config.sessionRetentionMs)); i++);
      };
      // PostgreSQL's absence is told elsewhere.
      round = work()
        .catch((error: unknown) =>
          log[isStorageUnavailable(error) ? 'debug' : 'warn'](
            { event: 'sweep', error: reasonOf(error) },
            'a sweep failed',
          ),
        )
        .then(next);
    }, config.refreshSweepMs || PURGE_PAUSE_MS);
    timer.unref();
  };
  next();
  return async () => {
    clearTimeout(timer);
    await round;
    clearTimeout(timer);
  };
}
