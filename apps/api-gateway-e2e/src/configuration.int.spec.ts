import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from '@jest/globals';
import {
  freePort,
  HttpBrowser,
  startGateway,
  startUpstream,
  type TestGateway,
  until,
} from '@session-gateway/testkit';
import { startStack } from './stack.js';

const started: TestGateway[] = [];
afterAll(() => Promise.all(started.map((gateway) => gateway.kill())));

async function refused(
  env: Record<string, string | undefined>,
): Promise<{ code: number | null; stderr: string; stdout: string }> {
  const gateway = await startGateway({ env, waitUntilLive: false });
  started.push(gateway);
  const code = await gateway.exited;
  return { code, stderr: gateway.stderr(), stdout: gateway.stdout() };
}

describe('the gateway as a program', () => {
  test('reports everything that is wrong with its configuration at once, by name, without a value, and ends with 78', async () => {
    const { code, stderr, stdout } = await refused({
      DATABASE_URL: 'mysql://user:sesame@db',
      REDIS_URL: 'sesame',
      KEYCLOAK_ISSUER: 'sesame',
      SESSION_TOKEN_ENCRYPTION_KEY: 'sesame',
      SESSION_IDLE_TIMEOUT: 'sesame',
      GATEWAY_ROUTES: '[{"path":"sesame"}]',
    });
    expect(code).toBe(78);
    for (const name of [
      'DATABASE_URL',
      'REDIS_URL',
      'KEYCLOAK_ISSUER',
      'KEYCLOAK_CLIENT_ID',
      'KEYCLOAK_CLIENT_SECRET',
      'SESSION_TOKEN_ENCRYPTION_KEY',
      'SESSION_IDLE_TIMEOUT',
      'GATEWAY_ROUTES',
    ])
      expect(stderr).toContain(name);
    expect(stderr + stdout).not.toContain('sesame');
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test('refuses every embedded part in production', async () => {
    const { code, stderr } = await refused({
      NODE_ENV: 'production',
      PUBLIC_URL: 'https://app.example',
    });
    expect(code).toBe(78);
    for (const name of [
      'DATABASE_URL',
      'REDIS_URL',
      'KEYCLOAK_ISSUER',
      'SESSION_TOKEN_ENCRYPTION_KEY',
    ])
      expect(stderr).toContain(name);
  });

  test('names DATA_DIR where embedded parts cannot keep their files there, and ends with 78', async () => {
    const { code, stderr } = await refused({ DATA_DIR: fileURLToPath(import.meta.url) });
    expect([code, stderr]).toEqual([78, expect.stringContaining('DATA_DIR')]);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test('says which port is taken', async () => {
    const port = await freePort();
    const taken = createServer().listen(port, '127.0.0.1');
    await until(() => taken.listening, { what: 'the port being taken' });
    const stack = await startStack({ redis: false, start: false });
    const gateway = await startGateway({
      port,
      waitUntilLive: false,
      env: { DATABASE_URL: stack.databaseUrl },
    });
    started.push(gateway);
    expect(await gateway.exited).toBe(1);
    expect(gateway.stderr()).toContain(`port ${port} is in use`);
    taken.close();
    await stack.dispose();
  });

  test('finishes the requests under way when it is told to stop, by several at once, and takes no new ones', async () => {
    const stack = await startStack({ redis: false });
    const browser = await stack.login();
    const slow = browser.get(`${stack.url}/api/slow/600`);
    await until(() => stack.upstream.open() === 1, { what: 'the request under way' });
    const [gateway] = stack.gateways;
    // As with Ctrl-C: from the terminal, and from the package runner that has it from there too.
    gateway!.signal('SIGINT');
    gateway!.signal('SIGTERM');
    expect((await slow).status).toBe(200);
    expect(await gateway!.exited).toBe(0);
    const late = new HttpBrowser();
    await expect(late.get(`${stack.url}/health/live`)).rejects.toThrow();
    await late.close();
    await stack.dispose();
  });

  describe('with a PostgreSQL of its own', () => {
    const folder = mkdtempSync(join(tmpdir(), 'embedded-'));
    const pidFile = join(folder, 'postgres/cluster/postmaster.pid');
    const isRunning = () => existsSync(pidFile);
    afterAll(() => {
      if (isRunning())
        process.kill(Number(readFileSync(pidFile, 'utf8').split('\n')[0]), 'SIGQUIT');
      rmSync(folder, { recursive: true, force: true });
    });
    const start = async (options: Parameters<typeof startGateway>[0]): Promise<TestGateway> => {
      const gateway = await startGateway({
        ...options,
        env: { DATA_DIR: folder, ...options?.env },
      });
      started.push(gateway);
      return gateway;
    };

    test('leaves none behind when it cannot start', async () => {
      const taken = createServer();
      const port = await freePort();
      await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
      const gateway = await start({ port, waitUntilLive: false });
      expect(await gateway.exited).toBe(1);
      expect(gateway.stderr()).toContain(`port ${port} is in use`);
      expect(readFileSync(join(folder, 'postgres/postgres.log'), 'utf8')).toContain(
        'ready to accept connections',
      );
      await until(() => !isRunning(), { what: 'the end of PostgreSQL' });
      taken.close();
    });

    test('leaves none behind when it is interrupted while it starts', async () => {
      const gateway = await start({ waitUntilLive: false });
      await until(isRunning, { what: 'PostgreSQL being there' });
      gateway.signal('SIGINT');
      expect(await gateway.exited).toBe(130);
      await until(() => !isRunning(), { what: 'the end of PostgreSQL' });
    });

    test('is not ended by a SIGHUP while it starts: there is nothing to read anew yet', async () => {
      const starting = await start({ waitUntilLive: false });
      await until(isRunning, { what: 'PostgreSQL being there' });
      starting.signal('SIGHUP');
      await until(async () => (await fetch(`${starting.url}/health/live`)).ok, {
        what: 'the gateway being live',
        timeoutMs: 60_000,
      });
      expect(await starting.stop()).toBe(0);
    });

    test('ends at once, and leaves none behind, for somebody who insists', async () => {
      const upstream = await startUpstream();
      const gateway = await start({
        env: {
          GATEWAY_ROUTES: JSON.stringify([
            { path: '/open', upstream: upstream.url, auth: 'none', stripPrefix: true },
          ]),
        },
      });
      const hanging = fetch(`${gateway.url}/open/hang`).then(
        () => 'answered',
        () => 'cut',
      );
      await until(() => upstream.open() === 1, { what: 'the request under way' });
      gateway.signal('SIGINT');
      await gateway.said('finishing the requests under way');
      let code: number | null | undefined;
      void gateway.exited.then((exit) => {
        code = exit;
      });
      await until(
        () => {
          gateway.signal('SIGTERM');
          return code !== undefined;
        },
        { what: 'the end', timeoutMs: 30_000 },
      );
      expect([code, await hanging]).toEqual([143, 'cut']);
      await until(() => !isRunning(), { what: 'the end of PostgreSQL' });
      await upstream.dispose();
    });
  });
});
