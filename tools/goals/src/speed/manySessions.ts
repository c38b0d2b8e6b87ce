import {
  createMemoryCache,
  type Database,
  findPrismaDir,
  migrate,
  openDatabase,
} from '@session-gateway/database';
import { createKeyring, EntryAuthenticator, SessionStore } from '@session-gateway/keycloak-auth';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';
import { median, rounded } from '../harness/statistics.js';

const FEW = 10_000;
const CI = 200_000;
const FULL = 1_000_000;
const AT_MOST = 1.2;
const ROUNDS = 21;
const CHECKS = 300;
const CONTROL_CHECKS = 5;
const BATCH = 50_000;

/** Sessions as a login writes them, with sealed tokens of a usual size; the cookie of number i is `cookie-i`. */
const INSERT = `
  WITH people AS (
    INSERT INTO users (id, keycloak_id, email, name, updated_at)
    SELECT 'u' || i, gen_random_uuid()::text, 'person' || i || '@example.com', 'Person ' || i, now() FROM generate_series($1::int, $2::int) i RETURNING id)
  INSERT INTO user_sessions (id, user_id, keycloak_session_id, cookie_hash, access_token, refresh_token, id_token, expires_at, token_expires_at, fingerprint, ip_address, user_agent, metadata, version, updated_at)
  SELECT gen_random_uuid()::text, id, gen_random_uuid()::text, sha256(convert_to('cookie-' || substr(id, 2), 'UTF8')), 'v2.k1.' || t, 'v2.k1.' || t, 'v2.k1.' || t,
    now() + interval '10 hours', now() + interval '5 minutes', substr(md5(id), 1, 16), '203.0.113.77', 'Mozilla/5.0 (X11; Linux x86_64)', '{"roles": ["realm:user"], "token_lifetime": 300}', 1, now()
  FROM people, repeat('t', 200) t`;

await runGoal('P6', async ({ random, full, progress }) => {
  const many = full ? FULL : CI;
  const postgres = await startPostgres();
  const opened: Database[] = [];
  try {
    const [few, lots] = [
      await filled(postgres, FEW, opened, () => undefined),
      await filled(postgres, many, opened, (done) => progress(() => `${done} of ${many} sessions`)),
    ];
    // In turn, so that whatever else the machine does meets both.
    const [small, large]: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      small.push(await checks(few.store, FEW, CHECKS, random));
      large.push(await checks(lots.store, many, CHECKS, random));
    }
    const ratio = rounded(median(large) / median(small));
    await lots.db.sql.query('DROP INDEX user_sessions_cookie_hash_key');
    const without = rounded(
      (await checks(lots.store, many, CONTROL_CHECKS, random)) /
        CONTROL_CHECKS /
        (median(small) / CHECKS),
    );
    return {
      passed: ratio <= AT_MOST && without > AT_MOST,
      few: FEW,
      many,
      ratio,
      limit: AT_MOST,
      checks: ROUNDS * CHECKS,
      control: without > AT_MOST,
      controls: { 'without its index': without },
    };
  } finally {
    await Promise.all(opened.map((db) => db.close()));
    await postgres.dispose();
  }
});

/** A database with so many live sessions, and a store without copies: what grows is what PostgreSQL does. */
async function filled(
  postgres: TestPostgres,
  sessions: number,
  opened: Database[],
  onProgress: (done: number) => void,
): Promise<{ db: Database; store: SessionStore }> {
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  for (let from = 1; from <= sessions; from += BATCH) {
    await postgres.query(INSERT, [from, Math.min(sessions, from + BATCH - 1)], url);
    onProgress(from + BATCH - 1);
  }
  await postgres.query('VACUUM ANALYZE', [], url);
  const db = openDatabase({ url, queryTimeoutMs: 60_000 });
  opened.push(db);
  return {
    db,
    store: new SessionStore({
      db,
      cache: createMemoryCache({ maxEntries: 1 }),
      feed: { heardAt: -Infinity, now: Date.now, follow: () => undefined },
      authenticator: new EntryAuthenticator(
        createKeyring({ keyText: 'a key text for entries that nobody reads' }),
      ),
      idleTimeoutMs: 1_800_000,
      nearSessions: 1,
    }),
  };
}

async function checks(
  store: SessionStore,
  sessions: number,
  count: number,
  random: Random,
): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < count; i++) {
    if ((await store.find(`cookie-${1 + random.below(sessions)}`))?.state !== 'live')
      throw new Error('a session is not found');
  }
  return performance.now() - began;
}
