import { setTimeout as delay } from 'node:timers/promises';
import { createRedisCache, openDatabase } from '@session-gateway/database';
import { createKeyring, EntryAuthenticator, SessionStore } from '@session-gateway/keycloak-auth';
import {
  type Cluster,
  type ClusterSession,
  type FaultProxy,
  startCluster,
  startFaultProxy,
  storm,
  type TestRedis,
  until,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { p99, rounded } from '../harness/statistics.js';

const GATEWAYS = 4;
const WITHIN_MS = 1_000;
const LATEST_MS = 2_000;
const GIVE_UP_MS = 5_000;
const HELD_OPEN_S = 5;
/** An instance that reaches nothing serves for five seconds; the rest is a request's own time. */
const CUT_OFF_MS = 5_500;
const STATEMENTS = 3;
const COUNTED_MS = 6_000;
/** States of Redis in a run at CI size. */
const DRAWN = 3;
const HOUR_MS = 3_600_000;

/**
 * How long after an end was acknowledged one of `asks` was still answered with yes; Infinity when one stays so. What a
 * refusal takes on a busy machine does not count.
 */
async function holdsAfter(asks: readonly (() => Promise<boolean>)[]): Promise<number> {
  const began = performance.now();
  let lastMs = 0;
  const isOver = async (isLive: () => Promise<boolean>): Promise<boolean> => {
    if (!(await isLive())) return true;
    lastMs = Math.max(lastMs, performance.now() - began);
    return false;
  };
  const all = asks.map((isLive) =>
    until(() => isOver(isLive), { timeoutMs: GIVE_UP_MS, everyMs: 50 }).catch(() => {
      lastMs = Infinity;
    }),
  );
  await Promise.all(all);
  return lastMs;
}

/** Back-channel logout of each session at one gateway or another, every gateway knowing it well. */
async function logOutAll(
  cluster: Cluster,
  sessions: readonly ClusterSession[],
  beforeLogout: () => Promise<void>,
): Promise<number[]> {
  const ask = (session: ClusterSession, gateway: number) => async () =>
    (await cluster.ask(gateway, '/auth/verify', session)).status === 200;
  const gateways = Array.from({ length: GATEWAYS }, (_, gateway) => gateway);
  const known = await storm(
    sessions.length * GATEWAYS,
    async (i) =>
      String(
        await ask(
          sessions[i % sessions.length] as ClusterSession,
          Math.floor(i / sessions.length),
        )(),
      ),
    { parallel: 20 },
  );
  if (known['true'] !== sessions.length * GATEWAYS)
    throw new Error(`not every gateway knows every session: ${JSON.stringify(known)}`);
  await beforeLogout();
  const took: number[] = [];
  await storm(
    sessions.length,
    async (i) => {
      const session = sessions[i] as ClusterSession;
      const [row] = await cluster.sql<{ sid: string }>(
        'SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1',
        [session.id],
      );
      const token = await cluster.provider?.logoutToken({ sub: session.subject, sid: row?.sid });
      const answer = await fetch(
        `${cluster.gateways[i % GATEWAYS]?.url ?? ''}/auth/backchannel-logout`,
        { method: 'POST', body: new URLSearchParams({ logout_token: token ?? '' }) },
      );
      if (answer.status !== 200)
        throw new Error(`the logout token was answered with ${answer.status}`);
      took.push(await holdsAfter(gateways.map((gateway) => ask(session, gateway))));
      return 'done';
    },
    { parallel: 5 },
  );
  return took;
}

/** The known-bad variant: a process that believes its copies without hearing of changes. */
async function deafVariant(cluster: Cluster): Promise<number> {
  const db = openDatabase({ url: cluster.databaseUrl });
  const cache = createRedisCache({ url: cluster.redis?.url ?? '' });
  const deaf = new SessionStore({
    db,
    cache: { ...cache, watch: () => undefined },
    feed: { heardAt: Infinity, now: Date.now, follow: () => undefined },
    authenticator: new EntryAuthenticator(
      createKeyring({ keyText: 'a key text of a process on its own that hears nothing' }),
    ),
    idleTimeoutMs: HOUR_MS,
  });
  try {
    const session = await cluster.session('deaf');
    const cookie = session.cookie.split('=')[1] ?? '';
    await deaf.find(cookie);
    const answer = await cluster.ask(0, '/auth/logout', { ...session, method: 'POST' });
    if (answer.status !== 200) throw new Error(`the logout was answered with ${answer.status}`);
    return await holdsAfter([async () => (await deaf.find(cookie))?.state === 'live']);
  } finally {
    await cache.close();
    await db.close();
  }
}

/** What a Redis can be like, and how it becomes well again. */
type State = readonly [begin: () => Promise<unknown>, end: () => Promise<unknown>];

function statesOf(redis: TestRedis, network: FaultProxy): Record<string, State> {
  const nothing = async (): Promise<void> => undefined;
  const config = (name: string, value: string) => () => redis.command('CONFIG', 'SET', name, value);
  const acl =
    (...rules: string[]) =>
    () =>
      redis.command('ACL', 'SETUSER', 'default', ...rules);
  return {
    up: [nothing, nothing],
    hanging: [async () => redis.freeze(), async () => redis.thaw()],
    down: [() => redis.kill(), () => redis.start()],
    paused: [
      () => redis.command('CLIENT', 'PAUSE', 600_000, 'WRITE'),
      () => redis.command('CLIENT', 'UNPAUSE'),
    ],
    flushed: [() => redis.flush(), nothing],
    'out of memory': [config('maxmemory', '1'), config('maxmemory', '0')],
    'read-only': [
      () => redis.command('REPLICAOF', '127.0.0.1', '1'),
      () => redis.command('REPLICAOF', 'NO', 'ONE'),
    ],
    'without scripts': [acl('-@scripting'), acl('+@scripting')],
    'another prefix': [acl('resetkeys', '~other:*'), acl('allkeys')],
    'too few replicas': [
      config('min-replicas-to-write', '1'),
      config('min-replicas-to-write', '0'),
    ],
    'partitioned from one': [
      async () => network.set({ blackhole: true }),
      async () => network.clear(),
    ],
  };
}

/**
 * Ends sessions in a transaction that stays open, while others are ended and told; how late each of its own ends is.
 */
async function heldOpen(cluster: Cluster, sessions: readonly ClusterSession[]): Promise<number[]> {
  const [held, others] = [
    sessions.slice(0, sessions.length / 2),
    sessions.slice(sessions.length / 2),
  ];
  const gateways = Array.from({ length: GATEWAYS }, (_, gateway) => gateway);
  const ids = held.map(({ id }) => `'${id}'`).join();
  const committed = cluster.sql(
    `DO $$ BEGIN UPDATE user_sessions SET is_active = false, ended_at = now(), end_reason = 'logout' WHERE id IN (${ids}); PERFORM pg_sleep(${HELD_OPEN_S}); END $$`,
  );
  await Promise.all([committed, logOutAll(cluster, others, async () => undefined)]);
  return Promise.all(
    held.map((session) =>
      holdsAfter(
        gateways.map(
          (gateway) => async () =>
            (await cluster.ask(gateway, '/auth/verify', session)).status === 200,
        ),
      ),
    ),
  );
}

/** How long a gateway that reaches neither PostgreSQL nor Redis serves a session that was ended elsewhere. */
async function cutOff(
  cluster: Cluster,
  networks: readonly FaultProxy[],
  session: ClusterSession,
): Promise<number> {
  const last = GATEWAYS - 1;
  const isServed = async () => (await cluster.ask(last, '/auth/verify', session)).status === 200;
  if (!(await isServed())) throw new Error('the last gateway does not know the session');
  for (const network of networks) {
    network.set({ drop: true });
    network.cut();
  }
  const began = performance.now();
  await cluster.ask(0, '/auth/logout', { ...session, method: 'POST' });
  await until(async () => !(await isServed()), { timeoutMs: 20_000, everyMs: 20 });
  const servedMs = performance.now() - began;
  for (const network of networks) network.clear();
  return servedMs;
}

/** Readings of the feed a second and gateway, as PostgreSQL counts scans of its table. */
async function readingsPerSecond(cluster: Cluster): Promise<number> {
  const scans = async (): Promise<number> =>
    Number(
      (
        await cluster.sql<{ scans: string }>(
          `SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) AS scans FROM pg_stat_user_tables WHERE relname = 'session_changes'`,
        )
      )[0]?.scans,
    );
  const [before, began] = [await scans(), performance.now()];
  await delay(COUNTED_MS);
  return ((await scans()) - before) / ((performance.now() - began) / 1_000) / GATEWAYS;
}

await runGoal('F9', async ({ full, random, progress }) => {
  const count = full ? 1_000 : 100;
  const cluster = await startCluster({
    gateways: GATEWAYS,
    provider: { accessTokenLifespanSeconds: 3_600 },
    env: { LOG_LEVEL: 'error' },
    start: false,
  });
  const redis = cluster.redis;
  if (!redis) throw new Error('there is no Redis');
  const networks = await Promise.all([
    startFaultProxy({ to: redis.port }),
    startFaultProxy({ to: cluster.postgres.port }),
  ]);
  const [redisNetwork, postgresNetwork] = networks;
  try {
    for (let i = 1; i < GATEWAYS; i++) await cluster.startGateway();
    await cluster.startGateway({
      REDIS_URL: redisNetwork.through(redis.url),
      DATABASE_URL: postgresNetwork.through(cluster.databaseUrl),
    });
    const control = await deafVariant(cluster);
    const statementsPerSecond = rounded(await readingsPerSecond(cluster));
    const states = statesOf(redis, redisNetwork);
    const names = Object.keys(states);
    while (!full && names.length > DRAWN) names.splice(random.below(names.length), 1);
    const result: Record<string, { ends: number; late: number; p99Ms: number; slowestMs: number }> =
      {};
    const note = (name: string, took: readonly number[]): void => {
      result[name] = {
        ends: took.length,
        late: took.filter((ms) => ms > WITHIN_MS).length,
        p99Ms: Math.round(p99([...took])),
        slowestMs: Math.round(Math.max(...took)),
      };
      progress(() => `${name}: ${JSON.stringify(result[name])}`);
    };
    for (const name of names) {
      const [begin, end] = states[name] as State;
      const sessions = await cluster.sessions(count, name.replaceAll(' ', '-'), {
        onProgress: (done) => progress(() => `Redis ${name}: ${done} logins`),
      });
      note(name, await logOutAll(cluster, sessions, async () => void (await begin())));
      await end();
    }
    note('held open', await heldOpen(cluster, await cluster.sessions(20, 'held')));
    const cutOffMs = Math.round(await cutOff(cluster, networks, await cluster.session('cut-off')));
    return {
      passed:
        Object.values(result).every(
          ({ ends, p99Ms, slowestMs }) => ends > 0 && p99Ms <= WITHIN_MS && slowestMs <= LATEST_MS,
        ) &&
        statementsPerSecond <= STATEMENTS &&
        cutOffMs <= CUT_OFF_MS &&
        control > WITHIN_MS,
      gateways: GATEWAYS,
      statementsPerSecond,
      cutOffMs,
      ...result,
      controls: { 'copies without the feed': control > WITHIN_MS ? 'caught' : 'not caught' },
    };
  } finally {
    await cluster.dispose();
    await Promise.all(networks.map((network) => network.dispose()));
  }
});
