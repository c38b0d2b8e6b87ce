import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { connect, type Socket } from 'node:net';
import { until } from '@session-gateway/keycloak-server';
import { type FaultProxy, startFaultProxy } from './faultProxy.js';
import { startServer, type TestServer } from './httpServer.js';

describe('the fault proxy', () => {
  let server: TestServer;
  let proxy: FaultProxy;
  beforeAll(async () => {
    server = await startServer((request, response) => {
      request.resume();
      response
        .writeHead(200, { connection: 'close' })
        .end('x'.repeat(Number(new URL(request.url ?? '/', 'http://a').searchParams.get('bytes'))));
    });
    proxy = await startFaultProxy({ to: server.port });
  });
  afterAll(async () => {
    await proxy.dispose();
    await server.stop();
  });
  beforeEach(async () => {
    proxy.clear();
    await until(() => proxy.open() === 0, { what: 'the end of all connections' });
  });

  const get = async (bytes: number): Promise<number> =>
    (await (await fetch(proxy.through(`${server.url}/?bytes=${bytes}`))).text()).length;

  test('passes everything on as it is, and counts connections', async () => {
    const before = proxy.accepted();
    expect(await Promise.all([get(10), get(3_000_000)])).toEqual([10, 3_000_000]);
    expect(proxy.accepted() - before).toBe(2);
  });

  test('adds latency once in each direction', async () => {
    proxy.set({ latencyMs: 60 });
    const began = performance.now();
    expect(await get(10)).toBe(10);
    expect(performance.now() - began).toBeGreaterThanOrEqual(115);
  });

  test('swallows what is sent into a black hole, and delivers it afterwards', async () => {
    proxy.set({ blackhole: true });
    let answered = false;
    const answer = get(10).then((length) => {
      answered = true;
      return length;
    });
    await until(() => proxy.open() === 1, { what: 'the connection' });
    expect(answered).toBe(false);
    proxy.clear();
    expect(await answer).toBe(10);
  });

  test.each([0, 1, 100])(
    'resets a connection after %d bytes of the answer',
    async (resetAfterBytes) => {
      proxy.set({ resetAfterBytes });
      await expect(get(1_000)).rejects.toThrow();
      expect(proxy.open()).toBe(0);
    },
  );

  test('lets bytes trickle until the fault is over', async () => {
    proxy.set({ bytesPerSecond: 1 });
    const answer = get(1_000);
    await until(() => proxy.open() === 1, { what: 'the connection' });
    proxy.clear();
    expect(await answer).toBe(1_000);
  });

  test('drops new connections, cuts open ones, and is a good network again when cleared', async () => {
    const ends = (socket: Socket) =>
      new Promise<string>((resolve) =>
        socket.on('error', ({ message }) => resolve(message)).on('close', () => resolve('closed')),
      );
    const open = connect(proxy.port, '127.0.0.1');
    const end = ends(open);
    await until(() => proxy.open() === 1, { what: 'the connection' });
    proxy.cut();
    expect(await end).toMatch(/ECONNRESET|closed/);
    proxy.set({ drop: true });
    expect(await ends(connect(proxy.port, '127.0.0.1'))).toMatch(/ECONNRESET|closed/);
    proxy.clear();
    expect([await get(10), proxy.open() <= 1]).toEqual([10, true]);
  });
});
