import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  describeWith,
  startPgbouncer,
  startPostgres,
  startReplica,
  type TestPgbouncer,
  type TestPostgres,
  until,
} from '@session-gateway/testkit';
import { connectAlone } from './connection.js';
import { isStorageUnavailable } from './errors.js';
import { findPrismaDir, migrate } from './migrate.js';
import { openDatabase } from './prisma.js';

const prismaDir = findPrismaDir(import.meta.url);
const folder = mkdtempSync(join(tmpdir(), 'session-gateway-reach-'));
chmodSync(folder, 0o777);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ask = async (url: string, text = 'SELECT 1 AS one'): Promise<unknown> => {
  const client = await connectAlone(url, 'a test');
  try {
    return (await client.query<Record<string, unknown>>(text)).rows[0];
  } finally {
    await client.end();
  }
};

describeWith(['python3+openssl'], 'PostgreSQL with TLS, on a socket, beside a replica', () => {
  let postgres: TestPostgres;
  let replica: TestPostgres;
  const ca = join(folder, 'ca.crt');
  const openssl = (...args: string[]): void =>
    void execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });

  /** A certificate for `name`, where the server finds it. */
  function certify(name: string, days: string): void {
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'server.key',
      '-out',
      'server.csr',
      '-subj',
      `/CN=${name}`,
      '-addext',
      `subjectAltName=DNS:${name}`,
    );
    openssl(
      'x509',
      '-req',
      '-in',
      'server.csr',
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-copy_extensions',
      'copy',
      '-days',
      days,
      '-out',
      'server.crt',
    );
    const { uid, gid } = statSync(postgres.files);
    for (const file of ['server.key', 'server.crt']) {
      chownSync(join(folder, file), uid, gid);
      chmodSync(join(folder, file), 0o600);
    }
  }

  beforeAll(async () => {
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'ca.key',
      '-out',
      'ca.crt',
      '-subj',
      '/CN=a test CA',
      '-days',
      '2',
    );
    postgres = await startPostgres({
      settings: { unix_socket_directories: `'${folder}'`, wal_level: 'replica' },
    });
    replica = await startReplica(postgres);
    certify('localhost', '2');
    for (const [name, value] of [
      ['ssl_cert_file', join(folder, 'server.crt')],
      ['ssl_key_file', join(folder, 'server.key')],
      ['ssl', 'on'],
    ])
      await postgres.query(`ALTER SYSTEM SET ${name ?? ''} = '${value ?? ''}'`);
    await postgres.stop();
    await postgres.start();
  });
  afterAll(async () => {
    await replica.dispose();
    await postgres.dispose();
  });
  const at = (host: string, query: string): string =>
    `postgresql://postgres@${host}:${postgres.port}/postgres?${query}`;
  const ENCRYPTED = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';

  test('is reached in each of six modes as libpq means them', async () => {
    const ssl = (host: string, query: string) => ask(at(host, query), ENCRYPTED);
    expect(await ssl('localhost', 'sslmode=disable')).toEqual({ ssl: false });
    expect(await ssl('localhost', 'sslmode=allow')).toEqual({ ssl: false });
    expect(await ssl('localhost', 'sslmode=prefer')).toEqual({ ssl: true });
    expect(await ssl('localhost', 'sslmode=require')).toEqual({ ssl: true });
    expect(await ssl('127.0.0.1', `sslmode=require&sslrootcert=${ca}`)).toEqual({ ssl: true });
    expect(await ssl('127.0.0.1', `sslmode=verify-ca&sslrootcert=${ca}`)).toEqual({ ssl: true });
    expect(await ssl('localhost', `sslmode=verify-full&sslrootcert=${ca}`)).toEqual({ ssl: true });
    for (const [host, query] of [
      ['127.0.0.1', `sslmode=verify-full&sslrootcert=${ca}`],
      ['localhost', 'sslmode=verify-full'],
      ['localhost', 'sslmode=verify-ca'],
      ['localhost', 'sslrootcert=system'],
    ] as const) {
      const error: unknown = await ssl(host, query).catch((fault: unknown) => fault);
      expect([query, isStorageUnavailable(error)]).toEqual([query, true]);
    }
    // A server without TLS.
    const plain = (query: string) => ask(`${replica.url}?${query}`, ENCRYPTED);
    expect(await plain('sslmode=prefer')).toEqual({ ssl: false });
    await expect(plain('sslmode=require')).rejects.toThrow('does not support SSL');
  });

  test('is away while its certificate is no good, and back with another', async () => {
    const db = openDatabase({
      url: at('localhost', `sslmode=verify-full&sslrootcert=${ca}`),
      maxConnections: 1,
    });
    const outcome = () => db.ping().then(() => null, isStorageUnavailable);
    expect(await outcome()).toBeNull();
    certify('another.example', '2');
    await postgres.stop();
    await postgres.start();
    expect([await outcome(), await outcome()]).toEqual([true, true]);
    certify('localhost', '2');
    await postgres.stop();
    await postgres.start();
    await until(async () => (await outcome()) === null, { what: 'the database being back' });
    await db.close();
  });

  test('is reached through its socket', async () => {
    expect(
      await ask(
        `postgresql://postgres@/postgres?host=${folder}&port=${postgres.port}`,
        'SELECT inet_server_addr() AS address',
      ),
    ).toEqual({ address: null });
    process.env['PGHOST'] = folder;
    try {
      expect(
        await ask(
          `postgresql://postgres@/postgres?port=${postgres.port}`,
          'SELECT inet_server_addr() AS address',
        ),
      ).toEqual({ address: null });
    } finally {
      delete process.env['PGHOST'];
    }
  });

  test('is found among several hosts, and found again after a failover', async () => {
    const url = (kind: string) =>
      `postgresql://postgres@127.0.0.1:1,127.0.0.1:${replica.port},127.0.0.1:${postgres.port}/postgres?target_session_attrs=${kind}`;
    const port = async (kind: string) =>
      ask(url(kind), `SELECT current_setting('port')::int AS port`);
    expect(await port('read-write')).toEqual({ port: postgres.port });
    expect(await port('primary')).toEqual({ port: postgres.port });
    expect(await port('standby')).toEqual({ port: replica.port });
    expect(await port('any')).toEqual({ port: replica.port });
    const db = openDatabase({ url: url('read-write'), maxConnections: 1 });
    await db.ping();
    await postgres.stop();
    await replica.query('SELECT pg_promote()');
    await until(
      () =>
        db.ping().then(
          () => true,
          () => false,
        ),
      { what: 'the new primary being used' },
    );
    expect(await db.sql.query(`SELECT current_setting('port')::int AS port`)).toEqual([
      { port: replica.port },
    ]);
    await db.close();
  });
});

describeWith(['pgbouncer'], 'PgBouncer in transaction mode', () => {
  let postgres: TestPostgres;
  let pooler: TestPgbouncer;
  beforeAll(async () => {
    postgres = await startPostgres();
    pooler = await startPgbouncer({ to: postgres.port });
  });
  afterAll(async () => {
    await pooler.dispose();
    await postgres.dispose();
  });

  test('is enough to migrate, for several at once, and for transactions with bounds', async () => {
    const url = pooler.through(await postgres.createDatabase());
    const results = await Promise.all([1, 2].map(() => migrate({ url, prismaDir })));
    expect(results.map(({ applied }) => applied.length > 0).sort()).toEqual([false, true]);
    const db = openDatabase({ url });
    expect(
      await db.transaction((sql) => sql.query('SHOW lock_timeout'), {
        lockMs: 1_000,
        statementMs: 2_000,
      }),
    ).toEqual([{ lock_timeout: '1s' }]);
    expect(await db.sql.query('SHOW lock_timeout')).toEqual([{ lock_timeout: '0' }]);
    expect(await (await db.typed()).user.count()).toBe(0);
    await pooler.stop();
    expect(await db.ping().catch(isStorageUnavailable)).toBe(true);
    await pooler.start();
    await until(
      () =>
        db.ping().then(
          () => true,
          () => false,
        ),
      { what: 'the pooler being back' },
    );
    await db.close();
  });
});
