import type { IncomingMessage } from 'node:http';
import { BlockList, isIP, type Socket } from 'node:net';

/** The addresses that a request came through, the client first. What a client claims about itself is not among them. */
export type Hops = readonly [string, ...string[]];

/** What is looked at of a request. */
interface Asked {
  readonly headers: IncomingMessage['headers'];
  readonly socket: Pick<Socket, 'remoteAddress'>;
}

/** Whether an IP address is that of a trusted proxy. */
export type TrustedProxies = (address: string) => boolean;

/** The addresses and CIDRs of a comma-separated list, or null when one of them is neither. */
export function parseTrustedProxies(list: string): TrustedProxies | null {
  const trusted = new BlockList();
  for (const entry of list
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)) {
    const [, address = '', prefix] = /^([0-9a-f.:]+)(?:\/(\d{1,3}))?$/i.exec(entry) ?? [];
    const family = isIP(address);
    const longest = family === 4 ? 32 : 128;
    if (family === 0 || Number(prefix ?? longest) > longest) return null;
    trusted.addSubnet(address, Number(prefix ?? longest), family === 4 ? 'ipv4' : 'ipv6');
  }
  // Asked at every request, and most gateways trust nobody.
  if (trusted.rules.length === 0) return () => false;
  return (address) => {
    const family = isIP(address);
    return family !== 0 && trusted.check(address, family === 4 ? 'ipv4' : 'ipv6');
  };
}

/**
 * Follows `X-Forwarded-For` from the connection's own address backwards, as long as a trusted proxy vouches for the
 * next address: the first that nobody vouches for is the client.
 */
export function hopsOf(request: Asked, trusted: TrustedProxies): Hops {
  const peer = peerOf(request);
  const hops: [string, ...string[]] = [peer];
  if (!trusted(peer)) return hops;
  const claimed = listOf(request.headers['x-forwarded-for']);
  while (trusted(hops[0])) {
    const address = plainAddress(claimed.pop() ?? '');
    if (address === null) break;
    hops.unshift(address);
  }
  return hops;
}

/** The address of a peer that names others for whom it asks, though it is not trusted; null: there is no such claim. */
export function unbelievedPeer(request: Asked, trusted: TrustedProxies): string | null {
  if (request.headers['x-forwarded-for'] === undefined) return null;
  const peer = peerOf(request);
  return trusted(peer) ? null : peer;
}

const peerOf = ({ socket }: Pick<Asked, 'socket'>): string =>
  plainAddress(socket.remoteAddress ?? '') ?? 'unknown';

/**
 * The header fields that tell an upstream where a request came from, in the customary spelling and in that of RFC 7239.
 * Scheme and host are those of PUBLIC_URL, the only address that is served: a proxy that does not set
 * `X-Forwarded-Proto` and `-Host` passes on what the client wrote there.
 */
export function forwardedHeaders(hops: Hops, { protocol, host }: URL): string[] {
  const proto = protocol.slice(0, -1);
  const [client, ...proxies] = hops.map((hop) => `for=${hop.includes(':') ? `"[${hop}]"` : hop}`);
  return [
    'x-forwarded-for',
    hops.join(', '),
    'x-forwarded-proto',
    proto,
    'x-forwarded-host',
    host,
    'forwarded',
    [`${client};proto=${proto};host="${host}"`, ...proxies].join(', '),
  ];
}

/** An IP address without port, brackets, zone and IPv4 mapping; null for anything else. */
export function plainAddress(text: string): string | null {
  const bare =
    /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ??
    /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text)?.[1] ??
    text;
  const address = bare
    .replace(/%.*$/, '')
    .replace(/^::ffff:(?=\d+\.)/i, '')
    .toLowerCase();
  return isIP(address) === 0 ? null : address;
}

const listOf = (value: string | string[] | undefined): string[] =>
  [value ?? []]
    .flat()
    .join(',')
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean);
