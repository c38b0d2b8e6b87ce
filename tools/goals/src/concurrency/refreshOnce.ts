import {
  type Cluster,
  type ClusterSession,
  type Counts,
  startCluster,
  storm,
  until,
  whyMissing,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { variant } from '../harness/variants.js';

const GATEWAYS = 4;
const REQUESTS = 200;
const CI = { stub: 50, keycloak: 5 };
const FULL = { stub: 500, keycloak: 100 };
const CONTROL_ROUNDS = 3;
const KEYCLOAK_LIFESPAN_SECONDS = 4;

interface Rounds {
  rounds: number;
  refreshes: number;
  invalidGrants: number;
  statuses: Counts;
}

const single = ({ rounds, refreshes, invalidGrants, statuses }: Rounds): boolean =>
  refreshes === rounds &&
  invalidGrants === 0 &&
  statuses['200'] === rounds * REQUESTS &&
  Object.keys(statuses).length === 1;

await runGoal('F1', async ({ random, full, progress }) => {
  const size = full ? FULL : CI;
  // Most providers answer at once, some take almost as long as a call may.
  const latency = (): number =>
    full || random.chance(0.1) ? random.below(4_500) : random.below(150);

  const cluster = await startCluster({
    gateways: GATEWAYS,
    redis: whyMissing(['redis']).length === 0,
    provider: { accessTokenLifespanSeconds: 1 },
  });
  let stub: Rounds;
  const controls: Record<string, Rounds> = {};
  try {
    stub = await withStub(cluster, size.stub, latency, (done) =>
      progress(() => `stub: ${done} of ${size.stub} rounds`),
    );
    for (const name of cluster.redis ? ['withoutLease', 'redisLock'] : ['withoutLease']) {
      await cluster.restartAll({ entry: await variant(name) });
      controls[name] = await withStub(
        cluster,
        CONTROL_ROUNDS,
        () => 1_000,
        (done) => progress(() => `${name}: ${done} rounds`),
      );
    }
  } finally {
    await cluster.dispose();
  }

  const missing = whyMissing(['keycloak']);
  const keycloak =
    missing.length > 0
      ? null
      : await withKeycloak(size.keycloak, (done) =>
          progress(() => `Keycloak: ${done} of ${size.keycloak} rounds`),
        );
  const caught = Object.values(controls).every(
    (rounds) => !single(rounds) && rounds.invalidGrants > 0,
  );
  return {
    passed:
      single(stub) &&
      caught &&
      (keycloak === null ? process.env['REQUIRE_SERVICES'] !== '1' : single(keycloak)),
    stub,
    keycloak: keycloak ?? missing,
    control: caught,
    controls,
  };
});

/** Each round: a session whose access token has expired, and requests for it at all gateways at once. */
async function withStub(
  cluster: Cluster,
  rounds: number,
  latency: () => number,
  onRound: (done: number) => void,
): Promise<Rounds> {
  const provider = cluster.provider as NonNullable<Cluster['provider']>;
  Object.assign(provider.settings, { latencyMs: 0, accessTokenLifespanSeconds: 1 });
  const sessions = await cluster.sessions(rounds, 'user');
  await expiry(1);
  // What is refreshed from now on lasts.
  provider.settings.accessTokenLifespanSeconds = 600;
  provider.resetCounts();
  const statuses: Counts = {};
  for (const [i, session] of sessions.entries()) {
    provider.settings.latencyMs = latency();
    add(statuses, await stormOn(cluster, session));
    onRound(i + 1);
  }
  return {
    rounds,
    refreshes: provider.counts.refresh,
    invalidGrants: provider.counts.invalidGrants,
    statuses,
  };
}

async function withKeycloak(rounds: number, onRound: (done: number) => void): Promise<Rounds> {
  const cluster = await startCluster({
    gateways: GATEWAYS,
    redis: whyMissing(['redis']).length === 0,
    keycloak: { accessTokenLifespanSeconds: KEYCLOAK_LIFESPAN_SECONDS },
  });
  try {
    const keycloak = cluster.keycloak as NonNullable<Cluster['keycloak']>;
    const session = await cluster.session('alice');
    await keycloak.clearEvents();
    const statuses: Counts = {};
    for (let round = 1; round <= rounds; round++) {
      await expiry(KEYCLOAK_LIFESPAN_SECONDS);
      add(statuses, await stormOn(cluster, session));
      onRound(round);
    }
    return {
      rounds,
      statuses,
      refreshes: (await keycloak.events({ type: 'REFRESH_TOKEN' })).length,
      invalidGrants: (await keycloak.events({ type: 'REFRESH_TOKEN_ERROR' })).length,
    };
  } finally {
    await cluster.dispose();
  }
}

function stormOn(cluster: Cluster, { cookie }: ClusterSession): Promise<Counts> {
  return storm(REQUESTS, async (i) => {
    const { status, code } = await cluster.ask(i, '/api/storm', { cookie });
    return code ?? status;
  });
}

function add(sum: Counts, counts: Counts): void {
  for (const [outcome, count] of Object.entries(counts)) sum[outcome] = (sum[outcome] ?? 0) + count;
}

async function expiry(seconds: number): Promise<void> {
  const at = Date.now() + (seconds + 0.3) * 1000;
  await until(() => Date.now() > at, {
    what: 'the end of the access tokens',
    timeoutMs: (seconds + 10) * 1000,
  });
}
