import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { readOrCreateSecret } from './generatedSecret.js';
import { postgresBinaries, runAsUnprivileged, withoutRoot } from './postgresBinaries.js';

const run = promisify(execFile);
const USER = 'session_gateway';
const START_TIMEOUT_MS = 30_000;
const ATTEMPTS = 3;

/**
 * A PostgreSQL on a loopback port, with its files in one folder. Started here, it ends with this process,
 * but for one that is killed.
 */
export interface EmbeddedPostgres {
  readonly url: string;
  readonly pid: number;
  /** False when it was running already, started by another process or left by one that was killed. */
  readonly startedHere: boolean;
  /** Stops it if it was started here. */
  stop(): Promise<void>;
}

/** Starts the PostgreSQL of a data folder, or finds it running. The first start makes the folder. */
export async function startEmbeddedPostgres({
  dataDir,
}: {
  dataDir: string;
}): Promise<EmbeddedPostgres> {
  const cluster = join(dataDir, 'cluster');
  const password = readOrCreateSecret(join(dataDir, 'password'));
  const found = (running: Running, startedHere: boolean): EmbeddedPostgres => ({
    url: `postgresql://${USER}:${encodeURIComponent(password)}@127.0.0.1:${running.port}/postgres`,
    pid: running.pid,
    startedHere,
    stop: async () => (startedHere ? stop(running.pid) : undefined),
  });
  if (!existsSync(join(cluster, 'PG_VERSION'))) await initialise(dataDir, cluster, password);
  const log = join(dataDir, 'postgres.log');
  let server: Launched | null = null;
  let attempts = 0;
  for (const end = Date.now() + START_TIMEOUT_MS; Date.now() < end;) {
    const running = await runningOne(cluster);
    // Another process may have been quicker: then that one's is the one to use.
    if (running) return found(running, running.pid === server?.pid);
    // The files are locked while one starts, and while one that stops has not written everything down.
    if (!isLocked(cluster) && (server === null || server.exit !== null)) {
      // Another process may have taken the port or the files in between; what is really wrong stays wrong.
      if (attempts++ === ATTEMPTS) break;
      server = await launch(dataDir, cluster, log);
    }
    await delay(20);
  }
  throw new Error(
    `the embedded PostgreSQL does not start (${server?.exit ?? 'no answer in time'}): see ${log}, or set DATABASE_URL`,
  );
}

interface Launched {
  readonly pid: number | undefined;
  /** Why it ended; null while it runs. */
  exit: string | null;
}

async function launch(dataDir: string, cluster: string, log: string): Promise<Launched> {
  const port = await freePort();
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    max_connections: 100,
    shared_buffers: '64MB',
  };
  const { command, args, ...user } = withoutRoot(
    postgresBinaries().postgres,
    [
      '-D',
      cluster,
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    [cluster],
  );
  const output = openSync(log, 'a', 0o600);
  // A session of its own: Ctrl-C on the terminal is for the gateway, which stops this one when it is done with it.
  const child = spawn(command, args, {
    ...user,
    detached: true,
    stdio: ['ignore', output, output],
    env: environment(dataDir),
  });
  closeSync(output);
  child.unref();
  const server: Launched = { pid: child.pid, exit: null };
  // Whatever ends this process: nobody else knows of the server. It need not be waited for, the next start does that.
  const end = (): void => void child.kill('SIGINT');
  process.once('exit', end);
  child.once('error', (error) => {
    server.exit = error.message;
  });
  child.once('exit', (code, signal) => {
    server.exit = `it ended with ${code ?? signal ?? 'an error'}`;
    process.off('exit', end);
  });
  return server;
}

interface Running {
  pid: number;
  port: number;
}

const isLocked = (cluster: string): boolean => existsSync(join(cluster, 'postmaster.pid'));

/**
 * The server that says it is ready and answers on its port; a left-over pid file of a process that is
 * no PostgreSQL is removed.
 */
async function runningOne(cluster: string): Promise<Running | null> {
  const file = join(cluster, 'postmaster.pid');
  const lines = readOrEmpty(file)
    .split('\n')
    .map((line) => line.trim());
  const [pid, port, status] = [Number(lines[0]), Number(lines[3]), lines[7]];
  if (!pid) return null;
  if (!/postgres|setpriv/.test(programOf(pid))) {
    rmSync(file, { force: true });
    return null;
  }
  return status === 'ready' && (await answers(port)) ? { pid, port } : null;
}

async function initialise(dataDir: string, cluster: string, password: string): Promise<void> {
  const { initdb } = postgresBinaries();
  const draft = `${cluster}.${randomUUID()}`;
  const passwordFile = `${draft}.password`;
  const user = runAsUnprivileged();
  mkdirSync(draft, { mode: 0o700 });
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user) for (const path of [draft, passwordFile]) chownSync(path, user.uid, user.gid);
  try {
    const { command, args, ...as } = withoutRoot(
      initdb,
      [
        '-D',
        draft,
        '-U',
        USER,
        '-A',
        'scram-sha-256',
        `--pwfile=${passwordFile}`,
        '-E',
        'UTF8',
        '--locale=C',
        '--no-sync',
      ],
      [draft],
    );
    await run(command, [...args], { ...as, env: environment(dataDir) });
    // Of several processes at once, the first to finish provides the files.
    if (!existsSync(cluster)) renameSync(draft, cluster);
  } catch (error) {
    if (existsSync(join(cluster, 'PG_VERSION'))) return;
    const { stderr } = error as { stderr?: string };
    throw new Error(
      `the embedded PostgreSQL cannot be set up in ${dataDir}: ${stderr?.trim().split('\n').pop() ?? String(error)}; see DATA_DIR, or set DATABASE_URL`,
      { cause: error },
    );
  } finally {
    rmSync(passwordFile, { force: true });
    rmSync(draft, { recursive: true, force: true });
  }
}

async function stop(pid: number): Promise<void> {
  // SIGINT is PostgreSQL's fast shutdown: it ends connections and writes everything down.
  if (!signal(pid, 'SIGINT')) return;
  for (const end = Date.now() + START_TIMEOUT_MS; Date.now() < end && signal(pid, 0);)
    await delay(20);
}

function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}

/** What runs under a pid; empty when nothing does. Where there is no /proc, whatever runs is taken for PostgreSQL. */
function programOf(pid: number): string {
  if (!signal(pid, 0)) return '';
  return existsSync('/proc/self/comm') ? readOrEmpty(`/proc/${pid}/comm`) : 'postgres';
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: 1_000 });
    const end = (result: boolean) => () => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false));
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
      .once('error', reject)
      .listen(0, '127.0.0.1', () => {
        const address = server.address();
        server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
      });
  });
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** PostgreSQL takes locale and time zone from its environment; a clean one makes all machines alike. */
const environment = (home: string): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  LC_ALL: 'C',
  TZ: 'UTC',
  HOME: home,
});
