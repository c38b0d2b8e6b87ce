import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  describeUnless,
  findProgram,
  freePort,
  HttpBrowser,
  type ProviderStub,
  startPostgres,
  startProviderStub,
  type TestPostgres,
  until,
} from '@session-gateway/testkit';
import { ROOT } from './files.js';

const folder = mkdtempSync(join(tmpdir(), 'session-gateway-container-'));
const storage = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run')];
const run = (program: string, ...args: string[]): SpawnSyncReturns<string> =>
  spawnSync(program, [...storage, '--storage-driver', 'vfs', ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, CONTAINERS_CONF: join(folder, 'containers.conf') },
  });
const podman = (...args: string[]): SpawnSyncReturns<string> =>
  run('podman', '--tmpdir', join(folder, 'tmp'), '--cgroup-manager', 'cgroupfs', ...args);

/** A base without a registry: this machine's Node with the libraries that it is linked to. No shell, nothing else. */
function buildBase(): SpawnSyncReturns<string> {
  const base = join(folder, 'base');
  const put = (from: string, to: string): void => {
    mkdirSync(dirname(join(base, to)), { recursive: true });
    cpSync(from, join(base, to), { dereference: true });
  };
  put(process.execPath, '/usr/bin/node');
  const { stdout } = spawnSync('ldd', [process.execPath], { encoding: 'utf8' });
  for (const [library] of stdout.matchAll(/\/\S+/g)) put(library, library);
  writeFileSync(join(base, 'Containerfile'), 'FROM scratch\nCOPY . /\nENV PATH=/usr/bin\n');
  return run('buildah', 'bud', '--isolation', 'chroot', '-q', '-t', 'base', base);
}

/** Containers need rights that a machine may well not give. */
function whyNoContainers(): string | null {
  if (!findProgram('podman') || !findProgram('buildah')) return 'no podman and buildah';
  if (!existsSync(join(ROOT, 'dist/session-gateway/main.js'))) return 'no dist/session-gateway';
  const runtime = findProgram('runc', 'crun') ?? '';
  // Small limits, since a machine that is a container itself may not raise them.
  const limits = 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]';
  writeFileSync(
    join(folder, 'containers.conf'),
    `[containers]\n${limits}\n[engine]\nruntime = "${runtime}"\n`,
  );
  const failed = [
    buildBase,
    () =>
      podman('run', '--rm', '--network', 'host', '--ulimit', 'host', 'base', 'node', '--version'),
  ]
    .map((step) => step())
    .find(({ status }) => status !== 0);
  return failed ? `containers do not run here: ${failed.stderr.trim().slice(-200)}` : null;
}

describeUnless(whyNoContainers(), 'the image', () => {
  let postgres: TestPostgres;
  let provider: ProviderStub;
  let url: string;
  const name = 'session-gateway-under-test';

  beforeAll(async () => {
    [postgres, provider] = await Promise.all([startPostgres(), startProviderStub()]);
    const [port, management] = [await freePort(), await freePort()];
    url = `http://127.0.0.1:${port}`;
    const built = run(
      'buildah',
      ...['bud', '--isolation', 'chroot', '--format', 'docker', '-q', '-t', 'session-gateway'],
      ...['--build-arg', 'BASE_IMAGE=localhost/base', '-f', 'deploy/Containerfile', '.'],
    );
    expect([built.status, built.stderr]).toEqual([0, expect.any(String)]);
    const env = {
      HOST: '127.0.0.1',
      MANAGEMENT_HOST: '127.0.0.1',
      PORT: String(port),
      MANAGEMENT_PORT: String(management),
      PUBLIC_URL: url,
      ALLOW_INSECURE_HTTP: 'true',
      DATABASE_URL: await postgres.createDatabase('gateway'),
      REDIS_URL: 'redis://127.0.0.1:1',
      KEYCLOAK_ISSUER: provider.issuer,
      KEYCLOAK_CLIENT_ID: provider.clientId,
      KEYCLOAK_CLIENT_SECRET: provider.clientSecret,
      SESSION_TOKEN_ENCRYPTION_KEY: 'a key text for the test of the container image',
    };
    const started = podman(
      ...['run', '--detach', '--name', name, '--network', 'host', '--ulimit', 'host'],
      ...['--read-only', '--read-only-tmpfs=false', '--cap-drop', 'ALL'],
      ...Object.entries(env).flatMap(([variable, value]) => ['--env', `${variable}=${value}`]),
      'session-gateway',
    );
    expect([started.status, started.stderr]).toEqual([0, expect.any(String)]);
    await until(async () => (await fetch(`${url}/health/ready`)).ok, {
      timeoutMs: 60_000,
      what: 'the container being ready',
    });
  });
  afterAll(async () => {
    podman('rm', '--force', '--time', '0', name);
    await Promise.all([postgres?.dispose(), provider?.dispose()]);
    rmSync(folder, { recursive: true, force: true });
  });

  test('logs people in, as a user without rights on a read-only file system', async () => {
    const browser = new HttpBrowser();
    await browser.loginThroughKeycloak(url, 'demo', 'demo', { returnTo: '/account' });
    expect((await browser.get(`${url}/auth/session`)).status).toBe(200);
    await browser.close();
    const write =
      "try{fs.writeFileSync('/tmp/x','')}catch(e){console.log(process.getuid(),e.code)}";
    expect(podman('exec', name, 'node', '-e', write).stdout).toMatch(/^65532 E(ROFS|ACCES|NOENT)/);
  });

  test('has a health check that needs no shell', () => {
    expect(podman('healthcheck', 'run', name).status).toBe(0);
  });

  test('ends in order on SIGTERM', () => {
    expect(podman('stop', '--time', '45', name).status).toBe(0);
    expect(podman('inspect', name, '--format', '{{.State.ExitCode}}').stdout.trim()).toBe('0');
  });
});
