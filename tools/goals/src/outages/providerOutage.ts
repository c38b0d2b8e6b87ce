import { setTimeout as delay } from 'node:timers/promises';
import {
  type Cluster,
  type ClusterSession,
  type ProviderStub,
  startCluster,
  storm,
  type StubAnswer,
  whyMissing,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { variant } from '../harness/variants.js';

const GATEWAYS = 4;
const CROWD = 200;
/** What four processes may ask at the same time; without a bound the whole crowd would. */
const MOST_AT_ONCE = GATEWAYS * 32;
/**
 * What they may ask while it is away: what each has under way when the tenth failure tells it so, and a
 * first try after each pause.
 */
const MOST_ASKED = GATEWAYS * (32 + 10 + 10);
const IMPATIENT_MS = 500;
const OUTAGE_MS = 8_000;
/** It lasts until everybody has knocked so often, too: without a breaker every knock is a question. */
const KNOCKS = 3 * CROWD;
const RECOVERY_MS = 60_000;

const html = {
  body: '<!doctype html><title>Bad Gateway</title>',
  headers: { 'content-type': 'text/html' },
};
const tokens = { access_token: 'x.y.z', token_type: 'Bearer', expires_in: 60, refresh_token: 'r' };
/** A broken answer to a refresh, and what the client sees. A cut connection is asked once more, so it is cut twice. */
const ANSWERS: [
  name: string,
  answers: StubAnswer[],
  code: 'provider_unavailable' | 'provider_rejected',
][] = [
  ['500', [{ status: 500 }], 'provider_unavailable'],
  ['502, HTML', [{ status: 502, ...html }], 'provider_unavailable'],
  ['503, JSON', [{ status: 503, body: { error: 'server_error' } }], 'provider_unavailable'],
  [
    '503 that says invalid_grant',
    [{ status: 503, body: { error: 'invalid_grant' } }],
    'provider_unavailable',
  ],
  ['429', [{ status: 429, body: { error: 'slow_down' } }], 'provider_unavailable'],
  [
    '429 that says invalid_grant',
    [{ status: 429, body: { error: 'invalid_grant' } }],
    'provider_unavailable',
  ],
  ['200, HTML', [{ status: 200, ...html }], 'provider_unavailable'],
  ['200, empty', [{ status: 200, body: '' }], 'provider_unavailable'],
  ['200, garbage', [{ garbage: true }], 'provider_unavailable'],
  ['200, an array', [{ status: 200, body: [] }], 'provider_unavailable'],
  [
    '200, no access token',
    [{ status: 200, body: { token_type: 'Bearer' } }],
    'provider_unavailable',
  ],
  [
    '200, an access token that is a number',
    [{ status: 200, body: { ...tokens, access_token: 7 } }],
    'provider_unavailable',
  ],
  [
    '200, a lifetime that is none',
    [{ status: 200, body: { ...tokens, expires_in: 'soon' } }],
    'provider_unavailable',
  ],
  [
    '200, a refresh token that is an object',
    [{ status: 200, body: { ...tokens, refresh_token: {} } }],
    'provider_unavailable',
  ],
  [
    '200, an ID Token that is none',
    [{ status: 200, body: { ...tokens, id_token: 'none' } }],
    'provider_unavailable',
  ],
  [
    '200 that says invalid_grant',
    [{ status: 200, body: { error: 'invalid_grant' } }],
    'provider_unavailable',
  ],
  ['a connection cut before the answer', [{ drop: true }, { drop: true }], 'provider_unavailable'],
  ['no answer in time', [{ delayMs: 6_000, status: 500 }], 'provider_unavailable'],
  [
    '400, an error that nobody knows',
    [{ status: 400, body: { error: 'cloudy' } }],
    'provider_unavailable',
  ],
  [
    '400, an error that is no text',
    [{ status: 400, body: { error: { name: 'invalid_grant' } } }],
    'provider_unavailable',
  ],
  ['401 invalid_client', [{ status: 401, body: { error: 'invalid_client' } }], 'provider_rejected'],
  [
    '400 unauthorized_client',
    [{ status: 400, body: { error: 'unauthorized_client' } }],
    'provider_rejected',
  ],
];
const STATUS = { provider_unavailable: 503, provider_rejected: 502 } as const;

await runGoal('F7', async ({ progress }) => {
  const cluster = await startCluster({
    gateways: GATEWAYS,
    redis: whyMissing(['redis']).length === 0,
    provider: { accessTokenLifespanSeconds: 1 },
  });
  try {
    const provider = cluster.provider as ProviderStub;
    const wrong: string[] = [];
    const sessions = await expired(cluster, ANSWERS.length + 1);
    const last = sessions.pop() as ClusterSession;
    for (const [i, [name, answers, code]] of ANSWERS.entries()) {
      const session = sessions[i] as ClusterSession;
      provider.answerNext(...answers);
      const refused = await cluster.ask(i, '/api/x', { cookie: session.cookie });
      const retry =
        code === 'provider_unavailable'
          ? /^\d+$/.test(String(refused.headers['retry-after']))
          : true;
      if (
        refused.status !== STATUS[code] ||
        refused.code !== code ||
        refused.headers['set-cookie'] !== undefined ||
        !retry
      )
        wrong.push(`${name}: ${refused.status} ${refused.code}`);
      const next = await cluster.ask(i, '/api/x', { cookie: session.cookie });
      if (next.status !== 200) wrong.push(`after ${name}: ${next.status} ${next.code}`);
      progress(() => `${i + 1} of ${ANSWERS.length} answers`);
    }
    // The one clear word that ends a session: the check above would see it.
    provider.answerNext({ status: 400, body: { error: 'invalid_grant' } });
    const ended = await cluster.ask(0, '/api/x', { cookie: last.cookie });
    const endsByInvalidGrant = ended.status === 401 && ended.code === 'reauthentication_required';

    const crowd = await expired(cluster, CROWD);
    const recovery = await outage(cluster, crowd, (line) => progress(() => line));
    await cluster.restartAll({ entry: await variant('noBreaker') });
    await cluster.sql('UPDATE user_sessions SET token_expires_at = now()');
    await cluster.redis?.flush();
    const without = await outage(cluster, crowd, (line) =>
      progress(() => `without a breaker: ${line}`),
    );
    const well = (one: Recovery): boolean =>
      one.served === CROWD &&
      one.lost === 0 &&
      one.liveRefused === 0 &&
      one.withinMinute &&
      one.refreshes === CROWD &&
      one.mostAtOnce <= MOST_AT_ONCE &&
      one.asked <= MOST_ASKED;
    return {
      passed: wrong.length === 0 && endsByInvalidGrant && well(recovery) && !well(without),
      answers: ANSWERS.length,
      wrong,
      endsByInvalidGrant,
      crowd: CROWD,
      recovery,
      control: !well(without),
      controls: { noBreaker: without },
    };
  } finally {
    await cluster.dispose();
  }
});

interface Recovery {
  /** Refreshes that the provider was asked for while it answered nothing but 503. */
  asked: number;
  /** Requests with a live token that were refused meanwhile. */
  liveRefused: number;
  served: number;
  lost: number;
  withinMinute: boolean;
  /** After its return. */
  refreshes: number;
  mostAtOnce: number;
}

/**
 * A crowd with expired tokens keeps knocking while the provider is out of order, half of it as patiently as it is
 * told, and then it is back.
 */
async function outage(
  cluster: Cluster,
  crowd: readonly ClusterSession[],
  onProgress: (line: string) => void,
): Promise<Recovery> {
  const provider = cluster.provider as ProviderStub;
  const live = await cluster.session('live');
  provider.answerAlways({ status: 503 });
  provider.resetCounts();
  let [asked, liveRefused, knocks, back] = [0, 0, 0, 0];
  const watch = (async () => {
    const until = performance.now() + OUTAGE_MS;
    for (let i = 0; performance.now() < until || knocks < KNOCKS; i++) {
      if ((await cluster.ask(i, '/api/live', { cookie: live.cookie })).status !== 200)
        liveRefused++;
      await delay(100);
    }
    asked = provider.counts.refresh;
    provider.resetCounts();
    provider.settings.latencyMs = 1_000;
    provider.answerAlways(null);
    back = performance.now();
  })();
  let slowest = 0;
  const counts = await storm(CROWD, async (i) => {
    for (;;) {
      const answer = await cluster.ask(i, '/api/x', { cookie: crowd[i]?.cookie ?? '' });
      onProgress(`${i}: ${answer.status}`);
      if (answer.status === 200) slowest = Math.max(slowest, performance.now());
      if (answer.status !== 503) return answer.status;
      knocks++;
      await delay(i % 2 === 0 ? Number(answer.headers['retry-after'] ?? 0) * 1000 : IMPATIENT_MS);
    }
  });
  await watch;
  const { refresh: refreshes } = provider.counts;
  provider.settings.latencyMs = 0;
  const served = counts['200'] ?? 0;
  return {
    asked,
    liveRefused,
    served,
    lost: CROWD - served,
    withinMinute: slowest - back < RECOVERY_MS,
    refreshes,
    mostAtOnce: provider.maxConcurrentRefreshes(),
  };
}

/** So many sessions whose access token is over, while what is issued from now on lasts. */
async function expired(cluster: Cluster, count: number): Promise<ClusterSession[]> {
  const { settings } = cluster.provider as ProviderStub;
  settings.accessTokenLifespanSeconds = 1;
  const sessions = await cluster.sessions(count, 'crowd', { parallel: 8 });
  await delay(1_200);
  settings.accessTokenLifespanSeconds = 600;
  return sessions;
}
