import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { HttpBrowser, until } from '@session-gateway/testkit';
import pg from 'pg';
import { type Stack, startStack } from './stack.js';

const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
const ROUTE_TIMEOUT_MS = 1_000;

/** An upstream on a bare socket: what it says is what the test says, byte for byte. */
interface Script {
  (socket: Socket, head: string, nthOfConnection: number): void;
}
const scripts = new Map<string, Script>();
const asked = new Map<string, number>();
const upstreamSockets = new Set<Socket>();

let stack: Stack;
let upstream: Server;
let cookie: string;
let port: number;
beforeAll(async () => {
  upstream = createServer((socket) => {
    upstreamSockets.add(
      socket.on('error', () => undefined).once('close', () => upstreamSockets.delete(socket)),
    );
    let [text, count] = ['', 0];
    socket.on('data', (piece) => {
      text += piece.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
        const head = text.slice(0, end);
        text = text.slice(end + 4);
        const name = /^[A-Z]+ \/\w+\/(\w+)/.exec(head)?.[1] ?? '';
        if (name === '') continue;
        asked.set(name, (asked.get(name) ?? 0) + 1);
        scripts.get(name)?.(socket, head, ++count);
      }
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(upstream.address() as { port: number }).port}`;
  stack = await startStack({
    redis: false,
    env: {
      RATE_LIMIT_LOGIN: '3',
      GATEWAY_ROUTES: JSON.stringify([
        {
          path: '/open',
          upstream: address,
          auth: 'none',
          websocket: true,
          timeoutMs: ROUTE_TIMEOUT_MS,
        },
        { path: '/own', upstream: address, websocket: true },
        { path: '/patient', upstream: address, auth: 'none' },
      ]),
    },
  });
  port = stack.gateways[0]!.port;
  ({ cookie } = await stack.session());
});
afterEach(() => {
  for (const socket of upstreamSockets) socket.destroy();
});
afterAll(async () => {
  upstream.close();
  await stack.dispose();
});

const says = (name: string, text: string): void =>
  void scripts.set(name, (socket) => socket.write(text, 'latin1'));
const head = (target: string, fields = 'Host: gateway\r\n', method = 'GET'): string =>
  `${method} ${target} HTTP/1.1\r\n${fields}\r\n`;
const handshake = (path: string, fields = ''): string =>
  head(
    path,
    `Host: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: ${stack.url}\r\n${fields}`,
  );
function client(text: string, to = port): Socket {
  const socket = connect(to, '127.0.0.1').on('error', () => undefined);
  socket.write(text, 'latin1');
  return socket;
}
/** What comes back until the connection ends, in latin1: a character a byte. */
function exchange(text: string, to?: number): Promise<string> {
  const socket = client(text, to);
  let answer = '';
  socket.on('data', (piece) => {
    answer += piece.toString('latin1');
  });
  return new Promise((resolve) => socket.once('close', () => resolve(answer)));
}
const CLOSE = 'Host: gateway\r\nConnection: close\r\n';
const statusOf = (answer: string): number => Number(answer.split(' ')[1]);
const fieldOf = (answer: string, name: string): string | undefined =>
  new RegExp(`^${name}: (.*)\r$`, 'im').exec(answer)?.[1];
const codeOf = (answer: string): string => /"code":"(\w+)"/.exec(answer)?.[1] ?? '';
const atUpstream = (name: string): Promise<unknown> =>
  until(() => asked.has(name), { what: `the upstream being asked for ${name}` });
const nothingOpen = (): Promise<unknown> =>
  until(() => upstreamSockets.size === 0, {
    what: "the upstream's connections being closed",
    timeoutMs: 20_000,
  });

describe('an answer', () => {
  test('without a body may tell the length of what it leaves out', async () => {
    says('kept', 'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 1234\r\n\r\n');
    for (const path of ['/open/kept', '/own/kept']) {
      const answer = await exchange(
        head(path, `${CLOSE}Cookie: ${cookie}\r\nIf-None-Match: "1"\r\n`),
      );
      expect([statusOf(answer), fieldOf(answer, 'ETag')]).toEqual([304, '"1"']);
    }
  });

  const [utf8, latin1] = [Buffer.from('é日.pdf').toString('latin1'), 'é.pdf'];
  test.each([
    ['in pieces', 'Transfer-Encoding: chunked\r\n', '2\r\nok\r\n0\r\n\r\n'],
    ['of known length', 'Content-Length: 2\r\n', 'ok'],
    ['without a body', 'Content-Length: 0\r\n', ''],
  ])('%s keeps the bytes of its fields', async (_, framing, body) => {
    for (const name of [utf8, latin1]) {
      for (const fields of [
        `${framing}Content-Disposition: attachment; filename="${name}"\r\nX-Name: ${name}\r\n`,
        `X-Name: ${name}\r\nContent-Disposition: attachment; filename="${name}"\r\n${framing}`,
      ]) {
        says('named', `HTTP/1.1 200 OK\r\n${fields}\r\n${body}`);
        const answer = await exchange(head('/open/named', CLOSE));
        expect([
          statusOf(answer),
          fieldOf(answer, 'X-Name'),
          fieldOf(answer, 'Content-Disposition'),
        ]).toEqual([200, name, `attachment; filename="${name}"`]);
      }
    }
  });

  test('that a used connection no longer gives is asked for once more, where that does no harm', async () => {
    scripts.set('stale', (socket, _, nth) => {
      if (nth === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      else socket.end();
    });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) statuses.push(statusOf(await exchange(head('/open/stale', CLOSE))));
    expect(statuses).toEqual([200, 200, 200, 200]);
    const before = asked.get('stale') ?? 0;
    const unsafe = [
      await exchange(head('/open/stale', CLOSE, 'POST')),
      await exchange(head('/open/stale', CLOSE, 'POST')),
    ].map(statusOf);
    expect([unsafe.sort(), asked.get('stale')]).toEqual([[200, 502], before + 2]);
  });

  test('of an upstream that never answers is not asked for twice', async () => {
    scripts.set('never', (socket) => socket.end());
    expect([statusOf(await exchange(head('/open/never', CLOSE))), asked.get('never')]).toEqual([
      502, 1,
    ]);
  });
});

describe('a body', () => {
  test('that stops coming is given up, on both sides', async () => {
    const answer = await exchange(
      `${head('/open/stalled', 'Host: gateway\r\nContent-Length: 10\r\n', 'POST')}abc`,
    );
    expect([statusOf(answer), codeOf(answer), fieldOf(answer, 'Connection')]).toEqual([
      408,
      'request_timeout',
      'close',
    ]);
    await nothingOpen();
  });

  test('that the upstream does not take is given up as well', async () => {
    scripts.set('full', (socket) => void socket.pause());
    const socket = client(
      head('/open/full', 'Host: gateway\r\nContent-Length: 100000000\r\n', 'POST'),
    );
    const pieces = setInterval(() => {
      if (socket.writableLength < 1_000_000) socket.write(Buffer.alloc(1_000_000));
    }, 5);
    let answer = '';
    socket.on('data', (piece) => {
      answer += piece.toString('latin1');
    });
    await until(() => answer.includes('}'), { what: 'an answer' });
    clearInterval(pieces);
    expect([statusOf(answer), codeOf(answer)]).toEqual([504, 'upstream_timeout']);
    socket.destroy();
    for (const paused of upstreamSockets) paused.resume();
    await nothingOpen();
  });

  test("may take longer than the route's timeout while it moves", async () => {
    scripts.set('moving', (socket) => {
      let got = '';
      socket.on('data', (piece) => {
        got += piece.toString('latin1');
        if (got.endsWith('end')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    const socket = client(head('/open/moving', `${CLOSE}Content-Length: 9\r\n`, 'POST'));
    let answer = '';
    socket.on('data', (piece) => {
      answer += piece.toString('latin1');
    });
    const closed = new Promise((resolve) => socket.once('close', resolve));
    for (const piece of ['aaa', 'bbb', 'end']) {
      await new Promise((resolve) => setTimeout(resolve, ROUTE_TIMEOUT_MS * 0.6));
      socket.write(piece);
    }
    await closed;
    expect(statusOf(answer)).toBe(200);
  });
});

describe('a client that goes away', () => {
  const endless = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n';

  test('takes with it what it had asked for in a row', async () => {
    scripts.set('endless', (socket) => {
      socket.write(endless);
      socket.write(Buffer.alloc(4_000_000, 'x'));
    });
    const socket = client(Array.from({ length: 20 }, () => head('/patient/endless')).join(''));
    await until(() => asked.get('endless') === 20, { what: 'all being asked for' });
    socket.destroy();
    await nothingOpen();
  });

  test.each([
    ['a WebSocket', (path: string) => handshake(path, `Cookie: ${cookie}\r\n`)],
    ['an answer', (path: string) => head(path, `Host: gateway\r\nCookie: ${cookie}\r\n`)],
  ])('while its session is looked up opens nothing for %s', async (what, ask) => {
    const name = what.replaceAll(/\W/g, '');
    scripts.set(name, (socket) => void socket.write(what === 'a WebSocket' ? SWITCH : endless));
    await stack.restartGateway(0);
    const holder = new pg.Client({ connectionString: stack.databaseUrl });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE');
    const gone = client(ask(`/own/${name}`));
    await until(
      async () =>
        (
          await stack.sql(
            `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%cookie_hash =%'`,
          )
        ).length > 0,
      { what: 'the look-up' },
    );
    gone.resetAndDestroy();
    await holder.query('COMMIT');
    await holder.end();
    // Whoever stays gets through, later than the one that left.
    const stays = client(ask(`/own/${name}`));
    await atUpstream(name);
    await until(() => asked.get(name) === 1 && upstreamSockets.size === 1, {
      what: 'nothing but the one that stayed',
    });
    stays.destroy();
    await nothingOpen();
    expect(asked.get(name)).toBe(1);
  });
});

test('what an upstream says last reaches a client that reads slowly', async () => {
  const lost: number[] = [];
  for (let size = 2_000_000; size < 6_500_000; size += 40_000) {
    scripts.set('last', (socket) => {
      socket.write(SWITCH);
      socket.write(Buffer.alloc(size, 'x'));
      socket.end('the end');
    });
    const socket = client(handshake('/open/last'));
    let tail = '';
    await new Promise((resolve) => socket.once('data', resolve));
    socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 30));
    socket.on('data', (piece) => {
      tail = (tail + piece.toString('latin1')).slice(-7);
    });
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
    if (tail !== 'the end') lost.push(size);
  }
  expect(lost).toEqual([]);
});

describe("a request's Host", () => {
  test.each(['a', 'gw', 'gw:80', 'api', 'a-long.name.example', '[::1]'])(
    '%j leads to the path that was asked for',
    async (host) => {
      const get = (path: string, to?: number): Promise<string> =>
        exchange(head(path, `Host: ${host}\r\nConnection: close\r\n`), to);
      expect(statusOf(await get('/health/live'))).toBe(200);
      expect(statusOf(await get('/auth/session'))).toBe(401);
      for (const path of [
        '/auth/auth/session',
        '/auth/admin/sessions',
        '/auth/',
        '/xx/auth/session',
      ])
        expect([path, statusOf(await get(path))]).toEqual([path, 404]);
      expect(
        statusOf(await get('/health/live', Number(new URL(stack.gateways[0]!.managementUrl).port))),
      ).toBe(200);
    },
  );

  test('does not lead past a limit', async () => {
    const logins = (host: string, path: string): Promise<string> =>
      exchange(head(path, `Host: ${host}\r\nConnection: close\r\n`));
    const statuses: number[] = [];
    for (const host of ['a', 'gateway', 'a', 'gateway', 'a'])
      statuses.push(statusOf(await logins(host, '/auth/login')));
    expect(statuses).toContain(302);
    expect(statuses.slice(-2)).toEqual([429, 429]);
    for (const path of ['/auth/auth/login', '/xx/auth/login'])
      expect(statusOf(await logins('a', path))).toBe(404);
  });

  test('has to be there once and be one, but for HTTP/1.0', async () => {
    for (const fields of [
      'Connection: close\r\n',
      'Host: a\r\nHost: b\r\nConnection: close\r\n',
      'Host: odd name\r\nConnection: close\r\n',
      'Host: x/y\r\nConnection: close\r\n',
    ]) {
      for (const path of ['/health/live', '/open/x']) {
        const answer = await exchange(head(path, fields));
        expect([statusOf(answer), codeOf(answer)]).toEqual([400, 'request_invalid']);
      }
    }
    expect(statusOf(await exchange('GET /health/live HTTP/1.0\r\n\r\n'))).toBe(200);
  });
});

test('an expectation that nobody knows is let be', async () => {
  says('expecting', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  for (const path of ['/health/live', '/open/expecting']) {
    expect(
      statusOf(
        await exchange(
          head(path, 'Host: gateway\r\nExpect: the-unexpected\r\nConnection: close\r\n'),
        ),
      ),
    ).toBe(200);
  }
  const refused = await exchange(
    head('/auth/session', 'Host: gateway\r\nExpect: the-unexpected\r\nConnection: close\r\n'),
  );
  expect([statusOf(refused), codeOf(refused)]).toEqual([401, 'session_not_found']);
});

test('a backslash is part of a query, and of no path', async () => {
  scripts.set(
    'query',
    (socket, text) =>
      void socket.write(
        `HTTP/1.1 200 OK\r\nX-Target: ${text.split(' ')[1] ?? ''}\r\nContent-Length: 0\r\n\r\n`,
      ),
  );
  expect(fieldOf(await exchange(head('/open/query?q=C:\\temp', CLOSE)), 'X-Target')).toBe(
    '/open/query?q=C:\\temp',
  );
  expect(codeOf(await exchange(head('/open/que\\ry', CLOSE)))).toBe('path_ambiguous');
});

test('the way back from a login is one that the login takes', async () => {
  const visitor = new HttpBrowser();
  const path = '/own/a%20b+c';
  for (const [query, wayBack] of [
    ['?q=1', `${path}?q=1`],
    [`?q=${'x'.repeat(3_000)}`, path],
    [`?q=${'%C3%A9'.repeat(1_200)}`, path],
  ] as const) {
    const { location } = await visitor.navigate(`${stack.url}${path}${query}`);
    expect(location!.searchParams.get('return_to')).toBe(wayBack);
  }
  await visitor.close();
});

test('a page of another site cannot use the cookie where nobody has to log in either', async () => {
  says('form', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  const post = (fields: string): Promise<string> =>
    exchange(head('/open/form', `${CLOSE}${fields}`, 'POST'));
  expect(codeOf(await post(`Cookie: ${cookie}\r\nOrigin: https://evil.example\r\n`))).toBe(
    'csrf_rejected',
  );
  expect(statusOf(await post(`Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`))).toBe(200);
  expect(statusOf(await post('Origin: https://evil.example\r\n'))).toBe(200);
});
