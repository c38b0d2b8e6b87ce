import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { hasBlanks, parseUrl } from './parseUrl.js';
import { REDIS_TIMEOUTS } from './timeouts.js';

/** Replies as they have always been. */
type ConnectionOptions = Omit<RedisOptions, 'replyMapping' | 'himportFieldsets'>;

interface Host {
  readonly host: string;
  readonly port: number;
}

/** Where Redis is: one server, the primary that sentinels name, or a cluster. */
export type RedisAddress =
  | { readonly kind: 'single'; readonly url: string }
  | {
      readonly kind: 'sentinel';
      readonly sentinels: readonly Host[];
      readonly name: string;
      readonly login: ConnectionOptions;
      readonly sentinelLogin: ConnectionOptions;
    }
  | {
      readonly kind: 'cluster';
      readonly nodes: readonly Host[];
      readonly login: ConnectionOptions;
    };

/** The forms of REDIS_URL, for people. */
export const REDIS_URL_FORMS =
  'redis://host:port, redis+sentinel://host:port,host:port/name or redis+cluster://host:port,host:port (rediss… for TLS), without white space or control characters';

const SEVERAL =
  /^redis(s?)\+(cluster|sentinel):\/\/(?:([^@/?#]*)@)?([^@/?#]+)(?:\/([^/?#]*)(?:\/(\d{1,3}))?)?(?:\?([^#]*))?$/;

/**
 * Reads `redis[s]://…`, `redis[s]+cluster://[user:password@]host[:6379],…` or
 * `redis[s]+sentinel://[user:password@]host[:26379],…/name[/db][?sentinel_username=…&sentinel_password=…]`; null for
 * anything else. User and password are percent-encoded, as in every URL.
 */
export function parseRedisUrl(text: string): RedisAddress | null {
  if (hasBlanks(text)) return null;
  if (/^rediss?:/.test(text)) {
    const url = parseUrl(text);
    return url?.hostname && /^\/?\d{0,3}$/.test(url.pathname)
      ? { kind: 'single', url: text }
      : null;
  }
  const [, secure, kind, userinfo = '', list = '', name = '', db, query = ''] =
    SEVERAL.exec(text) ?? [];
  const hosts = list.split(',').map((entry) => hostOf(entry, kind === 'sentinel' ? 26_379 : 6_379));
  if (kind === undefined || !hosts.every((host) => host !== null)) return null;
  const [username, password, primary] = [/^[^:]*/, /(?<=:).*$/]
    .map((part) => decoded(part.exec(userinfo)?.[0] ?? ''))
    .concat(decoded(name));
  if (username === undefined || password === undefined || primary === undefined) return null;
  const login: ConnectionOptions = {
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(secure ? { tls: {} } : {}),
  };
  const parameters = new URLSearchParams(query);
  const known = kind === 'sentinel' ? ['sentinel_username', 'sentinel_password'] : [];
  if ([...parameters.keys()].some((key) => !known.includes(key))) return null;
  // A cluster has one database only.
  if (kind === 'cluster')
    return name === '' && db === undefined ? { kind, nodes: hosts, login } : null;
  if (name === '') return null;
  const [sentinelUsername, sentinelPassword] = known.map((key) => parameters.get(key));
  return {
    kind: 'sentinel',
    sentinels: hosts,
    name: primary,
    login: { ...login, ...(db === undefined ? {} : { db: Number(db) }) },
    sentinelLogin: {
      ...(sentinelUsername ? { sentinelUsername } : {}),
      ...(sentinelPassword ? { sentinelPassword } : {}),
      ...(secure ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
    },
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function hostOf(text: string, defaultPort: number): Host | null {
  const url = text !== '' ? parseUrl(`redis://${text}`) : null;
  // Brackets belong to an IPv6 address in a URL only.
  return url?.hostname
    ? { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || defaultPort) }
    : null;
}

const retryStrategy = (times: number): number => Math.min(times * 50, 500);
const COMMON: ConnectionOptions = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 1,
  connectTimeout: REDIS_TIMEOUTS.connectMs,
  sentinelCommandTimeout: REDIS_TIMEOUTS.connectMs,
  socketTimeout: REDIS_TIMEOUTS.silenceMs,
  // After a failover a client may sit on a replica that was the primary.
  reconnectOnError: (error) => error.message.startsWith('READONLY'),
};
const CLUSTER: Omit<ClusterOptions, 'redisOptions' | 'replyMapping'> = {
  enableOfflineQueue: false,
  clusterRetryStrategy: retryStrategy,
  clusterNodeRetryStrategy: retryStrategy,
  slotsRefreshTimeout: REDIS_TIMEOUTS.connectMs,
  slotsRefreshInterval: 5_000,
  maxRedirections: 4,
  retryDelayOnFailover: 50,
  retryDelayOnClusterDown: 50,
  retryDelayOnTryAgain: 50,
};

/** A connection (or a cluster's) for commands, made anew as often as it takes; a command without one fails at once. */
export function connectCommands(
  address: RedisAddress,
  options: ConnectionOptions = {},
): Redis | Cluster {
  return connect(
    address,
    { ...COMMON, retryStrategy, sentinelRetryStrategy: retryStrategy, ...options },
    CLUSTER,
  );
}

/**
 * One connection to hear messages on, never made anew: any node of a cluster passes on what is published at any other.
 */
export function connectListener(address: RedisAddress, commands: Redis | Cluster): Redis {
  const options: ConnectionOptions = {
    ...COMMON,
    protocol: 2,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
  };
  if (address.kind !== 'cluster') return connect(address, options, {}) as Redis;
  const known =
    commands instanceof Cluster
      ? commands.nodes('all').map(({ options: { host = '', port = 0 } }) => ({ host, port }))
      : [];
  const nodes = known.length > 0 ? known : address.nodes;
  return new Redis({
    ...options,
    ...address.login,
    ...nodes[Math.floor(Math.random() * nodes.length)],
  });
}

function connect(
  address: RedisAddress,
  options: ConnectionOptions,
  cluster: Partial<typeof CLUSTER>,
): Redis | Cluster {
  switch (address.kind) {
    case 'single':
      return new Redis(address.url, options);
    case 'sentinel':
      return new Redis({
        ...options,
        ...address.login,
        ...address.sentinelLogin,
        sentinels: [...address.sentinels],
        name: address.name,
      });
    case 'cluster':
      return new Cluster([...address.nodes], {
        ...cluster,
        redisOptions: { ...options, ...address.login },
      });
  }
}
