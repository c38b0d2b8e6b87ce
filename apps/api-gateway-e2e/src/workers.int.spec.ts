import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { childrenOf, isAlive, signalPid } from '@session-gateway/keycloak-server';
import { describeWith, type HttpBrowser, type TestGateway, until } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

const WORKERS = 2;
/** A connection that a worker was given as it died may hang. */
const PATIENCE_MS = 20_000;

describeWith(['redis'], 'a service of two workers', () => {
  let stack: Stack;
  let service: TestGateway;
  let browser: HttpBrowser;
  beforeAll(async () => {
    stack = await startStack({ env: { WORKERS: String(WORKERS) } });
    service = stack.gateways[0]!;
    browser = await stack.login();
  });
  afterAll(() => stack.dispose());

  const metric = async (line: RegExp): Promise<number> => {
    const text = await (await fetch(`${service.managementUrl}/metrics`)).text();
    return Number(line.exec(text)?.[1] ?? Number.NaN);
  };
  const proxied = (): Promise<number> =>
    metric(/^session_gateway_upstream_seconds_count\{[^}]*route="\/api"[^}]*\} (\d+)$/m);
  const listening = (): Promise<number> => metric(/^session_gateway_workers (\d+)$/m);
  const cookie = (): string => `session=${browser.cookies.get('session')!.value}`;

  /** Asks without a pause, each time on a connection of its own, until it is told to end. */
  function load(paths: readonly string[]): () => Promise<Record<string, number>> {
    const outcomes: Record<string, number> = {};
    let on = true;
    const one = async (path: string): Promise<void> => {
      while (on) {
        const headers = { cookie: cookie(), connection: 'close' };
        const signal = AbortSignal.timeout(PATIENCE_MS);
        const outcome = await fetch(stack.url + path, { headers, signal }).then(
          async (answer) => (await answer.text(), String(answer.status)),
          () => 'failed',
        );
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      }
    };
    const all = paths.map(one);
    return async () => {
      on = false;
      await Promise.all(all);
      return outcomes;
    };
  }

  test('is one gateway to whoever looks: one port, one readiness, one sum of metrics', async () => {
    expect(childrenOf(service.pid)).toHaveLength(WORKERS);
    await until(async () => (await listening()) === WORKERS, { what: 'both listening' });
    const end = load(['/api/x', '/api/x', '/auth/session']);
    await until(async () => stack.upstream.count() >= 20, { what: 'some requests' });
    expect(Object.keys(await end())).toEqual(['200']);
    await expect(proxied()).resolves.toBe(stack.upstream.count());
    const ready = await fetch(`${service.managementUrl}/health/ready`);
    expect(await ready.json()).toMatchObject({
      status: 'ready',
      dependencies: { database: { status: 'ok' } },
      workers: { ready: WORKERS, of: WORKERS },
    });
    service.signal('SIGHUP');
    await until(
      async () => (await metric(/keyring_reloads_total\{outcome="replaced"\} (\d+)/)) === WORKERS,
      { what: 'both reading their keys anew' },
    );
  });

  test('restarts worker by worker at SIGUSR2 without a failed request, and forgets no count', async () => {
    const before = childrenOf(service.pid);
    const counted = await proxied();
    const end = load(['/api/x', '/api/slow/200', '/auth/session']);
    service.signal('SIGUSR2');
    const restarted = until(() => service.output().includes('every worker has been restarted'), {
      what: 'the end of the restart',
      timeoutMs: 120_000,
    });
    const outcomes = await restarted.finally(() => end()).then(end);
    expect(Object.keys(outcomes)).toEqual(['200']);
    const after = childrenOf(service.pid);
    expect(after).toHaveLength(WORKERS);
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
    expect(await proxied()).toBeGreaterThan(counted);
  });

  test('puts others in the place of workers that die, whose requests are the only ones that fail', async () => {
    const before = childrenOf(service.pid);
    const counted = await proxied();
    const end = load(['/api/slow/200', '/api/slow/200', '/api/slow/200']);
    await until(() => stack.upstream.open() > 0, { what: 'a request under way' });
    for (const pid of before) signalPid(pid, 'SIGKILL');
    await until(() => before.every((pid) => !isAlive(pid)), { what: 'their end' });
    const replaced = until(async () => (await listening()) === WORKERS, {
      what: 'others in their place',
      timeoutMs: 120_000,
    });
    // The same client tells a restart that loses requests.
    expect(await replaced.finally(() => end()).then(end)).toMatchObject({
      failed: expect.any(Number),
    });
    expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    expect(await proxied()).toBeGreaterThanOrEqual(counted);
  });

  test('ends with 0 at SIGTERM when the requests under way are answered, and leaves nobody behind', async () => {
    const workers = childrenOf(service.pid);
    const slow = fetch(`${stack.url}/api/slow/500`, { headers: { cookie: cookie() } });
    await until(() => stack.upstream.open() > 0, { what: 'a request under way' });
    service.signal('SIGTERM');
    expect((await slow).status).toBe(200);
    expect(await service.exited).toBe(0);
    expect(workers.filter(isAlive)).toEqual([]);
  });

  test('needs what its workers share: a cache of each would not do', async () => {
    const alone = await stack.startGateway({ REDIS_URL: undefined }, false);
    expect(await alone.exited).toBe(78);
    expect(alone.output()).toContain('REDIS_URL must be set');
  });
});
