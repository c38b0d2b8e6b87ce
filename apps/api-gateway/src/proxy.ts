import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { hasRole } from '@session-gateway/keycloak-auth';
import { Agent, errors as undiciErrors } from 'undici';
import { authenticate, type Caller } from './authenticate.js';
import { Problem } from './errors.js';
import type { Gateway } from './gateway.js';
import type { GatewayRoute } from './gatewayRoutes.js';
import type { GatewayCookies } from './sessionCookie.js';

/** Connection-specific fields, which end at this hop (RFC 9110 §7.6.1); `Expect` is answered here. */
const HOP_BY_HOP = new Set([
  'connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect', 'host', 'http2-settings',
]);
/** What only the gateway may tell the upstream; `_` is read as `-`, as CGI and WSGI servers do. */
const SPOOFABLE = /^(x-auth-.*|x-forwarded-.*|forwarded|x-real-ip)$/;

export interface Proxy {
  /** Authenticates, then streams the request to the route's upstream and its answer back. Throws only before anything was sent. */
  forward(route: GatewayRoute, request: IncomingMessage, response: ServerResponse): Promise<void>;
  close(): Promise<void>;
}

export function createProxy(gateway: Gateway): Proxy {
  const agent = new Agent({ connect: { timeout: 5_000 }, keepAliveTimeout: 30_000, bodyTimeout: 0, maxHeaderSize: 65_536 });
  return {
    async forward(route, request, response) {
      const authorization = await authorize(gateway, route, request);
      const abort = new AbortController();
      response.once('close', () => abort.abort());
      const upstream = await send(agent, gateway, route, request, authorization, abort.signal);
      try {
        response.writeHead(upstream.statusCode, answerHeaders(upstream.headers, gateway.cookies));
      } catch (cause) {
        // A header that Node will not send on.
        upstream.body.destroy();
        throw new Problem('upstream_unavailable', { cause });
      }
      // Past this point the status is sent: a fault can only cut the answer short, which is what both sides then see.
      await pipeline(upstream.body, response).catch(() => response.destroy());
    },
    close: () => agent.destroy(),
  };
}

/** The Authorization header for the upstream: a string to set, null to send none, undefined to leave the client's own. */
async function authorize(gateway: Gateway, route: GatewayRoute, request: IncomingMessage): Promise<string | null | undefined> {
  if (route.auth === 'none') return undefined;
  const caller = await authenticate(gateway, request.method ?? 'GET', (name) => headerOf(request, name), { accepts: route.auth });
  if (route.protect !== undefined && !hasRole(rolesOf(caller), route.protect, gateway.client.clientId)) throw new Problem('forbidden');
  if (route.token === 'none') return null;
  if (caller.kind === 'bearer') return `Bearer ${caller.token}`;
  const session = await gateway.refresher.usable(caller.session);
  const token = await gateway.vault.accessToken(session);
  if (token === null) throw new Problem('session_not_found');
  return `Bearer ${token}`;
}

const rolesOf = (caller: Caller): readonly string[] => (caller.kind === 'session' ? caller.session.roles : caller.identity.roles);

async function send(agent: Agent, gateway: Gateway, route: GatewayRoute, request: IncomingMessage, authorization: string | null | undefined, signal: AbortSignal) {
  const hasBody = request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
  try {
    return await agent.request({
      origin: route.upstream.origin,
      path: upstreamPath(route, request.url ?? '/'),
      method: (request.method ?? 'GET') as 'GET',
      headers: requestHeaders(gateway, request, authorization),
      body: hasBody ? request : null,
      headersTimeout: route.timeoutMs,
      signal,
    });
  } catch (error) {
    if (error instanceof undiciErrors.HeadersTimeoutError || error instanceof undiciErrors.ConnectTimeoutError) throw new Problem('upstream_timeout', { cause: error });
    throw new Problem('upstream_unavailable', { cause: error });
  }
}

/** The request's own bytes behind the upstream's base path; `stripPrefix` takes the route's path off. */
export function upstreamPath(route: Pick<GatewayRoute, 'path' | 'upstream' | 'stripPrefix'>, target: string): string {
  const rest = route.stripPrefix && route.path !== '/' ? target.slice(route.path.length) : target;
  const base = route.upstream.pathname.replace(/\/$/, '');
  return base + (rest.startsWith('/') ? rest : `/${rest}`);
}

function requestHeaders(gateway: Gateway, request: IncomingMessage, authorization: string | null | undefined): string[] {
  const { publicUrl } = gateway.config;
  const named = connectionNamed(request.headers.connection);
  const headers: string[] = [];
  for (const [name, value] of pairs(request.rawHeaders)) {
    const lower = name.toLowerCase();
    if (HOP_BY_HOP.has(lower) || named.has(lower) || SPOOFABLE.test(lower.replaceAll('_', '-'))) continue;
    if (lower === 'authorization' && authorization !== undefined) continue;
    if (lower === 'cookie') {
      const kept = gateway.cookies.withoutOwn(value);
      if (kept !== null) headers.push(name, kept);
      continue;
    }
    headers.push(name, value);
  }
  if (typeof authorization === 'string') headers.push('authorization', authorization);
  headers.push('x-forwarded-for', request.socket.remoteAddress ?? 'unknown', 'x-forwarded-proto', publicUrl.protocol.slice(0, -1), 'x-forwarded-host', publicUrl.host);
  return headers;
}

/** The upstream's headers for the client: none of this hop's, and no Set-Cookie that would overwrite the gateway's own cookies. */
function answerHeaders(headers: Record<string, string | string[] | undefined>, cookies: GatewayCookies): Record<string, string | string[]> {
  const named = connectionNamed([headers['connection'] ?? ''].flat().join(','));
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || HOP_BY_HOP.has(name) || named.has(name)) continue;
    kept[name] = name === 'set-cookie' ? [value].flat().filter((cookie) => !cookies.isOwn(cookie.split('=', 1)[0] ?? '')) : value;
  }
  return kept;
}

const connectionNamed = (connection: string | undefined): Set<string> =>
  new Set((connection ?? '').split(',').map((name) => name.trim().toLowerCase()).filter(Boolean));

function* pairs(raw: readonly string[]): Generator<[string, string]> {
  for (let i = 0; i + 1 < raw.length; i += 2) yield [raw[i] ?? '', raw[i + 1] ?? ''];
}

export function headerOf(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return value === undefined ? null : Array.isArray(value) ? value.join(', ') : value;
}
