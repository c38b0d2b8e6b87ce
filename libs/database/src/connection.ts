import { existsSync, readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { rootCertificates } from 'node:tls';
import pg from 'pg';
import { type DatabaseAddress, parseDatabaseUrl } from './databaseAddress.js';

/** Waiting for a connection that nobody's request waits for. */
const CONNECT_MS = 5_000;
/** Where distributions keep the list of certificates that the machine trusts. */
const SYSTEM_ROOTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/cert.pem',
];

interface Place {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** One connection of its own, outside of any pool, connected. */
export async function connectAlone(url: string, applicationName: string): Promise<pg.Client> {
  const { Client, ...config } = clientOptions(url, {
    connectionTimeoutMillis: CONNECT_MS,
    application_name: applicationName,
  });
  const client = new Client(config);
  // A connection that breaks between two statements must not end the process; the next statement tells.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/**
 * What pg needs for connections to the database at `url`: with libpq's meanings of sslmode, failover between
 * hosts, Unix sockets. No start-up parameters beyond those of every client, and no session state, so a
 * pooler may be in between.
 */
export function clientOptions(
  url: string,
  more: pg.ClientConfig,
): pg.ClientConfig & { Client: new (config?: pg.ClientConfig) => pg.Client } {
  const address = parseDatabaseUrl(url);
  const { user, password, database, options, applicationName } = address;
  const [first] = places(address);
  return {
    ...more,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password }),
    ...(database === undefined ? {} : { database }),
    ...(options === undefined ? {} : { options }),
    ...(applicationName === undefined ? {} : { application_name: applicationName }),
    ...(address.channelBinding ? { enableChannelBinding: true } : {}),
    ...(address.sslNegotiation === 'direct' ? { sslnegotiation: 'direct' as const } : {}),
    host: first?.host ?? 'localhost',
    port: first?.port ?? 5432,
    // Decided for each connection, so that replaced files count.
    ssl: false,
    Client: clientFor(address),
  };
}

/** Every host in every way in which it may be reached, in order. */
function places({ hosts, sslMode }: DatabaseAddress): Place[] {
  const ways: Readonly<Record<string, readonly boolean[]>> = {
    disable: [false],
    allow: [false, true],
    prefer: [true, false],
  };
  return hosts.flatMap(({ host, port }) =>
    (host.startsWith('/') ? [false] : (ways[sslMode] ?? [true])).map((tls) => ({
      host,
      port,
      tls,
    })),
  );
}

/** A client that looks for the host to connect to first where there is a choice. */
function clientFor(address: DatabaseAddress): new (config?: pg.ClientConfig) => pg.Client {
  const all = places(address);
  // With one host, the way that worked last; several hosts are looked at each time, since they change roles.
  const state: { good: Place | undefined } = { good: all.length === 1 ? all[0] : undefined };
  const several = address.hosts.length > 1 || address.session !== 'any';
  return class AddressedClient extends pg.Client {
    readonly #config: pg.ClientConfig;
    constructor(config: pg.ClientConfig = {}) {
      super(config);
      this.#config = config;
    }

    override connect(): Promise<pg.Client>;
    override connect(callback: (error: Error) => void): void;
    override connect(callback?: (error: Error) => void): Promise<pg.Client> | void {
      const connecting = this.#connect();
      if (!callback) return connecting;
      connecting.then(
        () => (callback as (error?: Error) => void)(),
        (error: unknown) => callback(error as Error),
      );
    }

    async #connect(): Promise<pg.Client> {
      const place =
        state.good !== undefined && !several
          ? state.good
          : await findPlace(all, address, this.#config);
      Object.assign(this, { host: place.host, port: place.port });
      const ssl = place.tls ? tlsOptions(address) : false;
      const inner = (this as unknown as { connection: { ssl: unknown } }).connection;
      Object.assign(this, { ssl });
      inner.ssl = ssl;
      try {
        await super.connect();
        state.good = place;
        return this;
      } catch (error) {
        state.good = all.length === 1 ? all[0] : undefined;
        throw error;
      }
    }
  };
}

/** The first place that takes connections of the kind that is asked for. @throws what the last one said */
async function findPlace(
  all: readonly Place[],
  address: DatabaseAddress,
  config: pg.ClientConfig,
): Promise<Place> {
  const fallback = address.session === 'prefer-standby' ? [false, true] : [true];
  let fault: unknown = new Error('no host to connect to');
  const attempts = fallback.flatMap((takeAny) => all.map((place) => ({ place, takeAny })));
  for (const { place, takeAny } of attempts) {
    try {
      if (await suits(place, address, config, takeAny)) return place;
      fault = Object.assign(
        new Error(`no host is ${address.session} (target_session_attrs), or it cannot be reached`),
        { code: '25006' },
      );
    } catch (error) {
      fault = error;
    }
  }
  throw fault;
}

async function suits(
  { host, port, tls }: Place,
  address: DatabaseAddress,
  config: pg.ClientConfig,
  takeAny: boolean,
): Promise<boolean> {
  const probe = new pg.Client({ ...config, host, port, ssl: tls ? tlsOptions(address) : false });
  probe.on('error', () => undefined);
  try {
    await probe.connect();
    if (address.session === 'any') return true;
    const {
      rows: [row],
    } = await probe.query<{ standby: boolean; readonly: boolean }>(
      `SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS readonly`,
    );
    const { standby = false, readonly = false } = row ?? {};
    switch (address.session) {
      case 'read-write':
        return !readonly;
      case 'read-only':
        return readonly;
      case 'primary':
        return !standby;
      case 'standby':
        return standby;
      default:
        return standby || takeAny;
    }
  } finally {
    await probe.end().catch(() => undefined);
  }
}

/**
 * libpq's meanings: `require` looks at the certificate only where a root is named, `verify-ca` not at the name in it.
 */
function tlsOptions(address: DatabaseAddress): ConnectionOptions {
  const { sslMode, sslRootCert, sslCert, sslKey } = address;
  const looks = sslMode.startsWith('verify') || sslRootCert !== undefined;
  return {
    rejectUnauthorized: looks,
    ...(sslRootCert === undefined ? {} : { ca: roots(sslRootCert) }),
    ...(sslCert === undefined ? {} : { cert: readFileSync(sslCert) }),
    ...(sslKey === undefined ? {} : { key: readFileSync(sslKey) }),
    ...(sslMode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  };
}

function roots(file: string): (string | Buffer)[] {
  if (file !== 'system') return [readFileSync(file)];
  const system = [process.env['SSL_CERT_FILE'] ?? '', ...SYSTEM_ROOTS].find((one) =>
    existsSync(one),
  );
  return [...rootCertificates, ...(system === undefined ? [] : [readFileSync(system)])];
}
