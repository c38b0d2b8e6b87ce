import { createRedisCache, findPrismaDir, migrate, openDatabase } from '@session-gateway/database';
import { createKeyring, EntryAuthenticator, SessionStore } from '@session-gateway/keycloak-auth';
import { startPostgres, startRedis, storm, type TestRedis, until } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';

const SESSIONS = 10_000;
const MEGABYTE = 1_000_000;
const LIMITS = { 'without roles': 2.6, 'with ten roles': 4.2 } as const;
const ROLES = Array.from({ length: 10 }, (_, i) =>
  i < 5 ? `realm:team-member-${i}` : `reports:can-read-${i}`,
);

/** Sessions as a login writes them, tokens left out; the cookie of number i is `KIND-cookie-i`. */
const INSERT = `
  WITH people AS (
    INSERT INTO users (id, keycloak_id, email, name, updated_at)
    SELECT gen_random_uuid()::text, gen_random_uuid()::text, 'person' || i || '@example.com', 'Person ' || i, now() FROM generate_series(1, $1) i RETURNING id),
  cookies AS (SELECT id AS user_id, sha256(convert_to($2 || '-cookie-' || row_number() OVER (), 'UTF8')) AS hash FROM people)
  INSERT INTO user_sessions (id, user_id, keycloak_session_id, cookie_hash, expires_at, token_expires_at, fingerprint, ip_address, user_agent, metadata, version, updated_at)
  SELECT encode(set_byte(set_byte(substr(hash, 1, 16), 6, (get_byte(hash, 6) & 15) | 128), 8, (get_byte(hash, 8) & 63) | 128), 'hex')::uuid::text, user_id,
    translate(substr(encode(sha256(convert_to(user_id, 'UTF8')), 'base64'), 1, 24), '+/', '-_'), hash, now() + interval '10 hours', now() + interval '5 minutes',
    substr(md5(user_id), 1, 16), '203.0.113.77', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36', $3::jsonb, 1, now() FROM cookies`;

const SETTLES_WITHIN_MS = 5_000;
const BATCH = 500;
const PUT_AS_JSON = `for i = 1, #ARGV, 4 do redis.call('SET', ARGV[i], ARGV[i + 1], 'PX', 36000000) redis.call('SADD', ARGV[i + 2], ARGV[i + 3]) end`;

/** Redis gives the buffers of connections back when they have been idle for a few seconds. */
async function settledBytes(redis: TestRedis): Promise<number> {
  let least = Infinity;
  const end = Date.now() + SETTLES_WITHIN_MS;
  await until(
    async () => {
      least = Math.min(least, await redis.usedMemoryBytes());
      return Date.now() > end;
    },
    { timeoutMs: 2 * SETTLES_WITHIN_MS, everyMs: 250 },
  );
  return least;
}

async function grownBy(redis: TestRedis, fill: () => Promise<unknown>): Promise<number> {
  await redis.flush();
  const before = await settledBytes(redis);
  await fill();
  return Math.round((((await settledBytes(redis)) - before) / MEGABYTE) * 100) / 100;
}

await runGoal('P3', async ({ progress }) => {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  const db = openDatabase({ url });
  const cache = createRedisCache({ url: redis.url });
  try {
    await until(() => cache.healthy(), { what: 'Redis' });
    const authenticator = new EntryAuthenticator(
      createKeyring({ keyText: 'a key text that authenticates entries' }),
    );
    const store = new SessionStore({
      db,
      cache,
      authenticator,
      feed: { heardAt: Infinity, now: Date.now, follow: () => undefined },
      idleTimeoutMs: 1_800_000,
      nearSessions: 1,
    });
    const megabytes: Record<string, number> = {};
    let keys = 0;
    let tokenLike = 0;
    for (const [kind, roles] of [
      ['without roles', []],
      ['with ten roles', ROLES],
    ] as const) {
      await postgres.query(
        INSERT,
        [
          SESSIONS,
          kind,
          JSON.stringify({ preferred_username: 'person', token_lifetime: 300, acr: '1', roles }),
        ],
        url,
      );
      megabytes[kind] = await grownBy(redis, async () => {
        // A put may get lost when Redis has to wait for this machine: asked again until every one is there.
        for (let put = 0; put < SESSIONS; put = Number(await redis.command('DBSIZE'))) {
          const found = await storm(
            SESSIONS,
            async (i) => (await store.find(`${kind}-cookie-${i + 1}`))?.state ?? 'lost',
            {
              parallel: 15,
              onProgress: (done) => progress(() => `${kind}: ${done} of ${SESSIONS}`),
            },
          );
          if (found['live'] !== SESSIONS)
            throw new Error(`not every session is found: ${JSON.stringify(found)}`);
        }
      });
      const entries = await redis.scan();
      keys += entries.length;
      tokenLike += entries.filter(({ key, value }) =>
        /eyJ[\w-]{10}|v2\.[a-z0-9]{1,16}\.|cookie/.test([key, value].flat().map(String).join(' ')),
      ).length;
    }
    // What it costs as JSON, every column but the tokens and the cookie, found by id and by
    // user, as one writes it first.
    const rows = await db.sql.query<{ id: string; user_id: string }>(
      `SELECT s.id, s.user_id, u.keycloak_id, s.keycloak_session_id, s.created_at, s.last_accessed_at, s.expires_at, s.token_expires_at, s.ip_address, s.user_agent, s.metadata, s.is_active, s.version
       FROM user_sessions s JOIN users u ON u.id = s.user_id LIMIT $1`,
      [SESSIONS],
    );
    const plain = await grownBy(redis, () =>
      storm(
        rows.length / BATCH,
        async (i) => {
          const triples = rows
            .slice(i * BATCH, (i + 1) * BATCH)
            .flatMap((row) => [
              `session:${row.id}`,
              JSON.stringify(row),
              `user_sessions:${row.user_id}`,
              row.id,
            ]);
          await redis.command('EVAL', PUT_AS_JSON, 0, ...triples);
          return 'put';
        },
        { parallel: 1 },
      ),
    );
    const within = Object.entries(LIMITS).every(
      ([kind, limit]) => (megabytes[kind] ?? Infinity) <= limit,
    );
    return {
      passed: within && keys === 2 * SESSIONS && tokenLike === 0 && plain > LIMITS['without roles'],
      sessions: SESSIONS,
      keys,
      megabytes,
      limits: LIMITS,
      tokenLike,
      controls: { 'as JSON with a set for each user': plain },
      ratio: Math.round((plain / (megabytes['without roles'] ?? 1)) * 100) / 100,
    };
  } finally {
    await cache.close();
    await db.close();
    await Promise.all([postgres.dispose(), redis.dispose()]);
  }
});
