import type { IncomingMessage, ServerResponse } from 'node:http';
import { cachedBehindLogin } from '../pages/browserHeaders.js';
import { Problem } from '../request/errors.js';
import {
  endsHere,
  endsHereInAnswers,
  fieldKey,
  isTakenForIdentity,
} from '../request/fieldNames.js';
import { forwardedHeaders, hopsOf } from '../request/forwarded.js';
import type { Gateway } from '../gateway.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { strippedPrefix, translated } from './upstreamAddresses.js';
import type { GatewayCookies } from '../request/sessionCookie.js';

/** Fields to send in place of the client's own: a value to set, null to send none, absent to leave the client's. */
export type Credentials = Readonly<Record<string, string | null>>;

/**
 * The header fields for the upstream: first the gateway's own, since a server that reads only so many fields drops the
 * last; then the client's, as they came and in their order, without what is the gateway's to say, what applications
 * take for an identity, and what the route drops.
 */
export function requestHeaders(
  { config, cookies }: Pick<Gateway, 'config' | 'cookies'>,
  route: Pick<GatewayRoute, 'path' | 'stripPrefix' | 'dropHeaders' | 'passHeaders'>,
  request: IncomingMessage,
  credentials: Credentials,
): string[] {
  const headers = forwardedHeaders(hopsOf(request, config.trustedProxies), config.publicUrl);
  const prefix = strippedPrefix(route);
  if (prefix !== '') headers.push('x-forwarded-prefix', prefix);
  for (const [name, value] of Object.entries(credentials))
    if (value !== null) headers.push(name, value);
  const named = connectionNamed(request.headers.connection);
  for (const [name, value] of pairs(request.rawHeaders)) {
    const lower = name.toLowerCase();
    const key = fieldKey(name);
    const isDropped =
      endsHere(key) ||
      named.has(lower) ||
      route.dropHeaders.has(key) ||
      (isTakenForIdentity(key) && !route.passHeaders.has(key));
    if (isDropped || Object.hasOwn(credentials, key)) continue;
    const kept = lower === 'cookie' ? cookies.withoutOwn(value) : value;
    if (kept !== null) headers.push(name, kept);
  }
  return headers;
}

/**
 * Begins the client's answer with an upstream's status and header fields, each as often as it came: none of this hop's,
 * no Set-Cookie that would overwrite the gateway's own cookies, nothing that holds for the whole host, and no leave for
 * caches behind a login. The fields with a name replace what was set under it before.
 * @throws Problem `upstream_unavailable` for what Node does not send; then nothing of the upstream's is set
 */
export function beginAnswer(
  response: ServerResponse,
  statusCode: number,
  rawHeaders: readonly string[],
  route: GatewayRoute,
  gateway: Pick<Gateway, 'cookies' | 'log'>,
): void {
  const headers = answerHeaders(rawHeaders, route, gateway);
  // Node's `writeHead` would keep only the last of several fields with one name, since others are set already.
  const fields = new Map<string, { name: string; values: string[] }>();
  for (const [name, value] of pairs(
    route.auth === 'none' ? headers : cachedBehindLogin(headers, route),
  )) {
    const field = fields.get(name.toLowerCase());
    if (field) field.values.push(value);
    else fields.set(name.toLowerCase(), { name, values: [value] });
  }
  const vary = fields.get('vary');
  if (vary && route.cors.length > 0) vary.values.push('Origin');
  // Last: behind it, Node would change the encoding of a Content-Disposition.
  const length = fields.get('content-length');
  if (length && fields.delete('content-length')) fields.set('content-length', length);
  try {
    for (const { name, values } of fields.values())
      response.setHeader(name, values.length === 1 ? (values[0] ?? '') : values);
    response.writeHead(statusCode);
  } catch (cause) {
    for (const { name } of fields.values()) response.removeHeader(name);
    throw new Problem('upstream_unavailable', { cause });
  }
}

/** The upstream's header fields that are for the client. */
export function answerHeaders(
  rawHeaders: readonly string[],
  route: GatewayRoute,
  gateway: Pick<Gateway, 'cookies' | 'log'>,
): string[] {
  const all = [...pairs(rawHeaders)];
  const named = connectionNamed(
    all
      .filter(([name]) => name.toLowerCase() === 'connection')
      .map(([, value]) => value)
      .join(','),
  );
  return all.flatMap(([name, value]) => {
    const lower = name.toLowerCase();
    if (endsHereInAnswers(lower) || named.has(lower)) return [];
    if (route.cors.length > 0 && lower.startsWith('access-control-')) return [];
    if (lower === 'set-cookie' && !maySet(value, route, gateway)) return [];
    return [name, translated(lower, value, route)];
  });
}

const warnedOf = new WeakSet<GatewayCookies>();

/** Whether an upstream's Set-Cookie reaches the browser. The first with the gateway's own name is told in the log. */
function maySet(
  setCookie: string,
  { path }: Pick<GatewayRoute, 'path'>,
  { cookies, log }: Pick<Gateway, 'cookies' | 'log'>,
): boolean {
  const name = setCookieName(setCookie);
  // A browser sends back a cookie without a name as its value alone, which may read as `session=…` then.
  if (name === '') return false;
  if (!cookies.isOwn(name)) return true;
  if (!warnedOf.has(cookies)) {
    warnedOf.add(cookies);
    log.warn(
      { event: 'cookie', route: path },
      "an upstream's cookie was dropped: it has the name of the gateway's own (SESSION_COOKIE_NAME)",
    );
  }
  return false;
}

/**
 * RFC 6265bis §5.7: what stands before the first `=` of the first part; a part without one is a value without a name.
 */
function setCookieName(setCookie: string): string {
  const [pair = ''] = setCookie.split(';', 1);
  const equals = pair.indexOf('=');
  return equals === -1 ? '' : pair.slice(0, equals).trim();
}

/** The request's own bytes behind the upstream's base path; `stripPrefix` takes the route's path off. */
export function upstreamPath(
  route: Pick<GatewayRoute, 'path' | 'upstream' | 'stripPrefix'>,
  target: string,
): string {
  const rest = route.stripPrefix && route.path !== '/' ? target.slice(route.path.length) : target;
  const base = route.upstream.pathname.replace(/\/$/, '');
  return base + (rest.startsWith('/') ? rest : `/${rest}`);
}

const connectionNamed = (connection: string | undefined): Set<string> =>
  new Set(
    (connection ?? '')
      .split(',')
      .map((name) => name.trim().toLowerCase())
      .filter(Boolean),
  );

function* pairs(raw: readonly string[]): Generator<[string, string]> {
  for (let i = 0; i + 1 < raw.length; i += 2) yield [raw[i] ?? '', raw[i + 1] ?? ''];
}
