import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type HttpBrowser, until } from '@session-gateway/testkit';
import { Agent, WebSocket } from 'undici';
import { type Stack, startStack } from './stack.js';

let stack: Stack;
let browser: HttpBrowser;
let cookie: string;
const routes = (upstream: string): string =>
  JSON.stringify([
    { path: '/ws', upstream, websocket: true },
    { path: '/open', upstream, websocket: true, auth: 'none' },
    { path: '/plain', upstream },
  ]);
beforeAll(async () => {
  stack = await startStack({
    redis: false,
    gateways: 2,
    start: false,
    provider: { accessTokenLifespanSeconds: 3 },
    env: { REFRESH_SWEEP: '1', LOG_LEVEL: 'debug' },
  });
  for (let i = 0; i < 2; i++)
    await stack.startGateway({ GATEWAY_ROUTES: routes(stack.upstream.url) });
  browser = await stack.login();
  cookie = `session=${browser.cookies.get('session')!.value}`;
});
const dispatcher = new Agent();
afterAll(async () => {
  await dispatcher.destroy();
  await stack.dispose();
});

interface Opened {
  socket: WebSocket;
  messages: string[];
  closed: Promise<void>;
}

/** Opens, or rejects with what the handshake came to. */
function open(path: string, headers: Record<string, string>, gateway = 0): Promise<Opened> {
  const socket = new WebSocket(`ws://127.0.0.1:${stack.gateways[gateway]!.port}${path}`, {
    headers,
    protocols: ['chat'],
    dispatcher,
  });
  const messages: string[] = [];
  socket.addEventListener('message', (event) => {
    messages.push(String(event.data));
  });
  const closed = new Promise<void>((resolve) => socket.addEventListener('close', () => resolve()));
  return new Promise((resolve, reject) => {
    socket.addEventListener('open', () => resolve({ socket, messages, closed }));
    socket.addEventListener('error', () => reject(new Error('the handshake failed')));
  });
}
const ours = (): Record<string, string> => ({ cookie, origin: stack.url });

/** A handshake on a bare socket, and the answer's head. */
function shake(path: string, headers: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(stack.gateways[0]!.port, '127.0.0.1');
    socket.on('error', reject);
    socket.on('data', (piece) => {
      resolve(piece.toString('latin1'));
      socket.destroy();
    });
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n`,
    );
  });
}
/** How many handshakes the upstream has answered with a status of that class. */
async function handshakes(outcome: string): Promise<number> {
  const text = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
  return Number(
    text
      .split('\n')
      .find((line) =>
        line.startsWith(`session_gateway_upstream_seconds_count{route="/ws",outcome="${outcome}"}`),
      )
      ?.split(' ')[1] ?? 0,
  );
}
const statusOf = (answer: string): number => Number(answer.split(' ')[1]);

describe('a WebSocket', () => {
  test('carries frames both ways with the bearer token and without the session cookie', async () => {
    const { socket, messages, closed } = await open('/ws/chat?a=1', {
      ...ours(),
      'x-auth-subject': 'root',
    });
    expect(socket.protocol).toBe('chat');
    const long = 'x'.repeat(200_000);
    socket.send('hello');
    socket.send(long);
    await until(() => messages.length === 2, { what: 'both echoes' });
    expect(messages).toEqual(['hello', long]);
    const seen = stack.upstream.requests.at(-1)!;
    expect(seen).toMatchObject({ url: '/ws/chat?a=1', bearer: expect.stringMatching(/^eyJ/) });
    expect([
      seen.headers['cookie'],
      seen.headers['x-auth-subject'],
      seen.headers['x-forwarded-for'],
    ]).toEqual([undefined, undefined, '127.0.0.1']);
    socket.close();
    await closed;
    await until(() => stack.upstream.open() === 0, { what: 'the upstream being told' });
  });

  test.each<[string, string, number, () => string]>([
    ['from our own page', '/ws', 101, () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`],
    ['with the header', '/ws', 101, () => `Cookie: ${cookie}\r\nX-CSRF: 1\r\n`],
    ['that proves nothing', '/ws', 403, () => `Cookie: ${cookie}\r\n`],
    ['from elsewhere', '/ws', 403, () => `Cookie: ${cookie}\r\nOrigin: https://evil.example\r\n`],
    [
      'from a sibling',
      '/ws',
      403,
      () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\nSec-Fetch-Site: same-site\r\n`,
    ],
    ['from elsewhere to an open route', '/open', 403, () => 'Origin: https://evil.example\r\n'],
    ['from our own page to an open route', '/open', 101, () => `Origin: ${stack.url}\r\n`],
    ['without a session', '/ws', 401, () => `Origin: ${stack.url}\r\n`],
    [
      'on an ambiguous path',
      '/ws/%2e%2e/open',
      400,
      () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`,
    ],
    [
      'that the upstream refuses',
      '/ws/status/403',
      403,
      () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`,
    ],
    [
      'on a route without WebSockets',
      '/plain/x',
      200,
      () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`,
    ],
  ])('%s to %s is answered %s', async (_, path, status, headers) => {
    const before = stack.upstream.count();
    const answer = await shake(path, headers());
    expect(statusOf(answer)).toBe(status);
    if ([400, 401].includes(status) || answer.includes('csrf_rejected'))
      expect(stack.upstream.count()).toBe(before);
  });

  test.each<[number, string, () => string, string?]>([
    [101, '/ws', () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`],
    [401, '/ws', () => `Origin: ${stack.url}\r\n`],
    [403, '/ws/status/403', () => `Cookie: ${cookie}\r\nOrigin: ${stack.url}\r\n`],
    [400, '/ws/%2e%2e/open', () => `Origin: ${stack.url}\r\n`, 'refused'],
  ])(
    'that is answered %s is found in the log and at the upstream by its id, and counted',
    async (status, path, headers, route = '/ws') => {
      const id = `handshake-${status}`;
      const reached = (): Promise<number> => handshakes(`${Math.floor(status / 100)}xx`);
      const before = await reached();
      expect(statusOf(await shake(path, `${headers()}X-Request-Id: ${id}\r\n`))).toBe(status);
      const line = (): string | undefined =>
        stack.gateways[0]!.stdout()
          .split('\n')
          .find((one) => one.includes(id) && one.includes('"event":"request"'));
      await until(() => line() !== undefined, { what: 'the line' });
      expect(JSON.parse(line()!)).toMatchObject({
        event: 'request',
        request: id,
        route,
        status,
        method: 'GET',
      });
      const asked = ![400, 401].includes(status);
      expect(
        stack.upstream.requests.filter((request) => request.headers['x-request-id'] === id),
      ).toHaveLength(asked ? 1 : 0);
      expect(await reached()).toBe(before + (asked ? 1 : 0));
    },
  );

  test('lives on while the session is renewed, and ends with a logout on another instance', async () => {
    const visitor = await stack.login('alice');
    const own = `session=${visitor.cookies.get('session')!.value}`;
    const { socket, messages, closed } = await open('/ws', { cookie: own, origin: stack.url }, 1);
    const [{ version } = { version: 0 }] = await stack.sql<{ version: number }>(
      'SELECT max(version) AS version FROM user_sessions WHERE cookie_hash = sha256($1::bytea)',
      [own.slice('session='.length)],
    );
    const renewed = (): Promise<boolean> =>
      stack
        .sql(
          'SELECT 1 FROM user_sessions WHERE cookie_hash = sha256($1::bytea) AND version >= $2',
          [own.slice('session='.length), version + 2],
        )
        .then((rows) => rows.length > 0);
    await until(renewed, { what: 'two renewals', timeoutMs: 20_000 });
    socket.send('still here');
    await until(() => messages.includes('still here'), { what: 'the echo' });
    expect(
      (
        await visitor.post(`${stack.url}/auth/logout`, undefined, {
          headers: { accept: 'application/json' },
        })
      ).status,
    ).toBe(200);
    // Long before the session would have ended by itself.
    await closed;
    await until(() => stack.upstream.open() === 0, { what: 'the upstream being told' });
  });

  test('of a bearer token ends with it', async () => {
    const bearer = await stack.provider!.bearer({ exp: Math.floor(Date.now() / 1000) + 2 });
    const { closed } = await open('/ws', { authorization: `Bearer ${bearer}`, 'x-csrf': '1' });
    await Promise.race([
      closed,
      delay(10_000).then(() => {
        throw new Error('it lives on');
      }),
    ]);
  });

  test('ends when its gateway stops', async () => {
    const extra = await stack.startGateway({ GATEWAY_ROUTES: routes(stack.upstream.url) });
    const { closed } = await open('/open', { origin: stack.url }, stack.gateways.indexOf(extra));
    expect(await extra.stop()).toBe(0);
    await closed;
  });
});

test('an upgrade to another protocol is a request as any other, with its body', async () => {
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(stack.gateways[0]!.port, '127.0.0.1');
    socket.on('error', reject);
    let text = '';
    socket.on('data', (piece) => {
      text += piece.toString('latin1');
    });
    socket.on('close', () => resolve(text));
    socket.write(
      `POST /plain/upload HTTP/1.1\r\nHost: g\r\nCookie: ${cookie}\r\nX-CSRF: 1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 5\r\n\r\nhello`,
    );
    socket.write(
      `GET /plain/x HTTP/1.1\r\nHost: g\r\nCookie: ${cookie}\r\nConnection: close\r\n\r\n`,
    );
  });
  expect(answer.match(/^HTTP\/1\.1 200/gm)).toHaveLength(2);
  expect(stack.upstream.requests.at(-2)).toMatchObject({ method: 'POST', bodyBytes: 5 });
  expect(stack.upstream.requests.at(-2)!.headers['http2-settings']).toBeUndefined();
});
