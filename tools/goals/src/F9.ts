import { createRedisCache, openDatabase } from '@session-gateway/database';
import { SessionStore } from '@session-gateway/keycloak-auth';
import { type Cluster, type ClusterSession, startCluster, storm, until } from '@session-gateway/testkit';
import { runGoal } from './goal.js';
import { p99 } from './statistics.js';

const GATEWAYS = 4;
const WITHIN_MS = 1_000;
const GIVE_UP_MS = 5_000;
const HOUR_MS = 3_600_000;

/** How long after a logout was acknowledged `asks` all say no; Infinity when one does not. */
async function holdsAfter(asks: readonly (() => Promise<boolean>)[]): Promise<number> {
  const began = performance.now();
  const each = asks.map((isLive) => until(async () => !(await isLive()), { timeoutMs: GIVE_UP_MS, everyMs: 10 }).then(() => performance.now() - began, () => Infinity));
  return Math.max(...(await Promise.all(each)));
}

/** Back-channel logout of each session at one gateway or another, every gateway knowing it well. */
async function logOutAll(cluster: Cluster, sessions: readonly ClusterSession[], beforeLogout: () => Promise<void>): Promise<number[]> {
  const ask = (session: ClusterSession, gateway: number) => async () => (await cluster.ask(gateway, '/auth/verify', session)).status === 200;
  const gateways = Array.from({ length: GATEWAYS }, (_, gateway) => gateway);
  const known = await storm(sessions.length * GATEWAYS, async (i) => String(await ask(sessions[i % sessions.length] as ClusterSession, Math.floor(i / sessions.length))()), { parallel: 20 });
  if (known['true'] !== sessions.length * GATEWAYS) throw new Error(`not every gateway knows every session: ${JSON.stringify(known)}`);
  await beforeLogout();
  const took: number[] = [];
  await storm(sessions.length, async (i) => {
    const session = sessions[i] as ClusterSession;
    const [row] = await cluster.sql<{ sid: string }>('SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1', [session.id]);
    const token = await cluster.provider?.logoutToken({ sub: session.subject, sid: row?.sid });
    const answer = await fetch(`${cluster.gateways[i % GATEWAYS]?.url ?? ''}/auth/backchannel-logout`, { method: 'POST', body: new URLSearchParams({ logout_token: token ?? '' }) });
    if (answer.status !== 200) throw new Error(`the logout token was answered with ${answer.status}`);
    took.push(await holdsAfter(gateways.map((gateway) => ask(session, gateway))));
    return 'done';
  }, { parallel: 10 });
  return took;
}

/** The known-bad variant: a process that believes its copies without hearing of changes. */
async function deafVariant(cluster: Cluster): Promise<number> {
  const db = openDatabase({ url: cluster.databaseUrl });
  const cache = createRedisCache({ url: cluster.redis?.url ?? '' });
  const deaf = new SessionStore({ db, cache: { ...cache, watch: () => undefined, heardSince: () => 0 }, idleTimeoutMs: HOUR_MS });
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

await runGoal('F9', async ({ full, progress }) => {
  const count = full ? 1_000 : 100;
  const cluster = await startCluster({ gateways: GATEWAYS, provider: { accessTokenLifespanSeconds: 3_600 }, env: { LOG_LEVEL: 'warn' } });
  try {
    const redis = cluster.redis;
    if (!redis) throw new Error('there is no Redis');
    const control = await deafVariant(cluster);
    const phases = { up: async () => undefined, hanging: async () => redis.freeze(), down: async () => redis.kill() };
    const result: Record<string, { sessions: number; late: number; p99Ms: number }> = {};
    for (const [phase, begin] of Object.entries(phases)) {
      const sessions = await cluster.sessions(Math.ceil(count / 3), phase, { onProgress: (done) => progress(() => `Redis ${phase}: ${done} logins`) });
      const took = await logOutAll(cluster, sessions, begin);
      result[phase] = { sessions: took.length, late: took.filter((ms) => ms > WITHIN_MS).length, p99Ms: Math.round(p99(took)) };
      progress(() => `Redis ${phase}: ${JSON.stringify(result[phase])}`);
      if (phase === 'hanging') redis.thaw();
    }
    const passed = Object.values(result).every(({ sessions, p99Ms }) => sessions >= Math.ceil(count / 3) && p99Ms <= WITHIN_MS) && control > WITHIN_MS;
    return { passed, gateways: GATEWAYS, ...result, controls: { 'copies without news': control > WITHIN_MS ? 'caught' : 'not caught' } };
  } finally {
    await cluster.dispose();
  }
});
