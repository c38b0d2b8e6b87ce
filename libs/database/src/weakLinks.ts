import { isIPv4 } from 'node:net';
import process from 'node:process';
import { type DatabaseAddress, parseDatabaseUrl } from './databaseAddress.js';
import { parseRedisUrl, type RedisAddress } from './redisAddress.js';

/**
 * What is weak in the ways to PostgreSQL and Redis, one sentence each with its variable: another host that is reached
 * without TLS or without looking at its certificate, and a Redis that asks for no password. Never a value of the URLs.
 */
export function weakLinks(
  { databaseUrl, redisUrl }: { databaseUrl: string | undefined; redisUrl: string | undefined },
  env: Readonly<Record<string, string | undefined>> = process.env,
): string[] {
  const anyCertificate = env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0';
  const redis = redisUrl === undefined ? null : parseRedisUrl(redisUrl);
  return [
    ...(databaseUrl === undefined ? [] : weakToPostgres(databaseUrl, anyCertificate, env)),
    ...(redis === null ? [] : weakToRedis(redis, anyCertificate)),
  ];
}

function weakToPostgres(
  url: string,
  anyCertificate: boolean,
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  let address: DatabaseAddress;
  try {
    address = parseDatabaseUrl(url, env);
  } catch {
    // Told as a problem of the configuration.
    return [];
  }
  const { hosts, sslMode, sslRootCert } = address;
  if (hosts.every(({ host }) => isHere(host))) return [];
  if (['disable', 'allow', 'prefer'].includes(sslMode))
    return ['DATABASE_URL reaches another host without TLS: add sslmode=verify-full to it'];
  if (anyCertificate || (sslMode === 'require' && sslRootCert === undefined))
    return [
      'DATABASE_URL reaches another host and takes any certificate: set sslmode=verify-full, with sslrootcert for a CA of your own',
    ];
  return [];
}

function weakToRedis(address: RedisAddress, anyCertificate: boolean): string[] {
  const { hosts, tls, password } = partsOf(address);
  const away = hosts.some((host) => !isHere(host));
  return [
    ...(away && !tls ? ['REDIS_URL reaches another host without TLS: use rediss'] : []),
    ...(away && tls && anyCertificate
      ? [
          'REDIS_URL reaches another host and takes any certificate: NODE_TLS_REJECT_UNAUTHORIZED is 0',
        ]
      : []),
    ...(password
      ? []
      : ['REDIS_URL names no password: any program that reaches Redis can write there']),
  ];
}

function partsOf(address: RedisAddress): { hosts: string[]; tls: boolean; password: boolean } {
  if (address.kind === 'single') {
    const { hostname, protocol, password, searchParams } = new URL(address.url);
    return {
      hosts: [hostname],
      tls: protocol === 'rediss:',
      password: Boolean(password || searchParams.get('password')),
    };
  }
  const nodes = address.kind === 'cluster' ? address.nodes : address.sentinels;
  return {
    hosts: nodes.map(({ host }) => host),
    tls: address.login.tls !== undefined,
    password: Boolean(address.login.password),
  };
}

/** This machine: loopback, or a socket in its file system. */
function isHere(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  return (
    bare === '' ||
    bare.startsWith('/') ||
    bare === 'localhost' ||
    bare.endsWith('.localhost') ||
    bare === '::1' ||
    (isIPv4(bare) && bare.startsWith('127.'))
  );
}
