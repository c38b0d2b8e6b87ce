import {
  DatabaseError,
  findPrismaDir,
  isStorageUnavailable,
  migrate,
} from '@session-gateway/database';
import { ConfigError } from '@session-gateway/keycloak-auth';
import { type Log, reasonOf } from '../observability/logging.js';
import type { StorageWatch } from '../server/storageWatch.js';
import type { Keys } from '../settings/keys.js';
import { fail, refuse } from './exits.js';

const STORAGE_RETRY_MS = 1_000;
const STORAGE_RETRY_GROWTH = 1.5;
const STORAGE_RETRY_MAX_MS = 5_000;
/** Refusals that an operator mends while the gateway waits. */
const WAITED_FOR: readonly string[] = ['migrations_waiting', 'rights_missing', 'table_busy'];

export interface Storage {
  /** Why it cannot be used yet; null once it can. */
  readonly problem: string | null;
  /** Resolves when the first attempt has ended, well or not. */
  readonly firstAttempt: Promise<void>;
  stop: () => void;
}

/**
 * Brings the schema up to date and has the keys confirmed, waiting as long as it takes for PostgreSQL, for a table that
 * somebody has open, or for the owner to migrate; what waiting cannot mend ends the process.
 */
export function prepareStorage(url: string, storage: StorageWatch, keys: Keys, log: Log): Storage {
  const state = {
    problem: 'the schema has not been migrated yet' as string | null,
    stopped: false,
    pauseMs: STORAGE_RETRY_MS,
  };
  const wait = (problem: string, reason: string): void => {
    if (state.problem !== problem)
      log.warn(
        { event: 'database', error: reason },
        `${problem.split(':')[0] ?? ''}; trying again`,
      );
    state.problem = problem;
  };
  const attempt = async (): Promise<void> => {
    try {
      const { applied } = await migrate({
        url,
        prismaDir: findPrismaDir(import.meta.url),
        patienceMs: 0,
        onWait: (reason) => wait(`the schema cannot be migrated yet: ${reason}`, reason),
      });
      if (applied.length > 0) log.info({ event: 'migrated', applied }, 'the schema is up to date');
      await storage.look();
      // A right that is missing is given sooner or later, and the keys cannot be looked up without it.
      if (storage.storage !== null) {
        state.problem = storage.storage;
        if (!state.stopped) setTimeout(() => void attempt(), STORAGE_RETRY_MS).unref();
        return;
      }
      await keys.confirm();
      state.problem = null;
    } catch (error) {
      if (error instanceof ConfigError) return void refuse(error);
      const problem = worthWaiting(error);
      if (problem === null) {
        fail(1, [
          error instanceof DatabaseError
            ? error.message
            : `the schema cannot be migrated: ${String(error)}`,
        ]);
        return;
      }
      wait(problem, reasonOf(error));
      if (!state.stopped) setTimeout(() => void attempt(), state.pauseMs).unref();
      state.pauseMs = Math.min(state.pauseMs * STORAGE_RETRY_GROWTH, STORAGE_RETRY_MAX_MS);
    }
  };
  const firstAttempt = attempt();
  return {
    get problem() {
      return state.problem;
    },
    firstAttempt,
    stop: () => {
      state.stopped = true;
    },
  };
}

/** What is waited for, in words; null where waiting does not help. */
function worthWaiting(error: unknown): string | null {
  if (error instanceof DatabaseError && WAITED_FOR.includes(error.code))
    return `the schema cannot be migrated yet: ${error.message}`;
  return isStorageUnavailable(error)
    ? `PostgreSQL cannot be used yet (DATABASE_URL): ${reasonOf(error)}`
    : null;
}
