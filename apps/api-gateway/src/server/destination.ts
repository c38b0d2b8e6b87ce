import type { IncomingMessage } from 'node:http';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { type GatewayRoute, isUnderAnotherRule, matchRoute } from '../settings/gatewayRoutes.js';
import { type RequestPath, unambiguousPath } from '../request/requestPath.js';
import { OPERATIONS } from './openapi.js';

/** Paths below these are answered here and never forwarded. */
const OWN = /^\/(auth|admin\/sessions|account|health)(\/|$)/;
/** The same where the API's description is shown. */
const OWN_IN_DEVELOPMENT = /^\/(auth|admin\/sessions|account|health|openapi)(\/|$)/;

/** `uri-host [ ":" port ]` (RFC 9110 §7.2), loosely. */
const HOST = /^(\[[\da-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?$/i;
/** What is answered to TRACE. */
const FORWARDED_METHODS = ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE'];
const OWN_NAMES: ReadonlySet<string> = new Set(
  Object.keys(OPERATIONS).map(
    (operation) => operation.split(' ')[1]?.split('/', 3).join('/') ?? '',
  ),
);

/** What a path of the gateway's own is called in traces and logs: without the ids that some of them hold. */
export function ownName(path: string): string {
  const name = path.split('/', 3).join('/');
  return OWN_NAMES.has(name) ? name : 'unknown';
}

/**
 * The path that a request is judged by, and forwarded with. Its body has to be framed in one way only, and its method
 * must not hand out credentials.
 */
export function judgedPath(gateway: Gateway, request: IncomingMessage): RequestPath {
  // Node undoes the chunks and leaves it at that: what is under another coding would go up under a
  // wrong name (RFC 9112 §6.1).
  if (!/^chunked$/i.test(request.headers['transfer-encoding'] ?? 'chunked'))
    throw new Problem('request_invalid');
  // RFC 9112 §6.1: HTTP/1.0 knows no codings, and whoever passed such a request on may have read another body.
  if (
    !/^1\.[01]$/.test(request.httpVersion) ||
    (request.httpVersion === '1.0' && request.headers['transfer-encoding'] !== undefined)
  )
    throw new Problem('request_invalid');
  // RFC 9112 §3.2: one, but for HTTP/1.0, which may have none.
  const hosts = request.rawHeaders.filter(
    (_, i) => i % 2 === 1 && request.rawHeaders[i - 1]?.toLowerCase() === 'host',
  );
  if (hosts.length > 1 || !HOST.test(hosts[0] ?? (request.httpVersion === '1.0' ? '' : ' ')))
    throw new Problem('request_invalid');
  // An upstream answers TRACE with the request as it got it, bearer token and all (RFC 9110 §9.3.8).
  if (request.method === 'TRACE')
    throw new Problem('method_not_allowed', { allow: FORWARDED_METHODS });
  request.url = originForm(request.url ?? '/', gateway.config.publicUrl.host);
  const path = unambiguousPath(request.url);
  if (path === null) throw new Problem('path_ambiguous');
  return path;
}

/** The route of a path; null for the gateway's own. */
export function destination(
  { config }: Gateway,
  { raw, decoded }: RequestPath,
): GatewayRoute | null {
  const own = config.production ? OWN : OWN_IN_DEVELOPMENT;
  const endOf = (path: string): GatewayRoute | null | 'own' =>
    own.test(path) ? 'own' : matchRoute(config.routes, path);
  const end = endOf(raw);
  // Encoded letters, or parameters that some servers take off a segment, must not lead a request past a rule: all
  // readings have to come to the same end.
  if (
    (decoded !== raw && endOf(decoded) !== end) ||
    (decoded.includes(';') && endOf(decoded.replace(/;[^/]*/g, '')) !== end)
  )
    throw new Problem('path_ambiguous');
  if (end === 'own' || end === null) return null;
  if (isUnderAnotherRule(config.routes, end, { raw, decoded })) throw new Problem('path_ambiguous');
  return end;
}

/**
 * A proxy's absolute form of our own address is as good as origin form (RFC 9112 §3.2.2); any
 * other stays and is refused.
 */
function originForm(target: string, publicHost: string): string {
  const match = /^https?:\/\/([^/?#]*)(\/.*)?$/i.exec(target);
  return match?.[1]?.toLowerCase() === publicHost ? (match[2] ?? '/') : target;
}
