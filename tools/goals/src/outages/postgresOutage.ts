import { setTimeout as delay } from 'node:timers/promises';
import {
  type Cluster,
  type ClusterSession,
  HttpBrowser,
  startCluster,
  storm,
  until,
  whyMissing,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { type Ask, startTraffic, type Traffic } from '../harness/traffic.js';
import { variant } from '../harness/variants.js';

const GATEWAYS = 2;
const SESSIONS = 20;
const REFUSED_WITHIN_MS = 1_000;
const BACK_WITHIN_MS = 5_000;
const LOGINS_AT_ONCE = 3;
const ASKS: readonly Ask[] = [
  ['GET', '/auth/session'],
  ['GET', '/auth/verify'],
  ['GET', '/api/x'],
  ['GET', '/auth/sessions'],
  ['POST', '/auth/refresh?force=true'],
];

interface Cycle extends Traffic {
  /** Logins whose cookie a browser has, and how many of their sessions are not there afterwards. */
  logins: number;
  lost: number;
  /** How long after PostgreSQL took connections again the slowest gateway served everything. */
  backMs: number;
}

await runGoal('F6', async ({ full, progress }) => {
  const [cycles, downMs] = full ? [20, 30_000] : [2, 4_000];
  const cluster = await startCluster({
    gateways: GATEWAYS,
    redis: whyMissing(['redis']).length === 0,
    provider: { accessTokenLifespanSeconds: 600 },
    env: { LOG_LEVEL: 'warn' },
  });
  try {
    const sessions = await cluster.sessions(SESSIONS, 'postgres');
    // What a process needs for its first answer of a kind is no part of an outage.
    for (let i = 0; i < GATEWAYS; i++)
      for (const [method, path] of ASKS)
        await cluster.ask(i, path, { method, cookie: sessions[0]?.cookie ?? '' });
    const pids = cluster.gateways.map(({ pid }) => pid).join();
    const outages: Cycle[] = [];
    for (let cycle = 1; cycle <= cycles; cycle++) {
      const outage = await during(cluster, sessions, downMs);
      outages.push(outage);
      progress(() => `cycle ${cycle}: ${JSON.stringify(outage)}`);
    }
    const samePids = cluster.gateways.map(({ pid }) => pid).join() === pids;
    const well = ({
      denied,
      cookiesCleared,
      abrupt,
      slowest503Ms,
      logins,
      lost,
      backMs,
      answers,
    }: Cycle): boolean =>
      denied === 0 &&
      cookiesCleared === 0 &&
      abrupt === 0 &&
      slowest503Ms <= REFUSED_WITHIN_MS &&
      logins > 0 &&
      lost === 0 &&
      backMs <= BACK_WITHIN_MS &&
      (answers['503 storage_unavailable'] ?? 0) > 0 &&
      Object.keys(answers).every(
        (answer) => answer === '200' || answer === '503 storage_unavailable',
      );

    // A gateway that takes a fault for absence, and a database that says "committed" before it is.
    await cluster.restartAll({ entry: await variant('faultsAreAbsence') });
    await cluster.sql('ALTER SYSTEM SET synchronous_commit = off');
    await cluster.sql(`ALTER SYSTEM SET wal_writer_delay = '10s'`);
    await cluster.sql('SELECT pg_reload_conf()');
    const bad = await during(cluster, sessions, downMs);
    const controls = { faultsAreAbsence: bad.denied, 'commits that do not last': bad.lost };
    const control = Object.values(controls).every((caught) => caught > 0);
    return {
      passed: outages.every(well) && samePids && control,
      gateways: GATEWAYS,
      sessions: SESSIONS,
      downMs,
      samePids,
      outages,
      control,
      controls,
    };
  } finally {
    await cluster.dispose();
  }
});

/** PostgreSQL stops at once, under traffic and logins, and starts again. */
async function during(
  cluster: Cluster,
  sessions: readonly ClusterSession[],
  downMs: number,
): Promise<Cycle> {
  const acknowledged: string[] = [];
  let over = false;
  const people = Promise.all(
    Array.from({ length: LOGINS_AT_ONCE }, async (_, i) => {
      for (let n = 0; !over; n++) {
        const cookie = await cookieOfLogin(cluster, `newcomer-${i}-${n}`);
        if (cookie !== null) acknowledged.push(cookie);
      }
    }),
  );
  await until(() => acknowledged.length >= LOGINS_AT_ONCE, {
    what: 'logins under way',
    everyMs: 5,
  });
  const traffic = startTraffic(cluster, sessions, ASKS);
  await cluster.postgres.stop('immediate');
  await delay(downMs);
  await cluster.postgres.start();
  const since = performance.now();
  const { cookie } = sessions[0] as ClusterSession;
  await Promise.all(
    cluster.gateways.map((_, i) =>
      until(
        async () =>
          (await cluster.ask(i, '/auth/refresh?force=true', { cookie, method: 'POST' })).status ===
          200,
        { what: 'recovery', everyMs: 20, timeoutMs: 60_000 },
      ),
    ),
  ).catch(() => undefined);
  const backMs = Math.round(performance.now() - since);
  over = true;
  await people;
  const seen = await traffic.stop();
  // A forced refresh: copies of the session would answer anything less, whether or not it is still there.
  const still = await storm(
    acknowledged.length,
    async (i) =>
      String(
        (
          await cluster.ask(i, '/auth/refresh?force=true', {
            method: 'POST',
            cookie: acknowledged[i] ?? '',
          })
        ).status,
      ),
    { parallel: 4 },
  );
  return {
    ...seen,
    logins: acknowledged.length,
    lost: acknowledged.length - (still['200'] ?? 0),
    backMs,
  };
}

/**
 * The Cookie header of somebody who was logged in, whatever became of the page behind it; null for a login that failed.
 */
async function cookieOfLogin(cluster: Cluster, username: string): Promise<string | null> {
  const browser = new HttpBrowser();
  cluster.provider?.setUser(username);
  try {
    await browser
      .loginAt(`${cluster.url}/auth/login?login_hint=${username}`, username, username)
      .catch(() => delay(100));
    const value = browser.cookies.get('session')?.value;
    return value ? `session=${value}` : null;
  } finally {
    await browser.close();
  }
}
