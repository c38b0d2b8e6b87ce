import type { Sql } from '@session-gateway/database';
import { type PaceLimits, rest } from './pace.js';

/** What other terminals ask of a run, as it was when last looked at. */
export interface Requests {
  readonly paused: boolean;
  readonly cancelled: boolean;
  /** Looks no more. */
  end(): Promise<void>;
}

/** A request is to be honoured within three seconds, the batch under way included. */
const LOOK_EVERY_MS = 500;

interface Asked {
  request: string | null;
  pace: Partial<PaceLimits> | null;
}

/** Looks at the run's row again and again, also while the job rests or waits for PostgreSQL. */
export function followRequests(
  sql: Sql,
  run: string,
  changePace: (limits: Partial<PaceLimits>) => void,
): Requests {
  const state = { request: null as string | null, pace: 'null', ended: false };
  const take = (row: Asked): void => {
    state.request = row.request;
    const pace = JSON.stringify(row.pace);
    if (row.pace && pace !== state.pace) changePace(row.pace);
    state.pace = pace;
  };
  const following = (async () => {
    while (!state.ended) {
      // While PostgreSQL is away nobody can ask for anything.
      const [row] = await sql
        .query<Asked>('SELECT request, pace FROM token_encryption_runs WHERE id = $1', [run])
        .catch(() => []);
      if (row) take(row);
      await rest(LOOK_EVERY_MS, () => state.ended);
    }
  })();
  return {
    get paused() {
      return state.request === 'pause';
    },
    get cancelled() {
      return state.request === 'cancel';
    },
    async end() {
      state.ended = true;
      await following;
    },
  };
}
