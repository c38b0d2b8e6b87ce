import { existsSync, statSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type ChildExit,
  freePort,
  isAlive,
  signalPid,
  startChild,
  until,
} from '@session-gateway/keycloak-server';

const root = fileURLToPath(new URL('../../..', import.meta.url));

export interface GatewayOptions {
  /** The gateway's configuration; nothing of it comes from this process's environment. */
  env?: Record<string, string | undefined>;
  /** The program; a .ts file runs through tsx. Default: the packaged one, or what `nx run api-gateway:build` makes. */
  entry?: string;
  /** Its port when that must be known before, as for a provider's redirect URIs. */
  port?: number;
  flags?: string[];
  /** The descriptor that is its standard output, in place of what `stdout()` tells. */
  stdout?: number;
  /** Default true; false resolves as soon as the process runs, as for one that is to refuse its configuration. */
  waitUntilLive?: boolean;
  timeoutMs?: number;
}

export interface TestGateway {
  /** Where it listens. */
  readonly url: string;
  readonly port: number;
  readonly managementUrl: string;
  readonly pid: number;
  /** What it wrote so far: one stream, the other, both in order of arrival. */
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly output: () => string;
  /** Waits for words in its output: a pipe may bring them later than the answer that they are about. */
  said(words: string | RegExp): Promise<void>;
  readonly signal: (name: NodeJS.Signals) => boolean;
  /** The exit code; null when a signal ended it. */
  readonly exited: Promise<number | null>;
  /** Asks it to end and resolves with the exit code. */
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

/** What a program needs of its environment that is no configuration of the gateway. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'TMPDIR',
  'LANG',
  'LC_ALL',
  'XDG_CACHE_HOME',
  'NODE_EXTRA_CA_CERTS',
  'NODE_V8_COVERAGE',
];
const STOP_WITHIN_MS = 30_000;
/** A gateway whose PostgreSQL is away is live all the same. */
const MIGRATED_WITHIN_MS = 4_000;

const BUILT = 'dist/apps/api-gateway/main.js';
/** What ships: `nx run api-gateway:package`. */
export const PACKAGED_GATEWAY = 'dist/session-gateway/main.js';
/** What stands in for these is not in the package; each may be set by another name. */
const NOT_EMBEDDED = [
  ['DATABASE_URL', 'DATABASE_URL_FILE'],
  ['KEYCLOAK_ISSUER'],
  ['SESSION_TOKEN_ENCRYPTION_KEY', 'SESSION_TOKEN_KEYRING', 'SESSION_TOKEN_KEYRING_FILE'],
];

/** What is tested is what ships, where it can do the test's work and is not older than the build. */
function usualEntry(env: Record<string, string | undefined>): string {
  const [packaged, built] = [PACKAGED_GATEWAY, BUILT].map((file) =>
    statSync(resolve(root, file), { throwIfNoEntry: false }),
  );
  const isFresh = packaged && built ? packaged.mtimeMs >= built.mtimeMs : Boolean(packaged);
  const needsNothing = NOT_EMBEDDED.every((names) => names.some((name) => env[name]));
  return isFresh && needsNothing ? PACKAGED_GATEWAY : BUILT;
}

/**
 * Starts a gateway as a process of its own on free ports with a data folder of its own, and waits for `/health/live`.
 */
export async function startGateway(options: GatewayOptions = {}): Promise<TestGateway> {
  const entry = resolve(root, options.entry ?? usualEntry(options.env ?? {}));
  if (!existsSync(entry)) throw new Error(`${entry} does not exist: npx nx run api-gateway:build`);
  const port = options.port ?? (await freePort());
  const managementPort = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'session-gateway-'));
  const url = `http://127.0.0.1:${port}`;
  const passedOn = Object.fromEntries(
    PASSED_ON.flatMap((name) =>
      process.env[name] === undefined ? [] : [[name, process.env[name]]],
    ),
  );
  const child = await startChild(
    process.execPath,
    [...(entry.endsWith('.ts') ? ['--import', 'tsx'] : []), entry, ...(options.flags ?? [])],
    {
      cwd: root,
      guardSignal: 'TERM',
      tempFolder: folder,
      stdout: options.stdout,
      env: {
        ...passedOn,
        HOST: '127.0.0.1',
        PORT: String(port),
        PUBLIC_URL: url,
        MANAGEMENT_PORT: String(managementPort),
        DATA_DIR: folder,
        ...options.env,
      },
    },
  );
  const cleaned = child.exited.then(async (exit: ChildExit) => {
    await endEmbeddedPostgres(folder);
    await rm(folder, { recursive: true, force: true });
    return exit.code;
  });

  const gateway: TestGateway = {
    url,
    port,
    managementUrl: `http://127.0.0.1:${managementPort}`,
    pid: child.pid,
    stdout: child.stdout,
    stderr: child.stderr,
    output: child.output,
    said: (words) =>
      until(
        () =>
          typeof words === 'string' ? child.output().includes(words) : words.test(child.output()),
        { what: `the gateway saying ${String(words)}` },
      ).then(() => undefined),
    signal: child.signal,
    exited: cleaned,
    async stop() {
      child.signal('SIGCONT');
      child.signal('SIGTERM');
      const overdue = setTimeout(() => child.signal('SIGKILL'), STOP_WITHIN_MS);
      return cleaned.finally(() => clearTimeout(overdue));
    },
    async kill() {
      child.signal('SIGKILL');
      await cleaned;
    },
  };
  if (options.waitUntilLive ?? true) {
    const live = async (): Promise<boolean> =>
      child.exit() !== null || (await fetch(`${url}/health/live`)).ok;
    await until(live, {
      timeoutMs: options.timeoutMs ?? 60_000,
      what: 'the gateway being live',
    }).catch(async (cause: unknown) => {
      await gateway.kill();
      throw new Error(`the gateway did not become live:\n${child.output().slice(-5_000)}`, {
        cause,
      });
    });
    // It listens while it migrates; most tests want its first answers to be those of a gateway that has done so.
    const migrated = async (): Promise<boolean> => {
      const answer = await fetch(`${url}/health/ready`);
      const { dependencies } = (await answer.json()) as {
        dependencies?: Record<string, { status: string }>;
      };
      return dependencies?.['database']?.status === 'ok';
    };
    await until(async () => child.exit() !== null || (await migrated()), {
      timeoutMs: MIGRATED_WITHIN_MS,
      what: 'the schema being there',
    }).catch(() => undefined);
    if (child.exit())
      throw new Error(`the gateway ended with ${await cleaned}:\n${child.output().slice(-5_000)}`);
  }
  return gateway;
}

/** A gateway that was killed leaves the PostgreSQL in its data folder running. */
async function endEmbeddedPostgres(folder: string): Promise<void> {
  for (const name of await readdir(folder, { recursive: true })) {
    if (!name.endsWith('postmaster.pid')) continue;
    const pid = Number((await readFile(join(folder, name), 'utf8').catch(() => '')).split('\n')[0]);
    if (pid > 1 && signalPid(pid, 'SIGQUIT'))
      await until(() => !isAlive(pid), { what: 'the end of the embedded PostgreSQL' });
  }
}
