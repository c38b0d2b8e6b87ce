import { type Database, isStorageUnavailable, storageFaults } from '@session-gateway/database';
import { MAX_CLOCK_SKEW_MS } from '@session-gateway/keycloak-auth';
import { type Log, reasonOf } from '../observability/logging.js';

const LOOK_EVERY_MS = 30_000;
/** While something is wrong, so that readiness follows soon when it is mended. */
const LOOK_AGAIN_MS = 2_000;

/** What was seen at the latest look; null where nothing is wrong. */
export interface StorageWatch {
  readonly storage: string | null;
  readonly clock: string | null;
  /** Looks now, and from then on at intervals. */
  look(): Promise<void>;
  stop(): void;
}

/**
 * Looks again and again at what PostgreSQL lets this gateway's role do, and at its clock. Changes are told in the log.
 * Where PostgreSQL does not answer, the latest look counts: its absence is told elsewhere.
 */
export function watchStorage(db: Database, log: Log): StorageWatch {
  const seen = { storage: [] as string[], clock: [] as string[] };
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const set = (what: keyof typeof seen, problems: string[], good: string, bad: string): void => {
    const before = seen[what].join('; ');
    seen[what] = problems;
    if (before === problems.join('; ')) return;
    if (problems.length > 0) log.error({ event: what, problems }, bad);
    else log.info({ event: what }, good);
  };
  const lookOnce = async (): Promise<void> => {
    set(
      'clock',
      clockFaults(await aheadOfPostgres(db)),
      "this machine's clock agrees with PostgreSQL's again",
      "this machine's clock is wrong, or PostgreSQL's: not ready until they agree",
    );
    set(
      'storage',
      await storageFaults(db),
      'PostgreSQL lets this gateway do all of its work again',
      'PostgreSQL does not let this gateway do all of its work (DATABASE_URL): not ready until it does',
    );
  };
  const look = async (): Promise<void> => {
    clearTimeout(timer);
    let answered = true;
    await lookOnce().catch((error: unknown) => {
      answered = false;
      if (!isStorageUnavailable(error))
        log.warn({ event: 'storage', error: reasonOf(error) }, 'a look at the storage failed');
    });
    const isWell = answered && seen.storage.length + seen.clock.length === 0;
    if (!stopped)
      timer = setTimeout(() => void look(), isWell ? LOOK_EVERY_MS : LOOK_AGAIN_MS).unref();
  };
  const told = (problems: string[]): string | null =>
    problems.length > 0 ? problems.join('; ') : null;
  return {
    get storage() {
      return told(seen.storage);
    },
    get clock() {
      return told(seen.clock);
    },
    look,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** How far this machine's clock is ahead of PostgreSQL's at least (behind: less than 0), whatever the answer took. */
async function aheadOfPostgres(db: Database): Promise<number> {
  const askedAt = Date.now();
  const [row] = await db.sql.query<{ now: number }>(
    'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now',
  );
  const answeredAt = Date.now();
  const now = row?.now ?? askedAt;
  if (now < askedAt) return askedAt - now;
  return now > answeredAt ? answeredAt - now : 0;
}

function clockFaults(aheadMs: number): string[] {
  if (Math.abs(aheadMs) <= MAX_CLOCK_SKEW_MS) return [];
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  return [
    `this machine's clock is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} PostgreSQL's`,
  ];
}
