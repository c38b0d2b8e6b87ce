import {
  type Cluster,
  type Counts,
  startCluster,
  storm,
  type TestGateway,
} from '@session-gateway/testkit';
import { Agent, request } from 'undici';
import { runGoal } from '../harness/goal.js';
import { heldBy } from '../harness/process.js';
import type { Random } from '../harness/random.js';
import { variant } from '../harness/variants.js';

const MOST_MEGABYTES = 50;
const LIMITS = {
  RATE_LIMIT_LOGIN: '500',
  RATE_LIMIT_CALLBACK: '500',
  RATE_LIMIT_LOGOUT_TOKEN: '500',
};
const NO_LIMITS = { RATE_LIMIT_LOGIN: '0', RATE_LIMIT_CALLBACK: '0', RATE_LIMIT_LOGOUT_TOKEN: '0' };

interface Flood {
  logins: number;
  callbacks: number;
  logoutTokens: number;
}
interface Effect {
  answers: Record<keyof Flood, Counts>;
  rows: number;
  keys: number;
  megabytes: number;
}

await runGoal('B8', async ({ full, random, progress }) => {
  const size = (share: number): Flood => ({
    logins: 100_000 * share,
    callbacks: 100_000 * share,
    logoutTokens: 50_000 * share,
  });
  const cluster = await startCluster({ start: false });
  try {
    const open = await cluster.startGateway(NO_LIMITS);
    const limited = await cluster.startGateway({ ...LIMITS, PUBLIC_URL: open.url });
    const session = await cluster.session('demo');
    const flooded = await flood(cluster, open, size(full ? 1 : 0.05), random, progress);
    const held = await flood(cluster, limited, size(full ? 0.05 : 0.02), random, progress);
    const stillThere = (await cluster.ask(0, '/auth/session', { cookie: session.cookie })).status;
    const bad = await cluster.restartGateway(0, {
      entry: await variant('serverSideLogins'),
      env: NO_LIMITS,
    });
    const control = await flood(cluster, bad, size(0.05), random, progress);

    const { logins, callbacks, logoutTokens } = size(full ? 1 : 0.05);
    const answered =
      flooded.answers.logins['302'] === logins &&
      flooded.answers.callbacks['303'] === callbacks &&
      flooded.answers.logoutTokens['400'] === logoutTokens;
    const refused = Object.values(held.answers).every(
      (counts) =>
        (counts['429'] ?? 0) > 0 &&
        Object.keys(counts).every((status) => ['302', '303', '400', '429'].includes(status)),
    );
    const clean = ({ rows, keys, megabytes }: Effect, mostKeys: number): boolean =>
      rows === 0 && keys <= mostKeys && megabytes <= MOST_MEGABYTES;
    // One counter for each of three limits and one address is all that a limit may keep.
    const passed =
      answered &&
      refused &&
      clean(flooded, 0) &&
      clean(held, 3) &&
      stillThere === 200 &&
      !clean(control, 0);
    return {
      passed,
      unlimited: flooded,
      limited: held,
      sessionAlive: stillThere === 200,
      control: {
        'logins kept on the server': { rows: control.rows, megabytes: control.megabytes },
      },
    };
  } finally {
    await cluster.dispose();
  }
});

async function flood(
  cluster: Cluster,
  gateway: TestGateway,
  size: Flood,
  random: Random,
  progress: (line: () => string) => void,
): Promise<Effect> {
  const agent = new Agent({ connections: 32, keepAliveTimeout: 1_000 });
  let sent = 0;
  const hit = async (path: string, body?: string): Promise<number> => {
    const answer = await request(gateway.url + path, {
      dispatcher: agent,
      method: body === undefined ? 'GET' : 'POST',
      ...(body === undefined
        ? {}
        : { body, headers: { 'content-type': 'application/x-www-form-urlencoded' } }),
    });
    await answer.body.dump();
    sent++;
    progress(() => `${sent} requests, ${Math.round(heldBy(gateway.pid).megabytes)} MB`);
    return answer.statusCode;
  };
  const word = (): string => random.bytes(24).toString('base64url');
  const kinds: Record<keyof Flood, () => Promise<number>> = {
    logins: () => hit(`/auth/login?return_to=${encodeURIComponent(`/a/${word()}`)}`),
    callbacks: () => hit(`/auth/callback?code=${word()}&state=${word()}`),
    logoutTokens: () =>
      hit('/auth/backchannel-logout', `logout_token=${word()}.${word()}.${word()}`),
  };
  try {
    // A process that has seen each kind of request has grown to what it needs.
    for (const kind of Object.values(kinds)) await storm(300, kind, { parallel: 32 });
    const before = await stored(cluster);
    const { megabytes } = heldBy(gateway.pid);
    const answers = { logins: {}, callbacks: {}, logoutTokens: {} } as Effect['answers'];
    for (const kind of Object.keys(kinds) as (keyof Flood)[])
      answers[kind] = await storm(size[kind], kinds[kind], { parallel: 32 });
    const after = await stored(cluster);
    return {
      answers,
      rows: after.rows - before.rows,
      keys: after.keys - before.keys,
      megabytes: Math.round(heldBy(gateway.pid).megabytes - megabytes),
    };
  } finally {
    await agent.destroy();
  }
}

/** Rows of all tables, without what instances tell of themselves, and keys in Redis. */
async function stored({ sql, redis }: Cluster): Promise<{ rows: number; keys: number }> {
  const tables = await sql<{ name: string }>(
    `SELECT quote_ident(table_name) AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`,
  );
  let rows = 0;
  for (const { name } of tables)
    rows += Number((await sql<{ n: string }>(`SELECT count(*) AS n FROM ${name}`))[0]?.n);
  return { rows, keys: (await redis?.scan())?.length ?? 0 };
}
