import { loadavg } from 'node:os';
import { type Cluster, type ClusterSession, startCluster } from '@session-gateway/testkit';
import { SteadyLoad } from './bench/steady.js';
import { runGoal } from '../harness/goal.js';
import { heldBy } from '../harness/process.js';
import type { Random } from '../harness/random.js';
import { p99, rounded, slopeOf } from '../harness/statistics.js';
import { variant } from '../harness/variants.js';

const SLOPE_LIMIT = 0.5;
const P99_LIMIT = 1.2;
/** That many descriptors more or less at the end are the ways of pools. */
const DESCRIPTORS = 20;
const PER_SECOND = { requests: 40, logins: 1 };
const LIVE_SESSIONS = 50;
const SAMPLE_MS = 5_000;
const PATHS = ['/api/x', '/api/x', '/auth/verify', '/auth/session', '/api/download/20000'];

interface Soak {
  requests: number;
  logins: number;
  /** Answers of any kind but a good one, or 401: the churn ends sessions that are just being asked for. */
  faults: number;
  megabytesPerMinute: number;
  descriptorsPerMinute: number;
  /** The last tenth's to the first's. */
  p99Ratio: number;
  /**
   * What tells a drift from somebody else's work on the machine: milliseconds, and the load that the system names
   * at the end of each tenth.
   */
  p99ByTenth: number[];
  loadByTenth: number[];
  megabytes: { first: number; last: number };
}

await runGoal('P8', async ({ full, random, progress }) => {
  const minutes = full ? 60 : 10;
  const cluster = await startCluster({
    provider: { accessTokenLifespanSeconds: 60 },
    env: { REFRESH_SWEEP: '10', SESSION_RETENTION: '0', RATE_LIMIT_LOGIN: '0' },
  });
  try {
    const soaked = await soak(cluster, minutes, random, progress);
    process.stderr.write(`P8: ${JSON.stringify(soaked)}\n`);
    await cluster.restartAll({ entry: await variant('leaking') });
    const leaking = await soak(cluster, minutes / 5, random, progress);
    const passed =
      soaked.faults === 0 &&
      soaked.logins > minutes * 30 &&
      soaked.megabytesPerMinute <= SLOPE_LIMIT &&
      Math.abs(soaked.descriptorsPerMinute) * minutes <= DESCRIPTORS &&
      soaked.p99Ratio <= P99_LIMIT &&
      leaking.megabytesPerMinute > SLOPE_LIMIT;
    return {
      passed,
      minutes,
      ...soaked,
      limit: SLOPE_LIMIT,
      p99Limit: P99_LIMIT,
      control: leaking.megabytesPerMinute > SLOPE_LIMIT,
      controls: { leaking: leaking.megabytesPerMinute },
    };
  } finally {
    await cluster.dispose();
  }
});

/** Requests and logins at a fixed rate. */
async function soak(
  cluster: Cluster,
  minutes: number,
  random: Random,
  progress: (line: () => string) => void,
): Promise<Soak> {
  const sessions = await cluster.sessions(LIVE_SESSIONS, 'person');
  const { pid, port } = cluster.gateways[0] ?? { pid: 0, port: 0 };
  const steady = new SteadyLoad({
    port,
    perSecond: PER_SECOND.requests,
    paths: PATHS,
    seed: random.below(2 ** 32),
  });
  const tell = (): void => steady.as(sessions.map(({ cookie }) => cookie));
  tell();
  const began = performance.now();
  const elapsed = (): number => (performance.now() - began) / 60_000;
  const samples: { minutes: number; load: number; megabytes: number; descriptors: number }[] = [];
  const underWay = new Set<Promise<unknown>>();
  let [logins, faults] = [0, 0];
  const every = (ms: number, work: () => Promise<void>): NodeJS.Timeout =>
    setInterval(() => {
      const one: Promise<unknown> = work()
        .catch(() => faults++)
        .finally(() => underWay.delete(one));
      underWay.add(one);
    }, ms);
  const timers = [
    every(1_000 / PER_SECOND.logins, () => change(cluster, sessions, logins++).then(tell)),
    every(
      SAMPLE_MS,
      async () =>
        void samples.push({ minutes: elapsed(), load: loadavg()[0] ?? 0, ...heldBy(pid) }),
    ),
  ];
  while (elapsed() < minutes) {
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    progress(
      () =>
        `minute ${elapsed().toFixed(1)} of ${minutes}: ${steady.sent} requests, ${logins} logins, ${samples.at(-1)?.megabytes.toFixed(0) ?? '?'} MB, ${samples.at(-1)?.descriptors ?? '?'} descriptors`,
    );
  }
  for (const timer of timers) clearInterval(timer);
  await Promise.all(underWay);
  const answers = await steady.end();
  const warm = samples.filter((sample) => sample.minutes > minutes / 6);
  const inTenth = <Timed extends { minutes: number }>(
    all: readonly Timed[],
    tenth: number,
  ): Timed[] => all.filter(({ minutes: at }) => Math.floor((at / minutes) * 10) === tenth);
  const tenths = Array.from({ length: 10 }, (_, tenth) => tenth);
  const p99ByTenth = tenths.map((tenth) => p99(inTenth(answers, tenth).map(({ ms }) => ms)));
  return {
    requests: answers.length,
    logins,
    faults: faults + answers.filter(({ status }) => status !== 200 && status !== 401).length,
    megabytesPerMinute: rounded(slopeOf(warm.map(({ minutes: x, megabytes: y }) => [x, y]))),
    descriptorsPerMinute: rounded(slopeOf(warm.map(({ minutes: x, descriptors: y }) => [x, y]))),
    p99Ratio: rounded((p99ByTenth[9] ?? Infinity) / (p99ByTenth[0] ?? 0)),
    p99ByTenth: p99ByTenth.map(rounded),
    loadByTenth: tenths.map((tenth) => inTenth(samples, tenth).at(-1)?.load ?? 0),
    megabytes: {
      first: rounded(warm[0]?.megabytes ?? 0),
      last: rounded(warm.at(-1)?.megabytes ?? 0),
    },
  };
}

/** Somebody logs out, and somebody else comes. */
async function change(cluster: Cluster, sessions: ClusterSession[], i: number): Promise<void> {
  const leaving = sessions.shift();
  if (leaving) await cluster.ask(0, '/auth/logout', { cookie: leaving.cookie, method: 'POST' });
  sessions.push(await cluster.session(`visitor${i % 200}`));
}
