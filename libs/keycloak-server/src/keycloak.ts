import { randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AdminApi, connectAdmin } from './admin.js';
import { type Child, type ChildExit, startChild } from './child.js';
import { installKeycloak } from './install.js';
import { javaProgram, whyNoJava } from './java.js';
import { freePort, isFree } from './ports.js';
import { gatewayClient, type RealmOptions, renderRealm } from './realm.js';
import { until } from './until.js';

export interface KeycloakOptions extends RealmOptions {
  port?: number;
  /** The host name in the issuer; the server itself listens on loopback. Default 127.0.0.1. */
  hostname?: string;
  /** The gateway that gets logout tokens; the same as the first of `gatewayUrls`. */
  gatewayUrl?: string;
  /** The distribution to run; default: the installed one, installed now if need be. */
  home?: string;
  onLog?: (text: string) => void;
}

export interface KeycloakServer extends AdminApi {
  readonly issuer: string;
  readonly baseUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** Null while it is stopped. */
  readonly pid: number | null;
  /** Ends it in order; realm, users and sessions are kept for `start`. */
  stop(): Promise<void>;
  /** On the same port with everything it knew. */
  start(): Promise<void>;
  /** SIGKILL. Its database may lose what was written in the last half second. */
  kill(): Promise<void>;
  /** Copies what it has stored, while it is stopped; the answer puts that back, while it is stopped again. */
  copyData(): Promise<() => Promise<void>>;
  /** Ends it and removes its files. */
  dispose(): Promise<void>;
  /** Resolves when the process that runs now has ended, for whatever reason. */
  exited(): Promise<ChildExit>;
  /** The end of the server's log. */
  log(): string;
}

/** Measured starts take 4 to 10 s; a busy machine may take several times that. */
const START_TIMEOUT_MS = 300_000;

/** What kc.sh passes to Java, with a small heap and without the compiler that pays off only in long runs. */
const JAVA_OPTIONS = [
  '-Xms64m',
  '-Xmx512m',
  '-XX:MaxMetaspaceSize=256m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-XX:+ExitOnOutOfMemoryError',
  '-Dfile.encoding=UTF-8',
  '-Duser.language=en',
  '-Duser.country=US',
  '-Djava.util.logging.manager=org.jboss.logmanager.LogManager',
  '-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory',
  ...['java.util', 'java.util.concurrent', 'java.security', 'java.lang'].map(
    (name) => `--add-opens=java.base/${name}=ALL-UNNAMED`,
  ),
];

/**
 * Starts a real Keycloak with the development realm on loopback and resolves when it answers. Each server has a home of
 * its own in a temporary folder (the distribution by symbolic links, its database inside), so that several run side by
 * side. It runs as the program the ports belong to, not under kc.sh, so that signals reach it.
 */
export async function startKeycloak(options: KeycloakOptions = {}): Promise<KeycloakServer> {
  const distribution =
    options.home ?? (await installKeycloak(options.onLog ? { onProgress: options.onLog } : {}));
  const noJava = whyNoJava();
  if (noJava !== null) throw new Error(noJava);
  const port = options.port ?? (await freePort());
  const managementPort = await freePort();
  const baseUrl = `http://${options.hostname ?? '127.0.0.1'}:${port}`;
  const password = randomBytes(18).toString('base64url');

  const gatewayUrls = [
    ...(options.gatewayUrl === undefined ? [] : [options.gatewayUrl]),
    ...(options.gatewayUrls ?? []),
  ];
  const realm = renderRealm({ ...options, gatewayUrls: [...new Set(gatewayUrls)] });
  const folder = await layOutHome(distribution, JSON.stringify(realm));
  const issuer = `${baseUrl}/realms/${realm.realm}`;
  const args = [
    ...JAVA_OPTIONS,
    `-Dkc.home.dir=${folder}`,
    `-Djboss.server.config.dir=${join(folder, 'conf')}`,
    `-Djava.io.tmpdir=${join(folder, 'tmp')}`,
    '-cp',
    join(folder, 'lib/quarkus-run.jar'),
    'io.quarkus.bootstrap.runner.QuarkusEntryPoint',
    'start',
    '--optimized',
    '--import-realm',
    '--cache=local',
    '--http-enabled=true',
    `--hostname=${baseUrl}`,
    '--http-host=127.0.0.1',
    `--http-port=${port}`,
    `--http-management-port=${managementPort}`,
    '--shutdown-delay=0s',
    '--log-level=INFO,io.smallrye.health:WARN',
  ];
  const env: NodeJS.ProcessEnv = {
    // Another Keycloak's settings in this process's environment are not meant for this one.
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('KC_'))),
    KC_BOOTSTRAP_ADMIN_USERNAME: 'bootstrap',
    KC_BOOTSTRAP_ADMIN_PASSWORD: password,
  };

  let child: Child | undefined;
  const admin = connectAdmin({
    baseUrl,
    realm: realm.realm,
    clientId: gatewayClient(realm).clientId,
    username: 'bootstrap',
    password,
  });

  async function start(): Promise<void> {
    if (child && !child.exit()) return;
    if (!(await isFree(port))) throw new Error(`something else listens on port ${port}`);
    const started = await startChild(javaProgram(), args, {
      cwd: folder,
      env,
      tempFolder: folder,
      ...(options.onLog ? { onOutput: options.onLog } : {}),
    });
    child = started;
    // The management port is open, and may say ready, before the main one is.
    const ready = async (): Promise<boolean> =>
      (await fetch(`http://127.0.0.1:${managementPort}/health/ready`)).ok &&
      (await fetch(`http://127.0.0.1:${port}/realms/${realm.realm}`)).ok;
    await until(async () => started.exit() !== null || (await ready()), {
      timeoutMs: START_TIMEOUT_MS,
      everyMs: 50,
      what: 'Keycloak being ready',
    });
    if (started.exit())
      throw new Error(`Keycloak did not start:\n${started.output().slice(-5_000)}`);
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    child?.signal(signal);
    await child?.exited;
    admin.forget();
  }

  async function dispose(): Promise<void> {
    await end('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }

  await start().catch(async (error: unknown) => {
    await dispose();
    throw error;
  });
  return {
    ...admin.api,
    issuer,
    baseUrl,
    clientId: gatewayClient(realm).clientId,
    clientSecret: gatewayClient(realm).secret ?? '',
    get pid() {
      return child && !child.exit() ? child.pid : null;
    },
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    async copyData() {
      const [data, copy] = [join(folder, 'data'), join(folder, 'copy')];
      await cp(data, copy, { recursive: true });
      return async () => {
        await rm(data, { recursive: true });
        await rename(copy, data);
      };
    },
    dispose,
    exited: () => child?.exited ?? Promise.resolve({ code: null, signal: null }),
    log: () => child?.output() ?? '',
  };
}

async function layOutHome(distribution: string, realm: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'session-gateway-keycloak-'));
  for (const name of ['bin', 'conf', 'lib', 'providers', 'themes'])
    await symlink(join(distribution, name), join(folder, name));
  await mkdir(join(folder, 'tmp'));
  await mkdir(join(folder, 'data/import'), { recursive: true });
  await writeFile(join(folder, 'data/import/realm.json'), realm);
  return folder;
}
