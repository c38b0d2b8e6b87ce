import { type Cluster, startCluster, whyMissing } from '@session-gateway/testkit';
import { earlierBuild, FIRST_VERSION } from '../harness/earlierBuild.js';
import { runGoal } from '../harness/goal.js';
import { compare, type Load } from './bench/load.js';

/** What each path may lose at most against the first version, requests for requests. */
const AT_LEAST = { verify: 0.95, proxied: 0.95, session: 0.95 } as const;
const PATHS = { verify: '/auth/verify', proxied: '/api/x', session: '/auth/session' } as const;
type What = keyof typeof PATHS;

/** What a new version costs: the first version and today's, side by side, in turns, with the same load. */
await runGoal('compared-with-first', async ({ full, progress }) => {
  const missing = whyMissing(['redis']);
  if (missing.length > 0) return { passed: false, missing };
  const entry = await earlierBuild(FIRST_VERSION);
  if (entry === null) return { passed: true, skipped: `no commit ${FIRST_VERSION} in this clone` };
  const [rounds, seconds] = full ? [11, 6] : [5, 3];
  const clusters: Cluster[] = [];
  try {
    const loads = async (options: { entry?: string }): Promise<Record<What, Load>> => {
      const cluster = await startCluster({
        ...options,
        start: false,
        provider: { accessTokenLifespanSeconds: 3_600 },
      });
      clusters.push(cluster);
      // The first version knows no fields of routes but its own.
      await cluster.startGateway({
        GATEWAY_ROUTES: JSON.stringify([{ path: '/api', upstream: cluster.upstream.url }]),
      });
      const { cookie } = await cluster.session();
      const port = Number(new URL(cluster.url).port);
      const to = (path: string): Load => ({
        port,
        path,
        headers: { cookie, 'sec-fetch-site': 'same-origin' },
        connections: 32,
        seconds,
      });
      return { verify: to(PATHS.verify), proxied: to(PATHS.proxied), session: to(PATHS.session) };
    };
    const [first, today] = [await loads({ entry }), await loads({})];
    const ratios: Record<string, number> = {};
    const figures: Record<string, unknown> = {};
    for (const what of Object.keys(PATHS) as What[]) {
      const by = await compare(
        { first: first[what], today: today[what] },
        rounds,
        (round, name, { perSecond }) =>
          progress(() => `${what}, round ${round + 1} of ${rounds}, ${name}: ${perSecond}/s`),
      );
      ratios[what] = Math.round((by.today.perSecond / by.first.perSecond) * 1000) / 1000;
      figures[what] = by;
    }
    return {
      passed: (Object.keys(AT_LEAST) as What[]).every(
        (what) => (ratios[what] ?? 0) >= AT_LEAST[what],
      ),
      ratios,
      atLeast: AT_LEAST,
      ...figures,
      rounds,
      seconds,
    };
  } finally {
    await Promise.all(clusters.map((cluster) => cluster.dispose()));
  }
});
