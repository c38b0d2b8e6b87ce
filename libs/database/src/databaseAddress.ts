import { existsSync } from 'node:fs';
import process from 'node:process';
import { hasBlanks } from './parseUrl.js';

/** How much of TLS a connection asks for, in libpq's words. */
export type SslMode = 'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';
export type SessionAttributes =
  'any' | 'read-write' | 'read-only' | 'primary' | 'standby' | 'prefer-standby';

/** A `DATABASE_URL` as libpq, pg and Prisma write them. */
export interface DatabaseAddress {
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string | undefined;
  /** Tried in order; a host that begins with a slash is the folder of a Unix socket. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly session: SessionAttributes;
  readonly sslMode: SslMode;
  /** A file, or `system` for the machine's own list. */
  readonly sslRootCert: string | undefined;
  readonly sslCert: string | undefined;
  readonly sslKey: string | undefined;
  readonly sslNegotiation: 'postgres' | 'direct';
  readonly channelBinding: boolean;
  readonly applicationName: string | undefined;
  readonly options: string | undefined;
  /** Prisma's `connection_limit` and `schema`. */
  readonly connectionLimit: number | undefined;
  readonly schema: string | undefined;
  /** Parameters that have no effect here, by name. */
  readonly ignored: readonly string[];
}

type Env = Readonly<Record<string, string | undefined>>;
/** Whether a parameter may have a value, and what it says of one that may not. */
interface Rule {
  readonly takes: (value: string) => boolean;
  readonly fault: string;
}

function oneOf(values: readonly string[]): Rule {
  return {
    takes: (value) => values.includes(value),
    fault: `that is none of ${values.join(', ')}`,
  };
}

function wholeNumber(min: number, max = 2_147_483_647): Rule {
  return {
    takes: (value) => /^\d{1,10}$/.test(value) && Number(value) >= min && Number(value) <= max,
    fault: `that is no whole number from ${min} to ${max}`,
  };
}

/** What is wrong with an address; never a part of it. */
export class DatabaseAddressError extends Error {
  override readonly name = 'DatabaseAddressError';
}

const FORM = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^@/?#]*)(?:\/([^/?#]*))?(?:\?([^#]*))?$/;
const MODES: readonly string[] = [
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
];
const SESSIONS: readonly string[] = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
];
/** Prisma's and libpq's parameters that have no effect here: what they may be all the same. */
const WITHOUT_EFFECT: Readonly<Record<string, Rule>> = {
  ...Object.fromEntries(
    [
      'connect_timeout',
      'pool_timeout',
      'socket_timeout',
      'max_connection_lifetime',
      'max_idle_connection_lifetime',
      'statement_cache_size',
      'keepalives_idle',
      'keepalives_interval',
      'keepalives_count',
      'tcp_user_timeout',
    ].map((name) => [name, wholeNumber(-1)]),
  ),
  ...Object.fromEntries(
    ['keepalives', 'sslcompression', 'sslsni'].map((name) => [name, oneOf(['0', '1'])]),
  ),
  pgbouncer: oneOf(['true', 'false']),
  gssencmode: oneOf(['disable', 'prefer', 'require']),
  load_balance_hosts: oneOf(['disable', 'random']),
  sslcertmode: oneOf(['disable', 'allow', 'require']),
};
const DEFAULT_PORT = 5432;
/** Where distributions, and PostgreSQL as it comes, put the socket. */
const SOCKET_FOLDERS = ['/run/postgresql', '/var/run/postgresql', '/tmp'];
const MAX_CONNECTIONS = 10_000;
const MODE = oneOf([...MODES, 'no-verify']);
const PORT = wholeNumber(1, 65_535);
const NO_URL = 'is not a URL of the form postgresql://…, without white space or control characters';

/**
 * Reads an address of the form postgresql://user:password@host:port,host:port/database?parameters. Without a host it is
 * `PGHOST`, else the socket of this machine's PostgreSQL where there is one, else localhost, as for libpq.
 * @throws DatabaseAddressError
 */
export function parseDatabaseUrl(text: string, env: Env = process.env): DatabaseAddress {
  const [, login = '', places = '', database = '', query = ''] = FORM.exec(text) ?? [];
  // The scheme alone is what is left of a template whose variables are empty.
  if (`${login}${places}${database}${query}` === '' || hasBlanks(text) || text.includes('\\'))
    throw new DatabaseAddressError(NO_URL);
  const parameters = new Parameters(query);
  const { take, check } = parameters;
  const colon = login.indexOf(':');
  const hosts = hostsOf(take('host') ?? places, take('port'), env);
  const limit = check('connection_limit', wholeNumber(1, MAX_CONNECTIONS));
  return {
    user: take('user') ?? (decoded(colon < 0 ? login : login.slice(0, colon)) || undefined),
    password:
      take('password') ?? (colon < 0 ? undefined : decoded(login.slice(colon + 1)) || undefined),
    database: take('dbname') ?? (decoded(database) || undefined),
    hosts,
    session: (check('target_session_attrs', oneOf(SESSIONS)) ?? 'any') as SessionAttributes,
    ...tlsOf(parameters, env, hosts),
    applicationName: take('application_name') ?? take('fallback_application_name'),
    options: take('options'),
    connectionLimit: limit === undefined ? undefined : Number(limit),
    schema: take('schema'),
    ignored: parameters.rest(),
  };
}

/** The parameters of an address, each of them taken once. */
class Parameters {
  readonly #given: Map<string, string>;
  constructor(query: string) {
    this.#given = new Map(new URLSearchParams(query));
  }

  readonly take = (name: string): string | undefined => {
    const value = this.#given.get(name);
    this.#given.delete(name);
    return value || undefined;
  };

  readonly check = (name: string, rule: Rule): string | undefined => {
    const value = this.take(name);
    if (value !== undefined && !rule.takes(value))
      throw new DatabaseAddressError(`has a parameter ${name} ${rule.fault}`);
    return value;
  };

  /** Names of those that nobody has taken. */
  rest(): string[] {
    const names = [...this.#given.keys()];
    for (const name of names) {
      const rule = Object.hasOwn(WITHOUT_EFFECT, name) ? WITHOUT_EFFECT[name] : undefined;
      if (rule !== undefined) this.check(name, rule);
    }
    return names;
  }
}

function hostsOf(places: string, ports: string | undefined, env: Env): DatabaseAddress['hosts'] {
  const names = (places || env['PGHOST'] || '').split(',');
  const given = (ports ?? (env['PGPORT'] || String(DEFAULT_PORT))).split(',');
  if (given.length > 1 && given.length !== names.length)
    throw new DatabaseAddressError('has a parameter port with more or fewer ports than hosts');
  return names.map((name, i) => {
    const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d*))?$/.exec(name);
    if (!match) throw new DatabaseAddressError(NO_URL);
    const [, bracketed, plain = '', own] = match;
    const port = own || (given.length > 1 ? given[i] : given[0]) || String(DEFAULT_PORT);
    if (!PORT.takes(port)) throw new DatabaseAddressError(`has a port ${PORT.fault}`);
    return { host: bracketed ?? (decoded(plain) || localHost(port)), port: Number(port) };
  });
}

function localHost(port: string): string {
  const folder = SOCKET_FOLDERS.find((each) => existsSync(`${each}/.s.PGSQL.${port}`));
  return folder ?? 'localhost';
}

function tlsOf(
  { take, check }: Parameters,
  env: Env,
  hosts: DatabaseAddress['hosts'],
): Pick<
  DatabaseAddress,
  'sslMode' | 'sslRootCert' | 'sslCert' | 'sslKey' | 'sslNegotiation' | 'channelBinding'
> {
  const accept = check('sslaccept', oneOf(['strict', 'accept_invalid_certs']));
  const ssl = check('ssl', oneOf(['true', 'false', '1', '0']));
  const key = take('sslkey');
  const cert = take('sslcert');
  // Prisma's `sslcert` is the CA; libpq's goes with a key.
  const prismas = cert !== undefined && key === undefined;
  const rootCert = take('sslrootcert') ?? (prismas ? cert : undefined);
  const verified = accept === 'strict' || ssl === 'true' || ssl === '1' || rootCert === 'system';
  const asked = check('sslmode', MODE) ?? (verified ? 'verify-full' : modeOf(env));
  const strict = accept === 'strict' && (asked === 'require' || asked === 'prefer');
  const lenient = asked === 'no-verify' ? 'require' : asked;
  const sslMode = strict ? 'verify-full' : lenient;
  if (rootCert === 'system' && sslMode !== 'verify-full')
    throw new DatabaseAddressError('has sslrootcert=system, which needs sslmode=verify-full');
  const sslNegotiation = (check('sslnegotiation', oneOf(['postgres', 'direct'])) ?? 'postgres') as
    'postgres' | 'direct';
  if (sslNegotiation === 'direct' && ['disable', 'allow', 'prefer'].includes(sslMode))
    throw new DatabaseAddressError(
      'has sslnegotiation=direct, which needs sslmode=require, verify-ca or verify-full',
    );
  const binding = check('channel_binding', oneOf(['disable', 'prefer', 'require']));
  return {
    sslMode: hosts.every(({ host }) => host.startsWith('/')) ? 'disable' : (sslMode as SslMode),
    sslRootCert: rootCert,
    sslCert: prismas ? undefined : cert,
    sslKey: key,
    sslNegotiation,
    channelBinding: binding !== undefined && binding !== 'disable',
  };
}

function modeOf(env: Env): string {
  const mode = env['PGSSLMODE'] || 'disable';
  if (!MODE.takes(mode))
    throw new DatabaseAddressError(`takes its sslmode from PGSSLMODE, ${MODE.fault}`);
  return mode;
}

/** As it stands where it is badly escaped: the server then refuses it. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
