import { setTimeout as delay } from 'node:timers/promises';
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
import { type Ask, startTraffic, type Traffic } from '../harness/traffic.js';
import { variant } from '../harness/variants.js';

const GATEWAYS = 3;
const SESSIONS = 30;
const BACK_WITHIN_MS = 2_000;
/** Slower than a command may be (docs/operate/timeouts.md). */
const SLOW_MS = 400;
const ASKS: readonly Ask[] = [
  ['GET', '/auth/session'],
  ['GET', '/auth/verify'],
  ['GET', '/api/x'],
  ['GET', '/auth/sessions'],
  ['POST', '/auth/refresh?force=true'],
];

const PUT_LIST = `redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'garbage')`;

interface Phase extends Traffic {
  /** Logins and logouts meanwhile that did not work. */
  failed: number;
  /** How long after the fault the slowest gateway used Redis again. */
  backMs: number;
}

await runGoal('F5', async ({ full, progress }) => {
  const [cycles, downMs] = full ? [20, 30_000] : [3, 2_000];
  const cluster = await startCluster({
    gateways: GATEWAYS,
    provider: { accessTokenLifespanSeconds: 600 },
    env: { LOG_LEVEL: 'warn' },
    start: false,
  });
  const redis = cluster.redis as TestRedis;
  const proxy = await startFaultProxy({ to: redis.port });
  const env = { REDIS_URL: proxy.through(redis.url) };
  try {
    for (let i = 0; i < GATEWAYS; i++) await cluster.startGateway(env);
    const sessions = await cluster.sessions(SESSIONS, 'redis');
    const phases: Record<string, Phase> = {};
    for (let cycle = 1; cycle <= cycles; cycle++) {
      for (const [name, fault] of Object.entries(faults(redis, proxy, downMs))) {
        const phase = await during(cluster, sessions, fault);
        phases[name] = merged(phases[name], phase);
        progress(() => `cycle ${cycle}, ${name}: ${JSON.stringify(phase)}`);
      }
    }
    const well = (phase: Phase): boolean =>
      phase.denied === 0 &&
      phase.cookiesCleared === 0 &&
      phase.failed === 0 &&
      Object.keys(phase.answers).every((answer) => answer === '200') &&
      phase.backMs <= BACK_WITHIN_MS;
    await cluster.restartAll({ entry: await variant('redisDecides'), env });
    const bad = await during(
      cluster,
      sessions,
      faults(redis, proxy, downMs)['killed, then empty'] as Fault,
    );
    return {
      passed: Object.values(phases).every(well) && bad.denied > 0,
      gateways: GATEWAYS,
      sessions: SESSIONS,
      cycles,
      downMs,
      phases,
      control: bad.denied > 0,
      controls: { redisDecides: bad },
    };
  } finally {
    await cluster.dispose();
    await proxy.dispose();
  }
});

/** Breaks Redis, and mends it. */
type Fault = readonly [broken: () => Promise<unknown>, mended: () => Promise<unknown>];

function faults(redis: TestRedis, proxy: FaultProxy, downMs: number): Record<string, Fault> {
  const nothing = async (): Promise<void> => undefined;
  return {
    'killed, then empty': [
      async () => {
        await redis.kill();
        await delay(downMs);
      },
      () => redis.start(),
    ],
    flushed: [() => redis.flush(), nothing],
    garbage: [
      async () => {
        for (const { key } of await redis.scan())
          await redis.command('SET', key, 'garbage that is no session', 'PX', 60_000);
      },
      nothing,
    ],
    'of another type': [
      async () => {
        for (const { key } of await redis.scan()) {
          await redis.command('EVAL', PUT_LIST, 1, key);
        }
      },
      () => redis.flush(),
    ],
    slow: [
      async () => {
        proxy.set({ latencyMs: SLOW_MS });
        await delay(downMs);
      },
      async () => proxy.clear(),
    ],
    hanging: [
      async () => {
        redis.freeze();
        await delay(downMs);
      },
      async () => redis.thaw(),
    ],
  };
}

/** A fault under traffic, with a login and a logout while it lasts. */
async function during(
  cluster: Cluster,
  sessions: readonly ClusterSession[],
  [broken, mended]: Fault,
): Promise<Phase> {
  const traffic = startTraffic(cluster, sessions, ASKS);
  const [, failed] = await Promise.all([broken(), loginsAndLogouts(cluster)]);
  await mended();
  const since = performance.now();
  const usesRedis = async ({ managementUrl }: { managementUrl: string }): Promise<boolean> =>
    (
      (await (await fetch(`${managementUrl}/health/ready`)).json()) as {
        dependencies: { cache: { status: string } };
      }
    ).dependencies.cache.status === 'ok';
  await Promise.all(
    cluster.gateways.map((gateway) =>
      until(() => usesRedis(gateway), { what: 'Redis in use again', everyMs: 20 }),
    ),
  );
  const backMs = Math.round(performance.now() - since);
  await delay(300);
  return { ...(await traffic.stop()), failed, backMs };
}

/** How many of two people did not get in and out. */
async function loginsAndLogouts(cluster: Cluster): Promise<number> {
  const outcomes = await storm(2, async (i) => {
    const { cookie } = await cluster.session(`meanwhile-${i}`);
    const out = await cluster.ask(i, '/auth/logout', { cookie, method: 'POST' });
    return out.status === 200 && (await cluster.ask(i, '/auth/session', { cookie })).status === 401
      ? 'well'
      : 'badly';
  });
  return 2 - (outcomes['well'] ?? 0);
}

function merged(before: Phase | undefined, phase: Phase): Phase {
  if (!before) return phase;
  const answers = { ...before.answers };
  for (const [answer, count] of Object.entries(phase.answers))
    answers[answer] = (answers[answer] ?? 0) + count;
  return {
    answers,
    denied: before.denied + phase.denied,
    cookiesCleared: before.cookiesCleared + phase.cookiesCleared,
    abrupt: before.abrupt + phase.abrupt,
    failed: before.failed + phase.failed,
    slowest503Ms: Math.max(before.slowest503Ms, phase.slowest503Ms),
    backMs: Math.max(before.backMs, phase.backMs),
  };
}
