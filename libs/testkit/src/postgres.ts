import { execFile } from 'node:child_process';
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { postgresBinaries, runAsUnprivileged, withoutRoot } from '@session-gateway/embedded';
import {
  type Child,
  childrenOf,
  freePort,
  isAlive,
  signalPid,
  startChild,
  until,
} from '@session-gateway/keycloak-server';
import pg from 'pg';

const run = promisify(execFile);

export interface TestPostgres {
  /** Superuser, database `postgres`. */
  readonly url: string;
  readonly port: number;
  /** The postmaster's; another one after `start`. */
  readonly pid: number;
  /** The folder of its files. */
  readonly files: string;
  /** A new, empty database (or a copy of the database `template`, which nobody may be connected to); its URL. */
  createDatabase(name?: string, template?: string): Promise<string>;
  /** The rows of one statement, on the database of `url` (default: the cluster's own). */
  query<Row extends object = Record<string, unknown>>(
    text: string,
    values?: unknown[],
    url?: string,
  ): Promise<Row[]>;
  /** The text of every value of every row of every table, unescaped, one row per line: what a thief would search. */
  dump(url: string): Promise<string>;
  /** `fast` ends connections in order, `immediate` leaves crash recovery to the next start. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  /** On the same port with the same files. */
  start(): Promise<void>;
  /** SIGKILL to the postmaster and all its processes; resolves when they are gone. */
  kill(): Promise<void>;
  /** Stops every process in its tracks: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Ends it and removes its files. */
  dispose(): Promise<void>;
  /** The end of the server's log. */
  log(): string;
}

/**
 * A streaming replica of `primary`, which is stopped for the moment that it takes to copy its files. It is read-only,
 * and replays whatever the primary writes.
 */
export async function startReplica(primary: TestPostgres): Promise<TestPostgres> {
  return startPostgres({}, primary);
}

/**
 * A throw-away PostgreSQL on a free port. Commits survive `kill`; only with `durable` do they also wait for the disk,
 * as measurements need. TEST_POSTGRES_BIN names a folder with other binaries (initdb, postgres) than the embedded ones.
 */
export async function startPostgres(
  options: { durable?: boolean; settings?: Record<string, string> } = {},
  primary?: TestPostgres,
): Promise<TestPostgres> {
  const binaries = binariesToUse();
  const user = runAsUnprivileged();
  const folder = await mkdtemp(join(tmpdir(), 'session-gateway-postgres-'));
  if (user) await chown(folder, user.uid, user.gid);
  const files = join(folder, 'files');
  const port = await freePort();
  const url = `postgresql://postgres@127.0.0.1:${port}/postgres`;

  // PostgreSQL takes locale and password file from the environment; a clean one makes all machines alike.
  const env = { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC', HOME: folder };
  if (primary) {
    await primary.stop();
    await run('cp', ['-a', primary.files, files]);
    await primary.start();
    await writeFile(join(files, 'standby.signal'), '');
  } else {
    const initdb = withoutRoot(
      binaries.initdb,
      ['-D', files, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
      [folder],
    );
    await run(initdb.command, [...initdb.args], { cwd: folder, env, ...userOf(initdb) });
  }
  const settings = {
    port: String(port),
    listen_addresses: "'127.0.0.1'",
    unix_socket_directories: "''",
    max_connections: '200',
    shared_buffers: "'64MB'",
    ...(options.durable ? {} : { fsync: 'off', full_page_writes: 'off' }),
    ...(primary ? { primary_conninfo: `'host=127.0.0.1 port=${primary.port} user=postgres'` } : {}),
    ...options.settings,
  };
  await writeFile(
    join(files, 'postgresql.auto.conf'),
    Object.entries(settings)
      .map(([name, value]) => `${name} = ${value}\n`)
      .join(''),
  );

  let child: Child | undefined;
  let log = '';
  const running = (): Child => {
    if (!child || child.exit()) throw new Error('this PostgreSQL is not running');
    return child;
  };
  const tree = (): number[] => [running().pid, ...childrenOf(running().pid)];

  async function start(): Promise<void> {
    const postgres = withoutRoot(binaries.postgres, ['-D', files], [folder]);
    const started = await startChild(postgres.command, [...postgres.args], {
      env,
      cwd: folder,
      user: userOf(postgres),
      guardSignal: 'QUIT',
      tempFolder: folder,
      onOutput: (text) => (log = (log + text).slice(-200_000)),
    });
    child = started;
    await until(
      async () => {
        if (started.exit()) return 'exited';
        await query('select 1');
        return 'ready';
      },
      { timeoutMs: 60_000, what: 'PostgreSQL accepting connections' },
    ).then((state) => {
      if (state === 'exited') throw new Error(`PostgreSQL did not start:\n${started.output()}`);
    });
  }

  async function stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    if (!child || child.exit()) return;
    thaw();
    child.signal(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    await child.exited;
  }

  async function kill(): Promise<void> {
    if (!child || child.exit()) return;
    const doomed = tree();
    for (const pid of doomed) signalPid(pid, 'SIGKILL');
    await child.exited;
    await until(() => !doomed.some(isAlive), { what: 'the end of all PostgreSQL processes' });
    // Its pid may be another process's by the next start, which would then be refused.
    await rm(join(files, 'postmaster.pid'), { force: true });
  }

  function thaw(): void {
    for (const pid of tree()) signalPid(pid, 'SIGCONT');
  }

  async function query<Row extends object>(
    text: string,
    values: unknown[] = [],
    on = url,
  ): Promise<Row[]> {
    const client = new pg.Client({ connectionString: on, connectionTimeoutMillis: 5_000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query<Row & pg.QueryResultRow>(text, values)).rows;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  let databases = 0;
  await start().catch(async (error: unknown) => {
    await kill();
    await rm(folder, { recursive: true, force: true });
    throw error;
  });
  return {
    url,
    port,
    files,
    get pid() {
      return running().pid;
    },
    async createDatabase(name = `test_${process.pid}_${(databases += 1)}`, template = 'template0') {
      await query(
        `create database ${pg.escapeIdentifier(name)} template ${pg.escapeIdentifier(template)}`,
      );
      return url.replace(/postgres$/, encodeURIComponent(name));
    },
    query,
    dump: (on) => dump((text) => query(text, [], on)),
    stop,
    start,
    kill,
    freeze() {
      // The postmaster first, so that it starts nothing while its children are being stopped.
      for (const pid of tree()) signalPid(pid, 'SIGSTOP');
      for (const pid of tree()) signalPid(pid, 'SIGSTOP');
    },
    thaw,
    async dispose() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
    log: () => log,
  };
}

function userOf({
  uid,
  gid,
}: {
  uid?: number;
  gid?: number;
}): { uid: number; gid: number } | undefined {
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}

function binariesToUse(): { initdb: string; postgres: string } {
  const folder = process.env['TEST_POSTGRES_BIN'];
  return folder
    ? { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') }
    : postgresBinaries();
}

type Ask = <Row extends object>(text: string) => Promise<Row[]>;

async function dump(ask: Ask): Promise<string> {
  const columns = await ask<{ schema: string; relation: string; name: string }>(`
    select n.nspname as schema, c.relname as relation, a.attname as name
      from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
     where c.relkind in ('r', 'p', 'm') and not c.relispartition and a.attnum > 0 and not a.attisdropped
       and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
     order by 1, 2, a.attnum`);
  const tables = new Map<string, string[]>();
  for (const { schema, relation, name } of columns) {
    const table = `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(relation)}`;
    tables.set(table, [...(tables.get(table) ?? []), name]);
  }
  const lines: string[] = [];
  for (const [table, names] of tables) {
    const texts = names.map((name) => `${pg.escapeIdentifier(name)}::text`).join(', ');
    const rows = await ask<{ texts: (string | null)[] }>(
      `select array[${texts}] as texts from ${table}`,
    );
    for (const { texts: values } of rows)
      lines.push(`${table}\t${names.map((name, i) => `${name}=${values[i] ?? ''}`).join('\t')}`);
  }
  return lines.join('\n');
}
