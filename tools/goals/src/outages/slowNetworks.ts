import { setTimeout as delay } from 'node:timers/promises';
import {
  type Cluster,
  type ClusterSession,
  type FaultProxy,
  type Faults,
  type ProviderStub,
  startCluster,
  startFaultProxy,
  storm,
  until,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { heldBy } from '../harness/process.js';
import { variant } from '../harness/variants.js';

const CROWD = 20;
const FULL_CROWD = 200;
const UPSTREAM_MS = 3_000;
const TOLERANCE_MS = 200;
/** What an answer takes at most on a good network when the whole crowd asks at once. */
const USUAL_MS = 1_000;
const BACK_WITHIN_MS = 20_000;
const MOST_GROWTH_MEGABYTES = 100;
/** By docs/operate/timeouts.md: what is asked, and how long the slowest answer takes while this part is broken. */
const PARTS = {
  postgres: { path: '/auth/sessions', method: 'GET', withinMs: 2_750 },
  redis: { path: '/auth/session', method: 'GET', withinMs: 250 },
  provider: { path: '/auth/refresh?force=true', method: 'POST', withinMs: 5_000 },
  upstream: { path: '/api/x', method: 'GET', withinMs: UPSTREAM_MS },
} as const;
type Part = keyof typeof PARTS;
const FAULTS: Record<string, Faults> = {
  latency: { latencyMs: 100 },
  'black hole': { blackhole: true },
  'reset before the first byte': { resetAfterBytes: 0 },
  'reset at byte 40': { resetAfterBytes: 40 },
  '1 B/s': { bytesPerSecond: 1 },
  refused: { drop: true },
};

interface Case {
  answers: Record<string, number>;
  slowestMs: number;
  late: boolean;
  denied: number;
  /** Until everybody was served again; null when that took too long. */
  backMs: number | null;
}

await runGoal('F8', async ({ full, progress }) => {
  const crowd = full ? FULL_CROWD : CROWD;
  const cluster = await startCluster({
    gateways: 1,
    provider: { accessTokenLifespanSeconds: 600 },
    start: false,
  });
  const provider = cluster.provider as ProviderStub;
  const ports: Record<Part, number> = {
    postgres: cluster.postgres.port,
    redis: cluster.redis?.port ?? 0,
    provider: Number(new URL(provider.url).port),
    upstream: Number(new URL(cluster.upstream.url).port),
  };
  const proxies = Object.fromEntries(
    await Promise.all(
      Object.entries(ports).map(
        async ([part, to]) => [part, await startFaultProxy({ to })] as const,
      ),
    ),
  ) as Record<Part, FaultProxy>;
  const env = {
    LOG_LEVEL: 'fatal',
    DATABASE_URL: proxies.postgres.through(cluster.databaseUrl),
    REDIS_URL: proxies.redis.through(cluster.redis?.url ?? ''),
    KEYCLOAK_INTERNAL_URL: proxies.provider.through(provider.issuer),
    GATEWAY_ROUTES: JSON.stringify([
      {
        path: '/api',
        upstream: proxies.upstream.through(cluster.upstream.url).replace(/\/$/, ''),
        timeoutMs: UPSTREAM_MS,
      },
    ]),
  };
  try {
    await cluster.startGateway(env);
    const sessions = await cluster.sessions(crowd, 'crowd');
    // What a process needs once it is warm is no part of a fault.
    for (const { path, method } of Object.values(PARTS))
      await storm(
        20 * crowd,
        async (i) =>
          (await cluster.ask(0, path, { cookie: sessions[i % crowd]?.cookie ?? '', method }))
            .status,
        { parallel: crowd },
      );
    const before = held(cluster);
    const cases: Record<string, Case> = {};
    let most = before;
    for (const part of Object.keys(PARTS) as Part[]) {
      for (const [name, fault] of Object.entries(FAULTS)) {
        const seen = (cases[`${part}, ${name}`] = await broken(
          cluster,
          sessions,
          part,
          proxies[part],
          fault,
        ));
        most = Math.max(most, held(cluster));
        progress(() => `${part}, ${name}: ${JSON.stringify(seen)}`);
      }
    }
    const well = ({ late, denied, backMs }: Case): boolean =>
      !late && denied === 0 && backMs !== null;
    const wrong = Object.entries(cases)
      .filter(([, one]) => !well(one))
      .map(([name]) => name);
    // A process that waits for as long as it takes.
    await cluster.restartGateway(0, { entry: await variant('patientClient'), env });
    const patient = await broken(cluster, sessions.slice(0, CROWD), 'provider', proxies.provider, {
      blackhole: true,
    });
    const grownMegabytes = Math.round(most - before);
    return {
      passed:
        wrong.length === 0 &&
        most - before <= MOST_GROWTH_MEGABYTES &&
        cluster.upstream.open() === 0 &&
        patient.late,
      crowd,
      wrong,
      grownMegabytes,
      leftAtUpstream: cluster.upstream.open(),
      slowestMs: Object.fromEntries(
        Object.entries(cases).map(([name, one]) => [name, one.slowestMs]),
      ),
      cases,
      control: patient.late,
      controls: { patientClient: patient },
    };
  } finally {
    await cluster.dispose();
    await Promise.all(Object.values(proxies).map((proxy) => proxy.dispose()));
  }
});

async function broken(
  cluster: Cluster,
  sessions: readonly ClusterSession[],
  part: Part,
  proxy: FaultProxy,
  fault: Faults,
): Promise<Case> {
  const { path, method, withinMs } = PARTS[part];
  const ask = (i: number) => cluster.ask(0, path, { cookie: sessions[i]?.cookie ?? '', method });
  proxy.set(fault);
  let [slowestMs, denied] = [0, 0];
  const answers = await storm(sessions.length, async (i) => {
    const began = performance.now();
    const { status, code } = await ask(i).catch((error: unknown) => ({
      status: 0,
      code: error instanceof Error ? error.message : null,
    }));
    slowestMs = Math.max(slowestMs, Math.round(performance.now() - began));
    if (status === 401 || status === 403) denied++;
    return code === null ? status : `${status} ${code}`;
  });
  proxy.clear();
  const began = performance.now();
  // One after the other, as the breaker lets first calls through. A 401 is the provider's word, too: it may have spent
  // a token and the answer was lost.
  const backMs = await until(
    async () => [200, part === 'provider' ? 401 : 200].includes((await ask(0)).status),
    { what: 'recovery', everyMs: 100, timeoutMs: BACK_WITHIN_MS },
  ).then(
    () => Math.round(performance.now() - began),
    () => null,
  );
  await delay(1_000);
  // Where reuse is 0 such a session is lost, and its browser logs in anew.
  await storm(
    sessions.length,
    async (i) => {
      if ((await ask(i)).status === 401)
        Object.assign(sessions[i] as ClusterSession, await cluster.session(`crowd-${i}`));
      return 'in';
    },
    { parallel: 4 },
  );
  return {
    answers,
    slowestMs,
    late:
      slowestMs >
      withinMs + TOLERANCE_MS + (part === 'redis' || fault.latencyMs !== undefined ? USUAL_MS : 0),
    denied: part === 'provider' ? 0 : denied,
    backMs,
  };
}

function held({ gateways: [gateway] }: Cluster): number {
  return heldBy(gateway?.pid ?? 0).megabytes;
}
