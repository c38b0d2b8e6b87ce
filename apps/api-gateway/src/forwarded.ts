import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** How a request came here: the addresses from the client to the last proxy, and what the client's own connection was to. */
export interface Forwarding {
  /** The client first; never empty. What a client claims about itself is not among them. */
  readonly hops: readonly [string, ...string[]];
  readonly proto: 'http' | 'https';
  readonly host: string;
}

/** Whether an IP address is that of a trusted proxy. */
export type TrustedProxies = (address: string) => boolean;

/** The addresses and CIDRs of a comma-separated list, or null when one of them is neither. */
export function parseTrustedProxies(list: string): TrustedProxies | null {
  const trusted = new BlockList();
  for (const entry of list.split(',').map((part) => part.trim()).filter(Boolean)) {
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
 * Follows `X-Forwarded-For` from the connection's own address backwards, as long as a trusted proxy vouches for the next
 * address: the first that nobody vouches for is the client. `X-Forwarded-Proto` and `-Host` are believed from a trusted
 * connection, at the position of the proxy that the client reached. Otherwise PUBLIC_URL says what the client sees.
 */
export function forwardingOf(request: Pick<IncomingMessage, 'headers' | 'socket'>, trusted: TrustedProxies, publicUrl: URL): Forwarding {
  const peer = plainAddress(request.socket.remoteAddress ?? '') ?? 'unknown';
  const hops: [string, ...string[]] = [peer];
  const claimed = listOf(request.headers['x-forwarded-for']);
  while (trusted(hops[0])) {
    const address = plainAddress(claimed.pop() ?? '');
    if (address === null) break;
    hops.unshift(address);
  }
  const told = (name: string): string | undefined => {
    const values = trusted(peer) ? listOf(request.headers[name]) : [];
    return values[Math.max(0, values.length - Math.max(1, hops.length - 1))];
  };
  const proto = PROTOCOLS[told('x-forwarded-proto')?.toLowerCase() ?? ''] ?? (publicUrl.protocol === 'https:' ? 'https' : 'http');
  const host = told('x-forwarded-host');
  return { hops, proto, host: host !== undefined && HOST.test(host) ? host : publicUrl.host };
}

/** The header fields that tell an upstream the same, in the customary spelling and in that of RFC 7239. */
export function forwardedHeaders({ hops, proto, host }: Forwarding): string[] {
  const [client, ...proxies] = hops.map((hop) => `for=${hop.includes(':') ? `"[${hop}]"` : hop}`);
  return [
    'x-forwarded-for', hops.join(', '), 'x-forwarded-proto', proto, 'x-forwarded-host', host,
    'forwarded', [`${client};proto=${proto};host="${host}"`, ...proxies].join(', '),
  ];
}

// Traefik names a WebSocket's scheme.
const PROTOCOLS: Readonly<Record<string, 'http' | 'https' | undefined>> = { http: 'http', https: 'https', ws: 'http', wss: 'https' };
const HOST = /^(?:[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;

/** An IP address without port, brackets, zone and IPv4 mapping; null for anything else. */
function plainAddress(text: string): string | null {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text)?.[1] ?? text;
  const address = bare.replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.)/i, '').toLowerCase();
  return isIP(address) === 0 ? null : address;
}

const listOf = (value: string | string[] | undefined): string[] =>
  [value ?? []].flat().join(',').split(',').map((part) => part.trim()).filter(Boolean);
