import { existsSync } from 'node:fs';
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runAsUnprivileged } from '@session-gateway/embedded';
import { type Child, freePort, startChild, until } from '@session-gateway/keycloak-server';
import { findProgram } from './findProgram.js';

export interface TestPgbouncer {
  readonly port: number;
  /** The same database by way of the pooler. */
  through(databaseUrl: string): string;
  stop(): Promise<void>;
  /** On the same port. */
  start(): Promise<void>;
  dispose(): Promise<void>;
  log(): string;
}

// Debian keeps it where only root's PATH leads.
const program = (): string | null =>
  findProgram('pgbouncer') ?? (existsSync('/usr/sbin/pgbouncer') ? '/usr/sbin/pgbouncer' : null);

/** Why there is no PgBouncer on this machine; null when there is one. */
export function whyNoPgbouncer(): string | null {
  return program() ? null : 'no pgbouncer on the PATH (Debian: apt-get install pgbouncer)';
}

/** A PgBouncer with default settings in front of a PostgreSQL on this machine; everybody is its superuser. */
export async function startPgbouncer({
  to,
  mode = 'transaction',
}: {
  to: number;
  mode?: 'transaction' | 'session';
}): Promise<TestPgbouncer> {
  const binary = program();
  if (!binary) throw new Error(whyNoPgbouncer() ?? 'no pgbouncer');
  const user = runAsUnprivileged();
  const folder = await mkdtemp(join(tmpdir(), 'session-gateway-pgbouncer-'));
  const port = await freePort();
  const file = join(folder, 'pgbouncer.ini');
  await writeFile(
    file,
    `[databases]\n* = host=127.0.0.1 port=${to} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\nauth_type = any\npool_mode = ${mode}\ndefault_pool_size = 3\n`,
  );
  if (user) for (const path of [folder, file]) await chown(path, user.uid, user.gid);
  let child: Child | undefined;
  const start = async (): Promise<void> => {
    const started = await startChild(binary, [file], {
      env: { PATH: process.env['PATH'] },
      cwd: folder,
      guardSignal: 'QUIT',
      tempFolder: folder,
      ...(user ? { user } : {}),
    });
    child = started;
    await until(
      () => {
        if (started.exit()) throw new Error(`PgBouncer did not start:\n${started.output()}`);
        return answers(port);
      },
      { what: 'PgBouncer listening' },
    );
  };
  const stop = async (): Promise<void> => {
    if (!child || child.exit()) return;
    child.signal('SIGQUIT');
    await child.exited;
  };
  await start();
  return {
    port,
    through: (databaseUrl) => databaseUrl.replace(/:\d+\//, `:${port}/`),
    stop,
    start,
    async dispose() {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
    log: () => child?.output() ?? '',
  };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
