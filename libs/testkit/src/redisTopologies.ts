import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startChild, until } from '@session-gateway/keycloak-server';
import { findProgram } from './findProgram.js';
import { startRedis, type TestRedis } from './redis.js';

const SLOTS = 16_384;

export interface TestRedisCluster {
  /** `redis+cluster://…` with every node. */
  readonly url: string;
  readonly nodes: readonly TestRedis[];
  dispose(): Promise<void>;
}

/** Three primaries without replicas, the slots divided among them. */
export async function startRedisCluster(): Promise<TestRedisCluster> {
  const nodes = await Promise.all(
    [0, 1, 2].map(async () =>
      startRedis({
        'cluster-enabled': 'yes',
        'cluster-port': String(await freePort()),
        'cluster-node-timeout': '2000',
        'cluster-require-full-coverage': 'no',
      }),
    ),
  );
  const share = Math.ceil(SLOTS / nodes.length);
  for (const [i, node] of nodes.entries()) {
    await node.command('CLUSTER', 'ADDSLOTSRANGE', i * share, Math.min(SLOTS, (i + 1) * share) - 1);
    await node.command('CONFIG', 'SET', 'cluster-announce-ip', '127.0.0.1');
    await node.command('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
  }
  const [first, ...others] = nodes;
  for (const node of others) {
    const busPort = String(await node.command('CONFIG', 'GET', 'cluster-port')).split(',')[1] ?? '';
    await first?.command('CLUSTER', 'MEET', '127.0.0.1', node.port, busPort);
  }
  const whole = async (node: TestRedis): Promise<boolean> => {
    const state = String(await node.command('CLUSTER', 'INFO'));
    return (
      /cluster_state:ok/.test(state) &&
      /cluster_known_nodes:3/.test(state) &&
      /cluster_slots_ok:16384/.test(state)
    );
  };
  await until(async () => (await Promise.all(nodes.map(whole))).every(Boolean), {
    timeoutMs: 30_000,
    what: 'the cluster being whole',
  });
  return {
    url: `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    nodes,
    dispose: async () => void (await Promise.all(nodes.map((node) => node.dispose()))),
  };
}

export interface TestRedisSentinel {
  /** `redis+sentinel://…/sessions`. */
  readonly url: string;
  readonly primary: TestRedis;
  readonly replica: TestRedis;
  dispose(): Promise<void>;
}

/** A primary, its replica, and one sentinel that makes the replica the primary when that is away for a second. */
export async function startRedisSentinel(): Promise<TestRedisSentinel> {
  const program = findProgram('redis-server');
  if (!program) throw new Error('no redis-server');
  const primary = await startRedis();
  const replica = await startRedis({ replicaof: `127.0.0.1 ${primary.port}` });
  const [folder, port] = [
    await mkdtemp(join(tmpdir(), 'session-gateway-sentinel-')),
    await freePort(),
  ];
  // A sentinel writes what it learns into its configuration.
  await writeFile(
    join(folder, 'sentinel.conf'),
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      `sentinel monitor sessions 127.0.0.1 ${primary.port} 1`,
      'sentinel down-after-milliseconds sessions 1000',
      'sentinel failover-timeout sessions 5000',
      '',
    ].join('\n'),
  );
  const sentinel = await startChild(program, [join(folder, 'sentinel.conf'), '--sentinel'], {
    cwd: folder,
    tempFolder: folder,
  });
  await until(
    async () => String(await primary.command('INFO', 'replication')).includes('state=online'),
    { what: 'the replica following' },
  );
  await until(() => sentinel.output().includes('+slave'), {
    timeoutMs: 30_000,
    what: 'the sentinel knowing the replica',
  });
  return {
    url: `redis+sentinel://127.0.0.1:${port}/sessions`,
    primary,
    replica,
    async dispose() {
      sentinel.signal('SIGKILL');
      await sentinel.exited;
      await Promise.all([
        primary.dispose(),
        replica.dispose(),
        rm(folder, { recursive: true, force: true }),
      ]);
    },
  };
}
