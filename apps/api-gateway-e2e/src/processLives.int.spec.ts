import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, type TestGateway, until } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

const LONG_MS = 300_000;

/** What an upstream on a bare socket does with a request, by the last word of its path. */
const BEHAVIOUR: Record<string, (socket: Socket) => void> = {
  ok: (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  slowly: (socket) =>
    void setTimeout(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nslowly'), 300),
  never: () => undefined,
  reset: (socket) => socket.resetAndDestroy(),
  end: (socket) => socket.end(),
  garbage: (socket) => socket.end('what is this\r\n\r\n'),
  half: (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-'),
  badfield: (socket) =>
    socket.write('HTTP/1.1 200 OK\r\nX-A: \u0001\r\nContent-Length: 2\r\n\r\nok'),
  refuses: (socket) => socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno'),
  large: (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 16000000\r\n\r\n');
    socket.write(Buffer.alloc(16_000_000, 'x'));
  },
  switch: (socket) =>
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    ),
};
/** Reads no more than the head, so that the fault meets a body under way. */
const STOPS_READING = new Set(['never']);

let stack: Stack;
let upstream: Server;
const upstreamSockets = new Set<Socket>();
const heads = new Map<string, string>();
let gateway: TestGateway;

beforeAll(async () => {
  upstream = createServer((socket) => {
    upstreamSockets.add(
      socket.on('error', () => undefined).once('close', () => upstreamSockets.delete(socket)),
    );
    socket.on('data', (piece) => {
      const text = piece.toString('latin1');
      const name = /^[A-Z]+ \/[\w/]*?(\w+) HTTP/.exec(text)?.[1] ?? '';
      if (STOPS_READING.has(name)) socket.pause();
      if (name !== '') heads.set(name, text.slice(0, text.indexOf('\r\n\r\n')));
      BEHAVIOUR[name]?.(socket);
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(upstream.address() as { port: number }).port}`;
  const route = { upstream: address, auth: 'none', websocket: true };
  stack = await startStack({
    redis: false,
    env: {
      LOG_LEVEL: 'debug',
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/open', ...route, timeoutMs: LONG_MS },
        { path: '/brief', ...route, timeoutMs: 1_000 },
        { path: '/down', ...route, upstream: `http://127.0.0.1:${await freePort()}` },
      ]),
    },
  });
  gateway = stack.gateways[0]!;
});
afterAll(async () => {
  for (const socket of upstreamSockets) socket.destroy();
  upstream.close();
  await stack.dispose();
});

function client(text: string | Buffer, to = gateway.port): Socket {
  const socket = connect(to, '127.0.0.1').on('error', () => undefined);
  socket.write(text);
  return socket;
}
/** What comes back until the connection ends or enough of it is there. */
function exchange(
  text: string | Buffer,
  {
    enough = () => false,
    to = gateway.port,
  }: { enough?: (answer: string) => boolean; to?: number } = {},
): Promise<string> {
  const socket = client(text, to);
  let answer = '';
  return new Promise((resolve) => {
    socket.once('close', () => resolve(answer));
    socket.on('data', (piece) => {
      answer += piece.toString('latin1');
      if (enough(answer)) socket.destroy();
    });
  });
}
const statusesOf = (answer: string): number[] =>
  [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));
const codeOf = (answer: string): string => /"code":"(\w+)"/.exec(answer)?.[1] ?? '';
const head = (method: string, path: string, fields = ''): string =>
  `${method} ${path} HTTP/1.1\r\nHost: g\r\n${fields}\r\n`;
const upgrade = (path: string, protocol = 'websocket', fields = ''): string =>
  head(
    'GET',
    path,
    `Connection: Upgrade\r\nUpgrade: ${protocol}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${fields}`,
  );
const ownOrigin = (): string => `Origin: ${stack.url}\r\n`;
const metric = async (name: string, of = gateway): Promise<number> => {
  const text = await (await fetch(`${of.managementUrl}/metrics`)).text();
  return Number(new RegExp(`^${name.replace(/[{}"]/g, '\\$&')} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
};
const isLive = async (of = gateway): Promise<boolean> =>
  (await fetch(`${of.url}/health/live`)).status === 200;

/**
 * Clients that say nothing, or little, or slowly, from the beginning of the suite on: they end while others are at work.
 * When each was let go, in milliseconds.
 */
const quiet: Record<string, Promise<number>> = {};
let stopping: Promise<number | null>;
beforeAll(async () => {
  const began = performance.now();
  const closed = (socket: Socket): Promise<number> =>
    new Promise(
      (resolve) =>
        void socket
          .on('data', () => undefined)
          .once('close', () => resolve(performance.now() - began)),
    );
  const dripping = (first: string, byte: string): Promise<number> => {
    const socket = client(first);
    const drip = setInterval(() => socket.write(byte), 2_000);
    return closed(socket).finally(() => clearInterval(drip));
  };
  quiet['silent'] = closed(client(''));
  quiet['half a head'] = closed(client('GET / HTTP/1.1\r\nHost:'));
  quiet['a head, byte for byte'] = dripping('GET / HTTP/1.1\r\nX: ', 'x');
  quiet['empty lines'] = dripping('\r\n', '\r\n');
  quiet['a second head, byte for byte'] = dripping(`${head('GET', '/health/live')}GET /`, 'x');
  const form = 'Content-Type: application/x-www-form-urlencoded\r\n';
  quiet['a form, byte for byte'] = dripping(
    head('POST', '/auth/backchannel-logout', `${form}Content-Length: 1000\r\n`),
    'x',
  );
  quiet['the rest of a body that was refused'] = dripping(
    head('POST', '/down/x', 'Content-Length: 1000\r\n'),
    'x',
  );
  // An upstream that never answers a handshake must not hold up the end of a process.
  const leaving = await stack.startGateway();
  client(upgrade('/open/never', 'websocket', ownOrigin()), leaving.port);
  await until(() => heads.has('never'), { what: 'the handshake at the upstream' });
  stopping = leaving.stop();
});

describe('a pipeline', () => {
  const before: [string, string, number][] = [
    ['readiness', '/health/ready', 200],
    ['a session', '/auth/session', 401],
    ['a verdict', '/auth/verify', 401],
    ['a route', '/open/slowly', 200],
    ['an upstream that is down', '/down/x', 502],
  ];
  const behind: [string, () => string, number][] = [
    ['an ambiguous path', () => upgrade('/open/../x'), 400],
    ['no proof of origin', () => upgrade('/open/switch'), 403],
    ['a refusing upstream', () => upgrade('/open/refuses', 'websocket', ownOrigin()), 413],
    [
      'an upstream that talks nonsense',
      () => upgrade('/open/garbage', 'websocket', ownOrigin()),
      502,
    ],
    ['a WebSocket', () => upgrade('/open/switch', 'websocket', ownOrigin()), 101],
    ['h2c', () => upgrade('/open/ok', 'h2c'), 200],
    ['an upgrade of our own path', () => upgrade('/health/live'), 200],
    ['too many fields', () => upgrade('/open/ok', 'h2c', 'X: y\r\n'.repeat(200)), 431],
    ['nonsense', () => 'nonsense\r\n\r\n', 400],
  ];
  test.each(before)('with an upgrade behind %s is answered in order', async (_, path, status) => {
    for (const [what, last, lastStatus] of behind) {
      for (const ahead of [1, 3]) {
        const answer = await exchange(head('GET', path).repeat(ahead) + last(), {
          enough: (text) => statusesOf(text).length > ahead,
        });
        expect([what, statusesOf(answer)]).toEqual([
          what,
          [...Array<number>(ahead).fill(status), lastStatus],
        ]);
      }
    }
    expect(await isLive()).toBe(true);
  });

  test('lets an answer under way go on to its end before an upgrade', async () => {
    const answer = await exchange(head('GET', '/open/large') + upgrade('/health/live'), {
      enough: (text) => text.length > 16_000_000 && statusesOf(text.slice(16_000_000)).length > 0,
    });
    expect(statusesOf(answer)).toEqual([200, 200]);
  });

  test('that is too long ends the connection', async () => {
    await exchange(head('GET', '/open/never').repeat(300));
    expect(await metric('session_gateway_connections_cut_total{reason="pipeline"}')).toBe(1);
  });
});

describe('a body for an upstream', () => {
  const faults: [string, number, string][] = [
    ['/down/x', 502, 'upstream_unavailable'],
    ['/open/reset', 502, 'upstream_unavailable'],
    ['/open/end', 502, 'upstream_unavailable'],
    ['/open/garbage', 502, 'upstream_unavailable'],
    ['/open/half', 502, 'upstream_unavailable'],
    ['/brief/never', 504, 'upstream_timeout'],
  ];
  test.each(faults)('that fails at %s is answered with %s', async (path, status, code) => {
    const problems = `session_gateway_problems_total{code="${code}"}`;
    const counted = await metric(problems);
    const requests = ['POST', 'PUT', 'PATCH', 'DELETE'].flatMap((method) =>
      [1, 100_000, 3_000_000].flatMap((size) => [
        head(method, path, `Content-Length: ${size}\r\n`) + 'x'.repeat(size),
        `${head(method, path, 'Transfer-Encoding: chunked\r\n')}${size.toString(16)}\r\n${'x'.repeat(size)}\r\n0\r\n\r\n`,
      ]),
    );
    const answers = await Promise.all(
      requests.map((request) => exchange(request, { enough: (text) => text.includes('}') })),
    );
    expect(answers.map((answer) => [...statusesOf(answer), codeOf(answer)])).toEqual(
      requests.map(() => [status, code]),
    );
    expect((await metric(problems)) - counted).toBe(requests.length);
    await gateway.said(
      new RegExp(`"method":"PATCH","route":"${path.slice(0, 5)}\\w*","status":${status}`),
    );
  });

  test('brings back an answer that does not wait for it, and the connection serves on', async () => {
    const body = 'x'.repeat(3_000_000);
    const request = head('POST', '/open/refuses', `Content-Length: ${body.length}\r\n`) + body;
    const answer = await exchange(request + head('GET', '/open/ok'), {
      enough: (text) => text.endsWith('ok'),
    });
    expect(statusesOf(answer)).toEqual([413, 200]);
  });

  test.each<[string, number]>([
    ['/health/live', 405],
    ['/down/x', 502],
  ])('that breaks behind the answer of %s brings no second one', async (path, status) => {
    const socket = client(head('POST', path, 'Transfer-Encoding: chunked\r\n'));
    let answer = '';
    socket.on('data', (piece) => (answer += piece.toString('latin1')));
    await until(() => answer.includes('"code"'), { what: 'the answer' });
    socket.write('no chunk\r\n');
    await new Promise((resolve) => void socket.once('close', resolve));
    expect(statusesOf(answer)).toEqual([status]);
  });
});

test.each([
  ['HTTP/2.0', ''],
  ['HTTP/0.9', ''],
  ['HTTP/1.0', 'Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n'],
])(
  'a request that says %s is refused where that is not how it is read',
  async (version, fields) => {
    const answer = await exchange(`POST /open/ok ${version}\r\nHost: g\r\n${fields}\r\n0\r\n\r\n`, {
      enough: (text) => text.includes('"code"'),
    });
    expect([...statusesOf(answer), codeOf(answer)]).toEqual([400, 'request_invalid']);
  },
);

test.each(['h2c, websocket', 'websocket/13', 'WebSocket, h2c', '"websocket"'])(
  'whether a handshake with "Upgrade: %s" may pass takes proof of its origin',
  async (protocol) => {
    for (const method of ['GET', 'POST', 'HEAD']) {
      const fields = `Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`;
      const answer = await exchange(head(method, '/auth/verify', fields), {
        enough: (text) => text.includes('\r\n\r\n'),
      });
      expect([method, ...statusesOf(answer)]).toEqual([method, 403]);
    }
  },
);

test('an answer that Node cannot send, and one that nobody reads, end the connection to the upstream', async () => {
  expect(codeOf(await exchange(head('GET', '/open/badfield', 'Connection: close\r\n')))).toBe(
    'upstream_unavailable',
  );
  const handshake = upgrade('/open/badfield', 'websocket', ownOrigin());
  expect(codeOf(await exchange(handshake))).toBe('upstream_unavailable');
  const whole = await exchange(upgrade('/open/large', 'websocket', ownOrigin()));
  expect(whole.length).toBeGreaterThan(16_000_000);
  for (const request of [
    head('GET', '/brief/large'),
    upgrade('/brief/large', 'websocket', ownOrigin()),
  ]) {
    const before = new Set(upstreamSockets);
    const socket = client(request).pause();
    await until(() => [...upstreamSockets].some((one) => !before.has(one)), {
      what: 'the upstream being asked',
    });
    const [asked] = [...upstreamSockets].filter((one) => !before.has(one));
    await until(() => asked!.destroyed, { what: 'the end of the answer', timeoutMs: 30_000 });
    socket.destroy();
  }
});

test('too many header fields are refused, and the own ones come first', async () => {
  const fields = (count: number): string => 'X-Field: value\r\n'.repeat(count);
  const last = 'Connection: close\r\nCookie: a=1\r\n';
  for (const path of ['/open/ok', '/auth/verify', '/health/live']) {
    const refused = await exchange(head('GET', path, fields(1_500) + last));
    expect([path, ...statusesOf(refused), codeOf(refused)]).toEqual([
      path,
      431,
      'headers_too_large',
    ]);
  }
  expect(statusesOf(await exchange(head('GET', '/open/ok', fields(196) + last)))).toEqual([200]);
  const names = heads
    .get('ok')!
    .split('\r\n')
    .map((line) => line.split(':')[0]!.toLowerCase());
  for (const own of ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'forwarded'])
    expect(names.indexOf(own)).toBeLessThan(names.indexOf('x-field'));
});

test('one address may hold so many connections and no more', async () => {
  const bounded = await stack.startGateway({ MAX_CONNECTIONS_PER_ADDRESS: '5' });
  const trusting = await stack.startGateway({
    MAX_CONNECTIONS_PER_ADDRESS: '5',
    TRUSTED_PROXIES: '127.0.0.1',
  });
  const open = async (at: TestGateway): Promise<number> => {
    const sockets = Array.from({ length: 12 }, () =>
      client(head('GET', '/open/never'), at.port).resume(),
    );
    const ended = new Set<Socket>();
    for (const socket of sockets) socket.once('close', () => ended.add(socket));
    // A connection that is taken is at the upstream; metrics are on another port.
    const cut = 'session_gateway_connections_cut_total{reason="address"}';
    const taken = (): Promise<unknown> =>
      until(
        async () => {
          const count = await metric(cut, at);
          return ended.size >= count && (at === trusting || count >= 7);
        },
        { what: 'the bound' },
      );
    await taken();
    for (const socket of sockets) socket.destroy();
    return metric(cut, at);
  };
  expect(await open(bounded)).toBeGreaterThanOrEqual(7);
  expect(await open(trusting)).toBe(0);
  await until(() => isLive(bounded), { what: 'room again' });
});

describe('a log target', () => {
  const dropped = 'session_gateway_log_lines_dropped_total';
  const debug = { LOG_LEVEL: 'debug' };
  const requests = async (at: TestGateway, count: number): Promise<void> => {
    for (let i = 0; i < count; i += 50)
      await Promise.all(
        Array.from({ length: 50 }, () => fetch(`${at.url}/health/live?${'x'.repeat(500)}`)),
      );
  };

  test('that is full loses lines, counts them, and stops nothing', async () => {
    const full = openSync('/dev/full', 'w');
    const at = await stack.startGateway(debug, true, { stdout: full });
    closeSync(full);
    await requests(at, 200);
    // What waits for the next try is counted when that fails too.
    await until(async () => (await metric(dropped, at)) > 100, { what: 'lines being dropped' });
    expect(await isLive(at)).toBe(true);
    expect(await at.stop()).toBe(0);
  });

  test('that nobody reads, or that is gone, stops nothing, and is used again when it is read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'log-pipe-'));
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(pipe, constants.O_WRONLY);
    const at = await stack.startGateway(debug, true, { stdout: writer });
    closeSync(writer);
    await requests(at, 1_000);
    expect(await isLive(at)).toBe(true);
    // The only reader leaves: EPIPE from now on.
    closeSync(reader);
    await until(
      async () => {
        await requests(at, 50);
        return (await metric(dropped, at)) > 0;
      },
      { what: 'lines being dropped', timeoutMs: 30_000 },
    );
    expect(await isLive(at)).toBe(true);
    const again = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    await until(
      async () => {
        await requests(at, 50);
        // While nothing has come, this throws EAGAIN.
        return readSync(again, Buffer.alloc(4_096)) > 0;
      },
      { what: 'lines for a reader that came back', timeoutMs: 30_000 },
    );
    expect(await isLive(at)).toBe(true);
    closeSync(again);
    expect(await at.stop()).toBe(0);
    rmSync(folder, { recursive: true });
  });
});

test('errors that no code expects are counted, end nothing, and make unready when they repeat', async () => {
  const at = await stack.startGateway(debugEnv(), true, {
    entry: 'tools/goals/src/variants/throwing.ts',
  });
  const errors = 'session_gateway_unexpected_errors_total';
  const after = async (count: number): Promise<number> => {
    at.signal('SIGUSR2');
    await until(async () => (await metric(errors, at)) === count, { what: `${count} errors` });
    return (await fetch(`${at.url}/health/ready`)).status;
  };
  expect([await after(2), await after(4), await after(6)]).toEqual([200, 200, 503]);
  expect(await isLive(at)).toBe(true);
  await at.said('"event":"unexpected","error":"Error: thrown at nobody');
  await at.said('"event":"unexpected","error":"Error: rejected at nobody');
  expect(await at.stop()).toBe(0);
});
const debugEnv = (): Record<string, string> => ({ LOG_LEVEL: 'info' });

test('whoever says nothing, or little, or slowly, is let go', async () => {
  for (const [what, closed] of Object.entries(quiet)) {
    // 15 s, or 79 s where bytes come that ask for nothing; the rest is a busy machine's.
    const bound = what === 'empty lines' ? 150_000 : 45_000;
    const within = await closed.then((ms) => (ms < bound ? 'in time' : `after ${ms} ms`));
    expect([what, within]).toEqual([what, 'in time']);
  }
  expect(await metric('session_gateway_connections_cut_total{reason="body"}')).toBe(1);
}, 180_000);

test('a handshake that the upstream never answers does not hold up the end of the process', async () => {
  expect(await stopping).toBe(0);
  expect(await metric('session_gateway_unexpected_errors_total')).toBe(0);
});
