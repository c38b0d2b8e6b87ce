import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { startCluster } from '@session-gateway/testkit';
import { compare } from './bench/load.js';
import { runGoal } from '../harness/goal.js';

const RATIO = 0.4;
const ADDED_P50_MS = 0.5;
const BODY = JSON.stringify({ answer: 'x'.repeat(500) });

await runGoal('P2', async ({ full, progress }) => {
  const [rounds, seconds] = full ? [7, 8] : [3, 3];
  const cluster = await startCluster({ start: false });
  // In this process, which does nothing else meanwhile.
  const upstream = createServer((_, response) =>
    response
      .writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': String(BODY.length) })
      .end(BODY),
  ).listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const upstreamUrl = `http://127.0.0.1:${(upstream.address() as { port: number }).port}`;
  const bare = fork(fileURLToPath(new URL('bench/bareProxy.mjs', import.meta.url)), [], {
    execArgv: [],
    env: { ...process.env, BARE_UPSTREAM: upstreamUrl, BARE_TOKEN: 'x'.repeat(1_200) },
  });
  try {
    const [[barePort]] = [(await once(bare, 'message')) as [number]];
    await cluster.startGateway({
      GATEWAY_ROUTES: JSON.stringify([{ path: '/api', upstream: upstreamUrl }]),
    });
    const { cookie } = await cluster.session();
    const to = (port: number, connections: number) => ({
      port,
      path: '/api/x',
      headers: { cookie },
      connections,
      seconds,
    });
    const ours = Number(new URL(cluster.url).port);
    const log = (
      round: number,
      name: string,
      { perSecond, p50Ms }: { perSecond: number; p50Ms: number },
    ): void =>
      progress(() => `round ${round + 1} of ${rounds}, ${name}: ${perSecond}/s, p50 ${p50Ms} ms`);
    const many = await compare({ gateway: to(ours, 32), bare: to(barePort, 32) }, rounds, log);
    const one = await compare({ gateway: to(ours, 1), bare: to(barePort, 1) }, rounds, log);
    const ratio = Math.round((many.gateway.perSecond / many.bare.perSecond) * 1000) / 1000;
    const addedP50Ms = Math.round((one.gateway.p50Ms - one.bare.p50Ms) * 1000) / 1000;
    const clean = [many, one].every((by) => by.gateway.others === 0 && by.bare.others === 0);
    return {
      passed: clean && ratio >= RATIO && addedP50Ms <= ADDED_P50_MS,
      ratio,
      limit: RATIO,
      addedP50Ms,
      addedLimitMs: ADDED_P50_MS,
      at32Connections: many,
      at1Connection: one,
      rounds,
      seconds,
    };
  } finally {
    bare.kill();
    upstream.closeAllConnections();
    upstream.close();
    await cluster.dispose();
  }
});
