import { type GatewayRoute, isOwnPath, isWithin } from '../settings/gatewayRoutes.js';

type Place = Pick<GatewayRoute, 'path' | 'upstream' | 'stripPrefix'>;

/**
 * A header field of an upstream's answer that names an address, as it is outside: the upstream's own origin and base
 * path are taken off, and a prefix that was stripped is put back. What cannot be reached through the route, and
 * addresses of others, stay as they are.
 */
export function translated(name: string, value: string, route: Place): string {
  switch (name) {
    case 'location':
    case 'content-location':
      return outside(value, route);
    case 'refresh':
      return value.replace(
        /^(\s*[\d.]+\s*[;,]\s*(?:url\s*=\s*)?["']?)(.+)$/is,
        (_, before: string, address: string) => before + outside(address, route),
      );
    case 'set-cookie':
      return translatedCookie(value, route);
    default:
      return value;
  }
}

function outside(address: string, route: Place): string {
  const [, scheme, host] = /^(https?:)?\/\/([^/?#]*)/i.exec(address) ?? [];
  const base = basePath(route);
  if (host === undefined) {
    // The gateway's own login, for one.
    const isGateways = base === '' && isOwnPath(plain(address));
    return address.startsWith('/') && !isGateways ? outsidePath(address, route) : address;
  }
  const origin = `${scheme ?? route.upstream.protocol}//${host}`;
  if (!URL.canParse(origin) || new URL(origin).origin !== route.upstream.origin) return address;
  const rest = address.slice((scheme?.length ?? 0) + 2 + host.length);
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  return isWithin(base, plain(path)) ? outsidePath(path, route) : address;
}

/** One that has the prefix already (the upstream reads `X-Forwarded-Prefix`) stays. */
function outsidePath(path: string, route: Place): string {
  const base = basePath(route);
  if (!isWithin(base, plain(path))) return path;
  const inside = path.slice(base.length);
  const rest = inside.startsWith('/') ? inside : `/${inside}`;
  const prefix = strippedPrefix(route);
  return isWithin(prefix, plain(rest)) ? rest : prefix + rest;
}

/**
 * Without its Domain, which names the upstream, and with its Path as the browser sees it. `__Host-` cookies
 * have no other path than `/`.
 */
function translatedCookie(cookie: string, route: Place): string {
  const [pair = '', ...attributes] = cookie.split(';');
  const isForHost = /^\s*__host-/i.test(pair);
  const kept = attributes.flatMap((attribute) => {
    const [, name = '', value = ''] = /^\s*([^=]*?)\s*(?:=\s*(.*?)\s*)?$/s.exec(attribute) ?? [];
    if (/^domain$/i.test(name)) return [];
    if (!/^path$/i.test(name) || !value.startsWith('/') || isForHost) return [attribute];
    return [` ${name}=${cookiePath(value, route)}`];
  });
  return [pair, ...kept].join(';');
}

function cookiePath(path: string, route: Place): string {
  const [base, prefix] = [basePath(route), strippedPrefix(route)];
  const rest = isWithin(base, path) ? path.slice(base.length) : path;
  // A cookie for all of the upstream, also for its base path's parents, is one for all of the route.
  if (isWithin(path === '/' ? '' : path, base)) return prefix === '' ? '/' : prefix;
  return isWithin(prefix, rest) ? rest : prefix + rest;
}

const basePath = ({ upstream }: Place): string => upstream.pathname.replace(/\/$/, '');

/** The part of a path that is taken off on the way up. */
export const strippedPrefix = ({
  path,
  stripPrefix,
}: Pick<Place, 'path' | 'stripPrefix'>): string => (stripPrefix && path !== '/' ? path : '');

const plain = (address: string): string => address.split(/[?#]/, 1)[0] ?? '';
