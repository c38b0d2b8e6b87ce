import type { IncomingMessage, ServerResponse } from 'node:http';
import { cachedBehindLogin } from './browserHeaders.js';
import { Problem } from './errors.js';
import { forwardedHeaders, forwardingOf } from './forwarded.js';
import type { Gateway } from './gateway.js';
import type { GatewayRoute } from './gatewayRoutes.js';
import type { GatewayCookies } from './sessionCookie.js';

/** Connection-specific fields, which end at this hop (RFC 9110 §7.6.1); `Expect` is answered here. */
const HOP_BY_HOP = new Set([
  'connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect', 'host', 'http2-settings',
]);
/** What only the gateway may tell the upstream: who asks, from where, and for which path. */
const SPOOFABLE = /^(x-auth-.*|x-forwarded-.*|forwarded|x-real-ip|x-original-url|x-rewrite-url)$/;

/** Fields to send in place of the client's own: a value to set, null to send none, absent to leave the client's. */
export type Credentials = Readonly<Record<string, string | null>>;

/** The client's header fields for the upstream, as they came and in their order, without what is the gateway's to say. */
export function requestHeaders({ config, cookies }: Pick<Gateway, 'config' | 'cookies'>, request: IncomingMessage, credentials: Credentials): string[] {
  const named = connectionNamed(request.headers.connection);
  const headers: string[] = [];
  for (const [name, value] of pairs(request.rawHeaders)) {
    const lower = name.toLowerCase();
    // CGI and WSGI servers read `_` as `-`, some of them any other character too.
    const dashed = lower.replace(/[^a-z0-9]/g, '-');
    if (HOP_BY_HOP.has(dashed) || named.has(lower) || SPOOFABLE.test(dashed) || Object.hasOwn(credentials, dashed)) continue;
    if (lower === 'cookie') {
      const kept = cookies.withoutOwn(value);
      if (kept !== null) headers.push(name, kept);
      continue;
    }
    headers.push(name, value);
  }
  for (const [name, value] of Object.entries(credentials)) if (value !== null) headers.push(name, value);
  headers.push(...forwardedHeaders(forwardingOf(request, config.trustedProxies, config.publicUrl)));
  return headers;
}

/**
 * Begins the client's answer with an upstream's status and header fields, each as often as it came: none of this hop's,
 * no Set-Cookie that would overwrite the gateway's own cookies, and no leave for caches behind a login. The fields with
 * a name replace what was set under it before.
 * @throws Problem `upstream_unavailable` for what Node does not send; then nothing of the upstream's is set
 */
export function beginAnswer(response: ServerResponse, statusCode: number, rawHeaders: readonly string[], route: Pick<GatewayRoute, 'auth' | 'cache'>, cookies: GatewayCookies): void {
  const headers = answerHeaders(rawHeaders, cookies);
  // Node's `writeHead` would keep only the last of several fields with one name, since others are set already.
  const fields = new Map<string, { name: string; values: string[] }>();
  for (const [name, value] of pairs(route.auth === 'none' ? headers : cachedBehindLogin(headers, route))) {
    const field = fields.get(name.toLowerCase());
    if (field) field.values.push(value);
    else fields.set(name.toLowerCase(), { name, values: [value] });
  }
  // Last: behind it, Node would change the encoding of a Content-Disposition.
  const length = fields.get('content-length');
  if (length && fields.delete('content-length')) fields.set('content-length', length);
  try {
    for (const { name, values } of fields.values()) response.setHeader(name, values.length === 1 ? values[0] ?? '' : values);
    response.writeHead(statusCode);
  } catch (cause) {
    for (const { name } of fields.values()) response.removeHeader(name);
    throw new Problem('upstream_unavailable', { cause });
  }
}

/** The upstream's header fields that are for the client. */
export function answerHeaders(rawHeaders: readonly string[], cookies: GatewayCookies): string[] {
  const all = [...pairs(rawHeaders)];
  const named = connectionNamed(all.filter(([name]) => name.toLowerCase() === 'connection').map(([, value]) => value).join(','));
  return all.flatMap(([name, value]) => {
    const lower = name.toLowerCase();
    if (HOP_BY_HOP.has(lower) || named.has(lower)) return [];
    return lower === 'set-cookie' && cookies.isOwn(value.split('=', 1)[0] ?? '') ? [] : [name, value];
  });
}

/** The request's own bytes behind the upstream's base path; `stripPrefix` takes the route's path off. */
export function upstreamPath(route: Pick<GatewayRoute, 'path' | 'upstream' | 'stripPrefix'>, target: string): string {
  const rest = route.stripPrefix && route.path !== '/' ? target.slice(route.path.length) : target;
  const base = route.upstream.pathname.replace(/\/$/, '');
  return base + (rest.startsWith('/') ? rest : `/${rest}`);
}

export function headerOf(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return value === undefined ? null : Array.isArray(value) ? value.join(', ') : value;
}

export const hasBody = ({ headers }: IncomingMessage): boolean => headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;

const connectionNamed = (connection: string | undefined): Set<string> =>
  new Set((connection ?? '').split(',').map((name) => name.trim().toLowerCase()).filter(Boolean));

function* pairs(raw: readonly string[]): Generator<[string, string]> {
  for (let i = 0; i + 1 < raw.length; i += 2) yield [raw[i] ?? '', raw[i + 1] ?? ''];
}
