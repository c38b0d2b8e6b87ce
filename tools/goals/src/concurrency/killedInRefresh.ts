import { setTimeout as delay } from 'node:timers/promises';
import {
  type Cluster,
  type ClusterSession,
  type ProviderStub,
  startCluster,
  until,
  whyMissing,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { variant } from '../harness/variants.js';

const SURVIVORS = 2;
const LEASE_MS = 8_000;
const LATENCY_MS = 1_000;
/**
 * In leases: the others go on within a second of its end, and the provider takes its time for each call. Where it refuses
 * the token its metadata are looked at before the session is ended, in case it goes by another issuer for a while.
 */
const slowest = (calls: number): number => (LEASE_MS + 1_000 + calls * LATENCY_MS) / LEASE_MS;
const CI = 5;
const FULL = 50;
/** Victims that run at the same time. */
const AT_ONCE = 5;
/** Where the holder of the lease is killed, and whether its refresh token is spent by then with nobody to tell. */
const POINTS = [
  ['lease taken', false],
  ['request sent', true],
  ['answer received', true],
  ['before commit', true],
  ['after commit', false],
] as const;

interface Killed {
  /** Answers of the others, and how long they took at most, in leases. */
  answers: Record<string, number>;
  slowest: number;
  refreshes: number;
  invalidGrants: number;
  /** Sessions that nobody refreshed at that moment and that do not work any more. */
  bystandersLost: number;
}

await runGoal('F3', async ({ full, progress }) => {
  const each = full ? FULL : CI;
  const cluster = await startCluster({
    gateways: SURVIVORS + AT_ONCE,
    redis: whyMissing(['redis']).length === 0,
    provider: { accessTokenLifespanSeconds: 1 },
    start: false,
  });
  try {
    for (let i = 0; i < SURVIVORS; i++) await cluster.startGateway();
    const entry = await variant('killedAt');
    const points: Record<string, Killed> = {};
    let passed = true;
    for (const [point, spent] of POINTS) {
      const killed = (points[point] = await killAt(cluster, entry, point, each, 0));
      progress(() => `${point}: ${JSON.stringify(killed)}`);
      passed &&= isExpected(killed, each, spent) && killed.slowest <= slowest(spent ? 2 : 1);
    }
    // Where the provider lets a token be used twice, not even that one session is lost.
    const forgiving = await killAt(cluster, entry, 'request sent', AT_ONCE, 1);
    // A lease that outlives its holder is what the others would wait for.
    const forever = await killAt(cluster, entry, 'lease for ever', 1, 0);
    const control = forever.answers['200'] === undefined;
    return {
      passed: passed && forgiving.answers['200'] === AT_ONCE && control,
      each,
      points,
      forgiving,
      control,
      controls: { 'lease for ever': forever },
    };
  } finally {
    await cluster.dispose();
  }
});

/** Whether everybody was answered as the point says, whatever it took. */
function isExpected(killed: Killed, each: number, spent: boolean): boolean {
  if (killed.bystandersLost > 0) return false;
  return spent
    ? killed.answers['401 reauthentication_required'] === each &&
        killed.refreshes === each * 2 &&
        killed.invalidGrants === each
    : killed.answers['200'] === each && killed.refreshes === each && killed.invalidGrants === 0;
}

async function killAt(
  cluster: Cluster,
  entry: string,
  point: string,
  times: number,
  reuse: number,
): Promise<Killed> {
  const provider = cluster.provider as ProviderStub;
  const sum: Killed = {
    answers: {},
    slowest: 0,
    refreshes: 0,
    invalidGrants: 0,
    bystandersLost: 0,
  };
  for (let done = 0; done < times; done += AT_ONCE) {
    const count = Math.min(AT_ONCE, times - done);
    const victims = Array.from({ length: count }, (_, i) => SURVIVORS + i);
    await Promise.all(
      victims.map((index) => cluster.restartGateway(index, { entry, env: { KILL_AT: point } })),
    );
    Object.assign(provider.settings, { accessTokenLifespanSeconds: 1, latencyMs: 0, reuse });
    const sessions = await Promise.all(victims.map((index) => cluster.session(`victim-${index}`)));
    const bystander = await cluster.session('bystander');
    await delay(1_200);
    Object.assign(provider.settings, { accessTokenLifespanSeconds: 600, latencyMs: LATENCY_MS });
    provider.resetCounts();

    const dying = sessions.map(({ cookie }, i) =>
      cluster.ask(SURVIVORS + i, '/api/x', { cookie }).catch(() => null),
    );
    if (point === 'request sent') {
      await until(() => provider.counts.refresh === count, {
        what: 'the requests under way',
        everyMs: 5,
      });
      for (const index of victims) cluster.gateways[index]?.signal('SIGKILL');
    }
    await Promise.all(victims.map(async (index) => cluster.gateways[index]?.exited));
    await Promise.all(dying);
    const began = performance.now();
    await Promise.all(
      sessions.map(async (session, i) => {
        const what = await within(LEASE_MS + 4_000, ask(cluster, i, session));
        sum.answers[what] = (sum.answers[what] ?? 0) + 1;
        sum.slowest = Math.max(
          sum.slowest,
          Math.round(((performance.now() - began) / LEASE_MS) * 100) / 100,
        );
      }),
    );
    sum.refreshes += provider.counts.refresh;
    sum.invalidGrants += provider.counts.invalidGrants;
    if ((await ask(cluster, 0, bystander)) !== '200') sum.bystandersLost++;
  }
  return sum;
}

async function ask(cluster: Cluster, gateway: number, { cookie }: ClusterSession): Promise<string> {
  const { status, code } = await cluster.ask(gateway % SURVIVORS, '/api/x', { cookie });
  return code === null ? String(status) : `${status} ${code}`;
}

function within(ms: number, answer: Promise<string>): Promise<string> {
  return Promise.race([answer, delay(ms, 'too late', { ref: false })]);
}
