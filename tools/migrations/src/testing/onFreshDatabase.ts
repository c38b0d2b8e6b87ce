import { afterAll, afterEach, beforeAll, beforeEach } from '@jest/globals';
import type { Database } from '@session-gateway/database';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import * as h from './jobHarness.js';

/** What a test of the job stands on. */
export interface Ground {
  readonly postgres: TestPostgres;
  readonly url: string;
  readonly db: Database;
  /** Of the job: this database and all the keys. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * One PostgreSQL for a suite, and in it for each of its tests a migrated database, which `given` is told of. Whatever a
 * test leaves running is ended with it.
 */
export function onFreshDatabase(
  given: (ground: Ground) => void | Promise<void>,
  { connections }: { connections?: number } = {},
): void {
  let postgres: TestPostgres | undefined;
  let db: Database | undefined;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  beforeEach(async () => {
    if (!postgres) return;
    const url = await h.newDatabase(postgres);
    db = h.open(url, connections);
    await given({ postgres, url, db, env: { ...h.ENV, DATABASE_URL: url } });
  });
  afterEach(async () => {
    h.killJobs();
    await db?.close();
  });
  afterAll(() => postgres?.dispose());
}
