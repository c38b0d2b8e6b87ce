import {
  type Cluster,
  type ClusterSession,
  type Counts,
  type ProviderStub,
  startCluster,
  whyMissing,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';
import { variant } from '../harness/variants.js';

const GATEWAYS = 4;
const USERS = 500;
const CI = 50_000;
const FULL = 1_000_000;
const CONTROL = { users: 40, responses: 6_000, lifespanSeconds: 2 };
const PARALLEL = 64;
const ABORTS = 0.1;
/** Short, so that each session is renewed again and again while its requests come. */
const LIFESPAN_SECONDS = 20;
const PATHS = ['/api/a', '/api/b', '/auth/session', '/auth/verify'];

interface Mix {
  responses: number;
  served: number;
  /** Answers that are about somebody else than who asked. */
  another: number;
  aborted: number;
  refreshes: number;
  invalidGrants: number;
  others: Counts;
}

await runGoal('F2', async ({ random, full, progress }) => {
  const cluster = await startCluster({
    gateways: GATEWAYS,
    redis: whyMissing(['redis']).length === 0,
    provider: { accessTokenLifespanSeconds: 600 },
  });
  try {
    const wanted = full ? FULL : CI;
    const mix = await drive(
      cluster,
      { users: USERS, responses: wanted, lifespanSeconds: LIFESPAN_SECONDS },
      random,
      (done) => progress(() => `${done} of ${wanted} responses`),
    );
    await cluster.restartAll({ entry: await variant('sharedFlight') });
    const bad = await drive(cluster, CONTROL, random, () => undefined);
    return {
      passed:
        mix.another === 0 &&
        mix.responses >= wanted &&
        mix.served > wanted * 0.95 &&
        mix.refreshes > USERS / 2 &&
        mix.invalidGrants === 0 &&
        bad.another > 0,
      users: USERS,
      ...mix,
      control: bad.another,
      controls: { sharedFlight: bad },
    };
  } finally {
    await cluster.dispose();
  }
});

async function drive(
  cluster: Cluster,
  { users, responses, lifespanSeconds }: typeof CONTROL,
  random: Random,
  onProgress: (done: number) => void,
): Promise<Mix> {
  const provider = cluster.provider as ProviderStub;
  provider.settings.latencyMs = 0;
  provider.settings.accessTokenLifespanSeconds = lifespanSeconds;
  const sessions = await cluster.sessions(users, 'person', { parallel: 8 });
  provider.resetCounts();
  provider.settings.latencyMs = 40;
  const mix = { responses: 0, served: 0, another: 0, aborted: 0 };
  const others: Counts = {};
  // The same session several times in a row, so that its refresh meets a crowd.
  let [busy, left] = [0, 0];
  const worker = async (): Promise<void> => {
    while (mix.responses < responses) {
      if (left-- <= 0) [busy, left] = [random.below(users), 1 + random.below(30)];
      const session = sessions[busy] as ClusterSession;
      const path = random.pick(PATHS);
      const abort = random.chance(ABORTS) ? new AbortController() : undefined;
      const timer = abort && setTimeout(() => abort.abort(), random.below(30));
      // Now and then an answer of the provider is lost on the way to us before anything was done.
      if (random.chance(0.002)) provider.answerNext({ drop: true });
      try {
        const { status, code, headers, text } = await cluster.ask(random.below(GATEWAYS), path, {
          cookie: session.cookie,
          ...(abort ? { signal: abort.signal } : {}),
        });
        mix.responses++;
        const what = code ?? String(status);
        if (status === 200) mix.served++;
        else others[what] = (others[what] ?? 0) + 1;
        if (status === 200 && subjectOf(path, headers, text) !== session.subject) mix.another++;
      } catch (error) {
        if (!abort?.signal.aborted) throw error;
        mix.aborted++;
      } finally {
        clearTimeout(timer);
      }
      onProgress(mix.responses);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  provider.answerAlways(null);
  return {
    ...mix,
    refreshes: provider.counts.refresh,
    invalidGrants: provider.counts.invalidGrants,
    others,
  };
}

/** Whom an answer is about: the upstream tells the token's subject, the gateway the session's. */
function subjectOf(path: string, headers: Record<string, unknown>, text: string): unknown {
  if (path === '/auth/verify') return headers['x-auth-subject'];
  const body = JSON.parse(text) as { claims?: { sub?: string }; user?: { sub?: string } };
  return path === '/auth/session' ? body.user?.sub : body.claims?.sub;
}
