import { setTimeout as delay } from 'node:timers/promises';
import {
  type Cluster,
  type ClusterSession,
  type ProviderStub,
  startCluster,
  storm,
  until,
  whyMissing,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';
import { variant } from '../harness/variants.js';

const GATEWAYS = 4;
const ENDINGS = ['logout', 'back-channel', 'another browser', 'administrator', 'expiry'] as const;
type Ending = (typeof ENDINGS)[number];
const CI = 100;
const FULL = 1_000;
const AT_ONCE = 20;
const LATENCY_MS = 60;
/** The whole life of a session here: long enough to race everything else against, short enough to wait for. */
const ABSOLUTE_SECONDS = 8;

/** Ends wait in the outbox, and are sent a few at a time. */
const TOLD_WITHIN_MS = 20_000;

/**
 * How a race went: whether the session was dead everywhere afterwards, and what became of tokens that came too late.
 */
interface Race {
  ending: Ending;
  /** What was answered where 401 was due. */
  revived: number[];
  unerased: boolean;
  /** The provider's tokens came when the row had ended. */
  late: boolean;
  /** The provider's session outlives ours, and holds tokens that nobody can revoke any more. */
  unrevoked: boolean;
}

await runGoal('F4', async ({ random, full, progress }) => {
  const total = full ? FULL : CI;
  const cluster = await startCluster({
    gateways: GATEWAYS,
    redis: whyMissing(['redis']).length === 0,
    provider: { accessTokenLifespanSeconds: 1 },
    env: { SESSION_ABSOLUTE_TIMEOUT: String(ABSOLUTE_SECONDS), SESSION_IDLE_TIMEOUT: '600' },
  });
  try {
    const races = await race(cluster, total, random, (done) =>
      progress(() => `${done} of ${total} races`),
    );
    await cluster.restartAll({ entry: await variant('neverRevokes') });
    const unrevoking = await race(cluster, AT_ONCE, random, () => undefined);
    await cluster.restartAll({ entry: await variant('upsertingTouch') });
    const upserting = await race(cluster, AT_ONCE, random, () => undefined);
    const count = (where: Race[], which: (one: Race) => unknown): number =>
      where.filter(which).length;
    const controls = {
      upsertingTouch: count(upserting, ({ revived }) => revived.includes(200)),
      neverRevokes: count(unrevoking, (one) => one.unrevoked),
    };
    const control = controls.upsertingTouch > 0 && controls.neverRevokes > 0;
    const revived = races.flatMap((one) => one.revived.map((status) => `${one.ending}: ${status}`));
    const unerased = count(races, (one) => one.unerased);
    const unrevoked = count(races, (one) => one.unrevoked);
    return {
      passed:
        revived.length === 0 &&
        unerased === 0 &&
        unrevoked === 0 &&
        races.length === total &&
        control &&
        count(races, (one) => one.late) > 0,
      races: races.length,
      revived,
      unerased,
      late: count(races, (one) => one.late),
      unrevoked,
      byEnding: Object.fromEntries(
        ENDINGS.map((ending) => [ending, count(races, (one) => one.ending === ending)]),
      ),
      control,
      controls,
    };
  } finally {
    await cluster.dispose();
  }
});

async function race(
  cluster: Cluster,
  total: number,
  random: Random,
  onDone: (done: number) => void,
): Promise<Race[]> {
  const races: Race[] = [];
  while (races.length < total) {
    const batch = Math.min(AT_ONCE, total - races.length);
    const provider = cluster.provider as ProviderStub;
    provider.settings.latencyMs = 0;
    const startedAt = Date.now();
    const sessions = await cluster.sessions(batch, `racer-${races.length}`);
    const admin = await cluster.session('admin');
    await delay(1_100);
    provider.settings.latencyMs = LATENCY_MS;
    // One way to end for all of them, so that only every fifth time somebody waits for a session to expire.
    const ending = ENDINGS[(races.length / AT_ONCE) % ENDINGS.length] as Ending;
    const plans = sessions.map((session) => ({
      session,
      ending,
      afterMs: random.below(LATENCY_MS * 2 + 60),
    }));
    races.push(...(await Promise.all(plans.map((plan) => one(cluster, admin, startedAt, plan)))));
    onDone(races.length);
  }
  return races;
}

/**
 * A refresh, uses at the other gateways, and an end, all within a few milliseconds of each
 * other; then a look everywhere.
 */
async function one(
  cluster: Cluster,
  admin: ClusterSession,
  startedAt: number,
  { session, ending, afterMs }: { session: ClusterSession; ending: Ending; afterMs: number },
): Promise<Race> {
  const provider = cluster.provider as ProviderStub;
  const { cookie, id } = session;
  const [row] = await cluster.sql<{ sid: string; expires_at: Date }>(
    'SELECT keycloak_session_id AS sid, expires_at FROM user_sessions WHERE id = $1',
    [id],
  );
  const sid = row?.sid ?? '';
  if (ending === 'expiry')
    await delay(Math.max(0, (row?.expires_at.getTime() ?? startedAt) - Date.now() - afterMs));
  const refreshing = cluster.ask(1, '/api/race', { cookie });
  refreshing.catch(() => undefined);
  const uses = storm(12, async (i) => {
    await delay((i * (afterMs + 20)) / 12);
    return (await cluster.ask(i, i % 2 === 0 ? '/auth/session' : '/auth/verify', { cookie }))
      .status;
  });
  await delay(afterMs);
  const visit = await end(cluster, admin, session, sid, ending);
  await Promise.all([refreshing, uses]);
  // Long enough for whatever was under way, and as long as a logout may take to hold everywhere.
  await delay(1_000);
  const looks = await Promise.all(
    Array.from({ length: GATEWAYS * 2 }, (_, i) =>
      statusOf(cluster, i, i < GATEWAYS ? '/auth/session' : '/api/race', cookie),
    ),
  );
  const [left] = await cluster.sql<{ is_active: boolean; held: boolean; version: number }>(
    'SELECT is_active, coalesce(access_token, refresh_token, id_token) IS NOT NULL AS held, version FROM user_sessions WHERE id = $1',
    [id],
  );
  // Issued, and never written: a row is written by its login, then by its end.
  const late = provider.issued(sid) > 1 && left?.version === 2;
  if (late || (ending !== 'back-channel' && ending !== 'expiry')) await told(provider, sid);
  const survived = late && provider.isSessionAlive(sid);
  if (visit !== null) await fetch(visit, { redirect: 'manual' });
  return {
    ending,
    late,
    revived: looks.filter((status) => status !== 401),
    unerased: left === undefined || left.is_active || left.held,
    // Tokens that were in the row are no concern of ours where the provider ended the session, or nobody did.
    unrevoked:
      survived ||
      (ending !== 'back-channel' && ending !== 'expiry' && provider.isSessionAlive(sid)),
  };
}

/** Resolves when the provider's session is over, or never will be. */
async function told(provider: ProviderStub, sid: string): Promise<void> {
  await until(() => !provider.isSessionAlive(sid), {
    timeoutMs: TOLD_WITHIN_MS,
    everyMs: 250,
  }).catch(() => undefined);
}

/**
 * What a gateway says of a session. One that could not look, because everybody looks at once, is
 * asked again: 503 says nothing.
 */
async function statusOf(
  cluster: Cluster,
  gateway: number,
  path: string,
  cookie: string,
): Promise<number> {
  for (let left = 20; ; left--) {
    const { status } = await cluster.ask(gateway, path, { cookie });
    if (status !== 503 || left === 0) return status;
    await delay(250);
  }
}

/** @returns where the browser goes next, if anywhere */
async function end(
  cluster: Cluster,
  admin: ClusterSession,
  { cookie, id, subject }: ClusterSession,
  sid: string,
  ending: Ending,
): Promise<string | null> {
  const csrf = { 'x-csrf': '1' };
  switch (ending) {
    case 'logout': {
      let answer = await cluster.ask(2, '/auth/logout', { method: 'POST', cookie, headers: csrf });
      // A machine that is too busy for PostgreSQL: a person tries again.
      while (answer.status === 503)
        answer = await cluster.ask(2, '/auth/logout', { method: 'POST', cookie, headers: csrf });
      return (JSON.parse(answer.text) as { logout_url: string }).logout_url;
    }
    case 'back-channel': {
      // The provider's session is left alive, to see that late tokens are revoked here too.
      const body = new URLSearchParams({
        logout_token: await (cluster.provider as ProviderStub).logoutToken({ sub: subject, sid }),
      });
      await fetch(`${cluster.gateways[3]?.url ?? ''}/auth/backchannel-logout`, {
        method: 'POST',
        body,
      });
      return null;
    }
    case 'another browser':
      await cluster.ask(2, `/auth/sessions/${id}`, { method: 'DELETE', cookie, headers: csrf });
      return null;
    case 'administrator':
      await cluster.ask(3, `/admin/sessions/${id}`, {
        method: 'DELETE',
        cookie: admin.cookie,
        headers: csrf,
      });
      return null;
    case 'expiry':
      return null;
  }
}
