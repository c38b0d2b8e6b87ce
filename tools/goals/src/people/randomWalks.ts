import { type HttpBrowser, startCluster } from '@session-gateway/testkit';
import { type Outcome, type Run, runGoal } from '../harness/goal.js';
import { type Random, randomOf } from '../harness/random.js';
import { variant } from '../harness/variants.js';
import type { ModelBrowser } from './modelBrowser.js';
import { type Fault, type Walk, walk, type World } from './walk.js';

/** The known-bad variant must be caught within so many. */
const CONTROL_WALKS = 20;
const PARALLEL = 6;

/**
 * D1: whatever a person does with tabs, Back, bookmarks and time, they end on content, the login, or a page with a way
 * on. Negative control: a gateway that shows programs' answers to people, and refuses a callback whose login is gone.
 */
void runGoal('D1', async ({ full, random, progress }: Run): Promise<Outcome> => {
  const seeds = (count: number): number[] =>
    Array.from({ length: count }, () => random.below(2 ** 32));
  const right = await inWorld(undefined, (world) =>
    walks(world, seeds(full ? 1_000 : 100), progress),
  );
  const wrong = await inWorld(await variant('problemsForPeople'), (world) =>
    walks(world, seeds(CONTROL_WALKS), progress),
  );
  const faults = right.flatMap((one) => one.faults);
  const caught = wrong.filter((one) => one.faults.length > 0).length;
  const logins = right.reduce((sum, one) => sum + one.logins, 0);
  return {
    passed: faults.length === 0 && caught > 0 && logins > right.length,
    walks: right.length,
    steps: right.reduce((sum, one) => sum + one.steps.length, 0),
    logins,
    faults: countsOf(faults),
    first: right.find((one) => one.faults.length > 0) ?? null,
    control: { walks: wrong.length, caught },
  };
});

function countsOf(faults: readonly Fault[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { what } of faults) counts[what] = (counts[what] ?? 0) + 1;
  return counts;
}

async function walks(
  world: World,
  seeds: readonly number[],
  progress: Run['progress'],
): Promise<Walk[]> {
  const done: Walk[] = [];
  const waiting: Random[] = seeds.map(randomOf);
  const lane = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      done.push(await walk(world, next));
      progress(() => `${done.length} of ${seeds.length} walks`);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, lane));
  return done;
}

/** A gateway, a provider that grants at once, and an administrator who ends sessions. */
async function inWorld<Result>(
  entry: string | undefined,
  use: (world: World) => Promise<Result>,
): Promise<Result> {
  const cluster = await startCluster({
    redis: false,
    start: false,
    ...(entry === undefined ? {} : { entry }),
  });
  try {
    await cluster.startGateway({
      RATE_LIMIT_LOGIN: '0',
      RATE_LIMIT_CALLBACK: '0',
      SESSION_MAX_PER_USER: '0',
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/api/admin', upstream: cluster.upstream.url, protect: 'realm:admin' },
        { path: '/api', upstream: cluster.upstream.url },
        { path: '/gone', upstream: 'http://127.0.0.1:9', auth: 'none' },
      ]),
    });
    const admin = await cluster.login('admin');
    const { provider } = cluster;
    if (provider === null) throw new Error('the walks need the provider stub');
    provider.chooseUser('demo');
    return await use(worldOf(cluster.url, provider.issuer, admin));
  } finally {
    await cluster.dispose();
  }
}

function worldOf(gateway: string, issuer: string, admin: HttpBrowser): World {
  return {
    gateway,
    issuer,
    async endElsewhere({ http }: ModelBrowser) {
      const answer = await http.get(`${gateway}/auth/session?extend=false`);
      if (answer.status !== 200) return;
      const { session } = answer.json() as { session: { id: string } };
      await admin.delete(`${gateway}/admin/sessions/${session.id}`);
    },
  };
}
