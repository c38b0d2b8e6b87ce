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
const DEFAULT_PORT = 5432;
const NO_URL = 'is not a URL of the form postgresql://…, without white space or control characters';

/**
 * Reads an address of the form postgresql://user:password@host:port,host:port/database?parameters.
 * @throws DatabaseAddressError
 */
export function parseDatabaseUrl(
  text: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): DatabaseAddress {
  const [, login = '', places = '', database = '', query = ''] = FORM.exec(text) ?? [];
  if (!FORM.test(text) || hasBlanks(text) || text.includes('\\'))
    throw new DatabaseAddressError(NO_URL);
  const given = new Map(new URLSearchParams(query));
  const take = (name: string): string | undefined => {
    const value = given.get(name);
    given.delete(name);
    return value || undefined;
  };
  const oneOf = (name: string, values: readonly string[], fallback: string): string => {
    const value = take(name) ?? fallback;
    if (!values.includes(value))
      throw new DatabaseAddressError(
        `has a parameter ${name} that is none of ${values.join(', ')}`,
      );
    return value;
  };
  const colon = login.indexOf(':');
  const hosts = hostsOf(take('host') ?? places, take('port'));
  const tls = tlsOf(take, oneOf, env, hosts);
  const limit = Number(take('connection_limit'));
  return {
    user: take('user') ?? (decoded(colon < 0 ? login : login.slice(0, colon)) || undefined),
    password:
      take('password') ?? (colon < 0 ? undefined : decoded(login.slice(colon + 1)) || undefined),
    database: take('dbname') ?? (decoded(database) || undefined),
    hosts,
    session: oneOf('target_session_attrs', SESSIONS, 'any') as SessionAttributes,
    ...tls,
    applicationName: take('application_name') ?? take('fallback_application_name'),
    options: take('options'),
    connectionLimit: Number.isInteger(limit) && limit > 0 ? limit : undefined,
    schema: take('schema'),
    ignored: [...given.keys()],
  };
}

function hostsOf(names: string, ports: string | undefined): DatabaseAddress['hosts'] {
  const fallbacks = (ports ?? '').split(',');
  return names.split(',').map((name, i) => {
    const [, bracketed, plain = '', port] =
      /^(?:\[([^\]]+)\]|([^:]*))(?::(\d+))?$/.exec(name) ?? [];
    const host = bracketed ?? decoded(plain);
    const number = Number(port ?? (fallbacks[i] || fallbacks[0] || DEFAULT_PORT));
    if (!host || !Number.isInteger(number) || number < 1 || number > 65_535)
      throw new DatabaseAddressError(NO_URL);
    return { host, port: number };
  });
}

type Take = (name: string) => string | undefined;
type OneOf = (name: string, values: readonly string[], fallback: string) => string;

function tlsOf(
  take: Take,
  oneOf: OneOf,
  env: Readonly<Record<string, string | undefined>>,
  hosts: DatabaseAddress['hosts'],
): Pick<
  DatabaseAddress,
  'sslMode' | 'sslRootCert' | 'sslCert' | 'sslKey' | 'sslNegotiation' | 'channelBinding'
> {
  const accept = take('sslaccept');
  const ssl = take('ssl');
  const key = take('sslkey');
  const cert = take('sslcert');
  // Prisma's `sslcert` is the CA; libpq's goes with a key.
  const prismas = cert !== undefined && key === undefined;
  const rootCert = take('sslrootcert') ?? (prismas ? cert : undefined);
  const implied =
    accept === 'strict' || ssl === 'true' || ssl === '1' || rootCert === 'system'
      ? 'verify-full'
      : (env['PGSSLMODE'] ?? 'disable');
  const asked = oneOf('sslmode', [...MODES, 'no-verify'], implied);
  const strict = accept === 'strict' && (asked === 'require' || asked === 'prefer');
  const lenient = asked === 'no-verify' ? 'require' : asked;
  const sslMode = strict ? 'verify-full' : lenient;
  if (rootCert === 'system' && sslMode !== 'verify-full')
    throw new DatabaseAddressError('has sslrootcert=system, which needs sslmode=verify-full');
  return {
    sslMode: hosts.every(({ host }) => host.startsWith('/')) ? 'disable' : (sslMode as SslMode),
    sslRootCert: rootCert,
    sslCert: prismas ? undefined : cert,
    sslKey: key,
    sslNegotiation: oneOf('sslnegotiation', ['postgres', 'direct'], 'postgres') as
      'postgres' | 'direct',
    channelBinding:
      oneOf('channel_binding', ['disable', 'prefer', 'require'], 'disable') !== 'disable',
  };
}

/** As it stands where it is badly escaped: the server then refuses it. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
