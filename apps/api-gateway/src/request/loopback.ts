import type { IncomingMessage } from 'node:http';
import { BlockList, isIP, type Socket } from 'node:net';

/** What is looked at of a request. */
interface Asked {
  readonly headers: IncomingMessage['headers'];
  readonly socket: Pick<Socket, 'remoteAddress' | 'localAddress'>;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** Whether an IP address is this machine's loopback, also as IPv4 in IPv6. */
export function isLoopbackAddress(address: string): boolean {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  const family = isIP(plain);
  return family !== 0 && LOOPBACK.check(plain, family === 4 ? 'ipv4' : 'ipv6');
}

/** Whether a host name of a URL stands for this machine (RFC 6761 §6.3: `localhost` and names below it). */
export function isLoopbackHost(hostname: string): boolean {
  const name = hostname.toLowerCase().replace(/^\[|\]$/g, '');
  return /^(?:[a-z0-9-]+\.)*localhost\.?$/.test(name) || isLoopbackAddress(name);
}

/** What reverse proxies and tunnels say of the client. */
const CLAIMS = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'cf-connecting-ip', 'true-client-ip'];

/**
 * Whether a request was made on this machine: by its connection, by everything that a reverse proxy or a tunnel on this
 * machine says of the client, and by the name that it asks for, which a page elsewhere cannot choose (DNS rebinding).
 * `listenHost`: the address that the server listens on, which this process's own calls go to.
 */
export function isFromThisMachine({ socket, headers }: Asked, listenHost: string): boolean {
  const peer = socket.remoteAddress ?? '';
  if (!isLoopbackAddress(peer) && peer !== socket.localAddress) return false;
  const claimed = CLAIMS.flatMap((name) => headers[name] ?? []).flatMap(addressesIn);
  if (!claimed.every(isLoopbackAddress)) return false;
  const host = (headers.host ?? '').replace(/:\d*$/, '').replace(/^\[|\]$/g, '');
  return isLoopbackHost(host) || host === listenHost || host === socket.localAddress;
}

/**
 * Each entry of a list, without port, brackets, quotes and the parameters of `Forwarded`; what
 * is no address stays none.
 */
function addressesIn(list: string): string[] {
  return list.split(',').map((entry) => {
    const named = /(?:^|;)\s*for=([^;]*)/i.exec(entry)?.[1] ?? entry;
    const bare = named.trim().replace(/^"|"$/g, '');
    return /^\[([^\]]+)\](?::\d+)?$/.exec(bare)?.[1] ?? /^([\d.]+):\d+$/.exec(bare)?.[1] ?? bare;
  });
}
