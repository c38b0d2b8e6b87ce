import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import {
  type Cluster,
  freePort,
  startCluster,
  type TestGateway,
  until,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';

const CASES = 20_000;
const FULL_CASES = 1_000_000;
const CONTROL_CASES = 300;
const PARALLEL = 64;
/** A case that has no whole answer and is still open then has been forgotten: every wait behind it is shorter. */
const FORGOTTEN_MS = 20_000;
const MAX_GROWTH_BYTES = 400_000_000;
const BRIEF_MS = 2_000;

/** What the upstream does, by the last word of the path. */
const BEHAVIOUR: Readonly<Record<string, (socket: Socket) => void>> = {
  ok: (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  later: (socket) =>
    void setTimeout(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'), 20),
  stream: (socket) =>
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'),
  reset: (socket) => socket.resetAndDestroy(),
  end: (socket) => socket.end(),
  garbage: (socket) => socket.end('\0\x01\r\n\r\n'),
  half: (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-'),
  badfield: (socket) => socket.write('HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 0\r\n\r\n'),
  refuses: (socket) => socket.write('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno'),
  switch: (socket) =>
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    ),
  large: (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n');
    socket.write(Buffer.alloc(16_000_000, 'x'));
  },
};

async function startUpstream(): Promise<{ server: Server; url: string }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined).once('close', () => sockets.delete(socket)));
    socket.on('data', (piece) => {
      const word = /^[A-Z]+ \/[\w/]*?(\w+) HTTP/.exec(piece.toString('latin1'))?.[1] ?? '';
      BEHAVIOUR[word]?.(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { server, url: `http://127.0.0.1:${port}` };
}

const head = (method: string, path: string, fields = ''): string =>
  `${method} ${path} HTTP/1.1\r\nHost: g\r\n${fields}\r\n`;
const words = Object.keys(BEHAVIOUR).filter((word) => word !== 'large' && word !== 'switch');

function plainRequest(random: Random, cookie: string): string {
  const path = random.pick([
    '/health/live',
    '/health/ready',
    '/auth/session',
    '/auth/verify',
    '/auth/verify?extend=false',
    '/account',
    '/nowhere',
    '/down/x',
    '/open/../x',
    `/open/${random.pick(words)}`,
    `/api/${random.pick(words)}`,
  ]);
  const fields =
    (random.chance(0.3) ? `Cookie: ${cookie}\r\n` : '') +
    (random.chance(0.02) ? 'X: y\r\n'.repeat(150 + random.below(2_000)) : '');
  if (random.chance(0.6)) return head('GET', path, fields);
  const body = 'x'.repeat(random.pick([0, 1, 100, 70_000]));
  const method = random.pick(['POST', 'PUT', 'PATCH', 'DELETE', 'GET']);
  return head(method, path, `${fields}X-CSRF: 1\r\nContent-Length: ${body.length}\r\n`) + body;
}

function upgradeRequest(random: Random, cookie: string, origin: string): string {
  const path = random.pick([
    `/open/${random.pick([...words, 'switch'])}`,
    `/api/${random.pick([...words, 'switch'])}`,
    '/open/../x',
    '/health/live',
    '/auth/session',
    '/down/x',
  ]);
  const body = random.chance(0.3) ? 'abc' : '';
  const fields = [
    `Connection: ${random.pick(['Upgrade', 'keep-alive, Upgrade', 'Upgrade, HTTP2-Settings'])}`,
    `Upgrade: ${random.pick(['websocket', 'WebSocket', 'h2c', 'TLS/1.0', 'websocket, h2c'])}`,
    ...(random.chance(0.7) ? [`Origin: ${origin}`] : []),
    ...(random.chance(0.5) ? [`Cookie: ${cookie}`] : []),
    ...(body === '' ? [] : ['Content-Length: 3']),
    ...(random.chance(0.05) ? ['X: y\r\n'.repeat(300).trimEnd()] : []),
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ];
  const method = random.pick(['GET', 'GET', 'GET', 'POST', 'CONNECT', 'PATCH']);
  // Bytes that never come keep their case waiting for a bound.
  return head(method, path, `${fields.join('\r\n')}\r\n`) + (random.chance(0.01) ? '' : body);
}

/** Some requests, an upgrade, and perhaps something behind it, in one go or torn apart. */
function pipeline(random: Random, cookie: string, origin: string): string[] {
  const parts = Array.from({ length: random.below(4) }, () => plainRequest(random, cookie));
  parts.push(upgradeRequest(random, cookie, origin));
  if (random.chance(0.3)) parts.push(plainRequest(random, cookie));
  if (random.chance(0.05)) parts.push('nonsense\r\n\r\n');
  const bytes = parts.join('');
  if (random.chance(0.7)) return [bytes];
  const at = random.below(bytes.length);
  return [bytes.slice(0, at), bytes.slice(at)];
}

type Outcome = 'answered' | 'closed' | 'forgotten';

/**
 * Ends when the last request asked for has its status line, the gateway closes the connection,
 * or nothing comes any more.
 */
function send(port: number, pieces: readonly string[], forgottenMs: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    let text = '';
    const wanted = pieces.join('').match(/HTTP\/1\.1\r\n/g)?.length ?? 1;
    const end = (outcome: Outcome): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => end('forgotten'), forgottenMs);
    socket.on('data', (piece) => {
      text += piece.toString('latin1');
      const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status);
      if (statuses.length >= wanted || statuses.includes('101')) end('answered');
    });
    socket.once('close', () => end('closed'));
    pieces.forEach((piece, i) => void setTimeout(() => socket.write(piece, 'latin1'), i * 2));
  });
}

const metric = async (gateway: TestGateway, name: string): Promise<number> => {
  const text = await (await fetch(`${gateway.managementUrl}/metrics`)).text();
  return Number(new RegExp(`^session_gateway_${name}_total (\\d+)`, 'm').exec(text)?.[1] ?? 0);
};
const residentBytes = async (gateway: TestGateway): Promise<number> =>
  Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${gateway.pid}/status`, 'utf8'))?.[1]) * 1_024;
const isLive = async (gateway: TestGateway): Promise<boolean> =>
  (await fetch(`${gateway.url}/health/live`)).ok;

/** Connections that say little or read nothing; resolves with how many the gateway has not ended within a minute. */
function startQuiet(gateway: TestGateway): () => Promise<number> {
  const starts = [
    '',
    'GET / HTTP/1.1\r\nX: ',
    head('POST', '/auth/backchannel-logout', 'Content-Length: 1000\r\n'),
    head('POST', '/down/x', 'Content-Length: 1000\r\n'),
    head('GET', '/open/large'),
  ];
  const open = new Set<Socket>();
  for (const [i, start] of starts.flatMap((text) => Array<string>(10).fill(text)).entries()) {
    const socket = connect(gateway.port, '127.0.0.1').on('error', () => undefined);
    open.add(socket);
    const drip = setInterval(() => i % 2 === 0 && start.includes('X') && socket.write('x'), 3_000);
    socket.once('close', () => {
      clearInterval(drip);
      open.delete(socket);
    });
    if (start !== head('GET', '/open/large')) socket.resume();
    socket.write(start);
  }
  return async () => {
    for (const socket of open) socket.resume();
    await until(() => open.size === 0, { what: 'quiet ones', timeoutMs: 60_000 }).catch(() => null);
    const left = open.size;
    for (const socket of open) socket.destroy();
    return left;
  };
}

/** How long other people's requests take, one after the other, until stopped. */
function startOthers(cluster: Cluster, cookie: string): () => Promise<number> {
  const times: number[] = [];
  let going = true;
  const work = (async () => {
    while (going) {
      const began = performance.now();
      const { status } = await cluster.ask(0, '/auth/verify', { cookie });
      if (status !== 200) throw new Error(`another person's request was answered with ${status}`);
      times.push(performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return async () => {
    going = false;
    await work;
    return times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
  };
}

await runGoal('B9', async ({ random, full, progress }) => {
  const upstream = await startUpstream();
  const route = { upstream: upstream.url, websocket: true, timeoutMs: BRIEF_MS };
  const cluster = await startCluster({
    redis: false,
    gateways: 3,
    start: false,
    env: {
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/open', ...route, auth: 'none' },
        { path: '/api', ...route },
        { path: '/down', ...route, upstream: `http://127.0.0.1:${await freePort()}`, auth: 'none' },
      ]),
    },
  });
  const run = async (gateway: TestGateway, cookie: string, cases: number, forgottenMs: number) => {
    const counts = { cases: 0, answered: 0, closed: 0, forgotten: 0 };
    let left = cases;
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        counts[await send(gateway.port, pipeline(random, cookie, cluster.url), forgottenMs)]++;
        counts.cases++;
        progress(() => `${counts.cases} of ${cases}, ${counts.forgotten} forgotten`);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    return counts;
  };
  try {
    const gateway = await cluster.startGateway();
    const disk = openSync('/dev/full', 'w');
    const logless = await cluster.startGateway({ LOG_LEVEL: 'debug' }, true, { stdout: disk });
    closeSync(disk);
    const { cookie } = await cluster.session('demo');
    const alone = startOthers(cluster, cookie);
    await run(logless, cookie, CONTROL_CASES, FORGOTTEN_MS);
    const quietP99 = await alone();
    const before = await residentBytes(gateway);
    const quiet = startQuiet(gateway);
    const others = startOthers(cluster, cookie);
    const counts = await run(gateway, cookie, full ? FULL_CASES : CASES, FORGOTTEN_MS);
    const p99Ratio = (await others()) / quietP99;
    const quietLeft = await quiet();
    const growth = (await residentBytes(gateway)) - before;
    const result = {
      ...counts,
      quietLeft,
      unexpectedErrors: await metric(gateway, 'unexpected_errors'),
      linesDropped: await metric(logless, 'log_lines_dropped'),
      live: (await isLive(gateway)) && (await isLive(logless)),
      growthMb: Math.round(growth / 1e6),
      p99Ratio: Number(p99Ratio.toFixed(2)),
    };
    const flawed = await cluster.startGateway({}, true, {
      entry: 'tools/goals/src/variants/upgradesOutOfTurn.ts',
    });
    const control = await run(flawed, cookie, CONTROL_CASES, 3_000);
    return {
      passed:
        result.live &&
        result.forgotten === 0 &&
        result.quietLeft === 0 &&
        result.unexpectedErrors === 0 &&
        result.linesDropped > 0 &&
        growth < MAX_GROWTH_BYTES &&
        (!full || p99Ratio <= 3) &&
        control.forgotten > 0,
      ...result,
      control,
    };
  } finally {
    await cluster.dispose();
    upstream.server.close();
  }
});
