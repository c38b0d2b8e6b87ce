import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { createFetch, emptyApp, reportProblem } from './app.js';
import { protectBrowser } from './browserHeaders.js';
import { Problem, problemOf } from './errors.js';
import { forwardingOf } from './forwarded.js';
import type { Gateway } from './gateway.js';
import { type GatewayRoute, matchRoute } from './gatewayRoutes.js';
import { answerUnreadable, MAX_HEADER_BYTES, requireSaneSize } from './limits.js';
import { OPERATIONS } from './openapi.js';
import { onwardPage } from './page.js';
import { createProxy } from './proxy.js';
import { noteRemoteAddress } from './remoteAddress.js';
import { type RequestPath, unambiguousPath } from './requestPath.js';
import { localPath } from './returnTo.js';
import { healthRoutes } from './routes/health.js';
import { asksForVerdict, verify, VERIFY_PATH } from './routes/verify.js';
import { mayHoldCookieBack } from './strictNavigation.js';
import { observe, observed } from './telemetry.js';
import { headerOf } from './upstreamHeaders.js';
import { isWebSocketUpgrade, responseOn } from './webSockets.js';

/** Supervisors lose patience after 30 s; a stream without end must not cost the refreshes under way. */
const CLOSE_WITHIN_MS = 20_000;

type Listener = (request: IncomingMessage, response: ServerResponse) => void;

/** Paths below these are answered here and never forwarded. */
const OWN = /^\/(auth|admin\/sessions|account|health)(\/|$)/;
/** The same where the API's description is shown. */
const OWN_IN_DEVELOPMENT = /^\/(auth|admin\/sessions|account|health|openapi)(\/|$)/;

/** `uri-host [ ":" port ]` (RFC 9110 §7.2), loosely. */
const HOST = /^(\[[\da-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?$/i;
/** What is answered to TRACE. */
const FORWARDED_METHODS = ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE'];
/** How long an unused connection of a client is kept. */
const KEEP_ALIVE_MS = 65_000;
/** How long a connection may be silent within a request to a route that is answered here. */
const OWN_SILENCE_MS = 30_000;

/**
 * The public server: judges the path on its raw bytes, then hands the request to the development provider, to a route's
 * upstream, or to the gateway's own routes.
 */
export function createPublicServer(gateway: Gateway, developmentProvider: { path: string; listener: Listener } | null): { server: Server; close: () => Promise<void> } {
  const proxy = createProxy(gateway);
  const answer = createFetch(gateway);
  const own = getRequestListener((request, env) => {
    noteRemoteAddress(request, forwardingOf((env as { incoming: IncomingMessage }).incoming, gateway.config.trustedProxies, gateway.config.publicUrl).hops[0]);
    return answer(request);
  });

  const dispatch = async (request: IncomingMessage, response: ServerResponse, answered: { route: string }): Promise<void> => {
    const path = judgedPath(gateway, request);
    if (developmentProvider && path.raw.startsWith(developmentProvider.path)) {
      answered.route = developmentProvider.path;
      return developmentProvider.listener(request, response);
    }
    const route = destination(gateway, path);
    answered.route = route?.path ?? ownName(path.raw);
    requireSaneSize(request, route === null);
    protectBrowser(response, gateway.config, route === null);
    if (asksForVerdict(path.raw)) return verify(gateway, request, response);
    if (route !== null) return proxy.forward(route, request, response);
    request.setTimeout(OWN_SILENCE_MS);
    // Where a request went decides nothing, PUBLIC_URL does; an odd name must not keep its URL from being read.
    request.headers.host = gateway.config.publicUrl.host;
    await own(request, response);
  };

  // Node's own bound on a whole request would end any upload after five minutes; that on its head stays.
  // A peer that has vanished is noticed by TCP alone; who keeps connections to us for a minute, as load balancers do, should close them first.
  const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES, requestTimeout: 0, keepAlive: true, keepAliveInitialDelay: 30_000, keepAliveTimeout: KEEP_ALIVE_MS, requireHostHeader: false }, (request, response) => {
    // So that nobody counts on a connection that is about to go.
    if (gateway.life.stopping) response.setHeader('Connection', 'close');
    // Asked once for every request of an application: a yes needs no id to be found again by.
    if (request.url === VERIFY_PATH && gateway.tracer === null) {
      const refused = (error: unknown): void => observe(gateway, request, response, () => VERIFY_PATH, () => fail(gateway, request, response, error));
      try {
        verify(gateway, request, response)?.catch(refused);
      } catch (error) {
        refused(error);
      }
      return;
    }
    const answered = { route: 'refused' };
    observe(gateway, request, response, () => answered.route, () => {
      dispatch(request, response, answered).catch((error: unknown) => fail(gateway, request, response, error));
    });
  });
  answerUnreadable(server);
  // An expectation that is none of HTTP's is let be (RFC 9110 §10.1.1); Node by itself would answer with a bare 417.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  // One for each request in a pipeline, and they are not few (see `Departure`).
  server.on('connection', (socket) => socket.setMaxListeners(0));
  const upgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    const route = destination(gateway, judgedPath(gateway, request));
    requireSaneSize(request, false);
    if (!isWebSocketUpgrade(request) || !route?.websocket) return withoutUpgrade(server, request, socket, head);
    const watched = observed(gateway, request);
    await watched.run(() => proxy.tunnel(route, request, socket, head)).then((status) => watched.ended(route.path, status), (error: unknown) => {
      watched.ended(route.path, problemOf(error).status);
      if (socket.destroyed) return;
      const response = responseOn(request, socket);
      response.setHeader('X-Request-Id', watched.id);
      watched.run(() => fail(gateway, request, response, error));
    });
  };
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    upgrade(request, socket, head).catch((error: unknown) => {
      if (socket.destroyed) return;
      const response = responseOn(request, socket);
      observe(gateway, request, response, () => 'refused', () => fail(gateway, request, response, error));
    });
  });
  return {
    server,
    async close() {
      proxy.cutTunnels();
      await closeServer(server);
      await proxy.close();
    },
  };
}

const OWN_NAMES: ReadonlySet<string> = new Set(Object.keys(OPERATIONS).map((operation) => operation.split(' ')[1]?.split('/', 3).join('/') ?? ''));

/** What a path of the gateway's own is called in traces and logs: without the ids that some of them hold. */
function ownName(path: string): string {
  const name = path.split('/', 3).join('/');
  return OWN_NAMES.has(name) ? name : 'unknown';
}

/** Health and metrics, for those who run the gateway. */
export function createManagementServer(gateway: Gateway): Server {
  const app = emptyApp(gateway).use(healthRoutes(gateway));
  const health = getRequestListener((request) => app.fetch(request));
  return createServer((request, response) => {
    if ((request.url ?? '').split('?', 1)[0] !== '/metrics') return void health(request, response);
    gateway.metrics.registry.metrics().then(
      (text) => response.writeHead(200, { 'Content-Type': gateway.metrics.registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
}

/** Stops accepting, lets requests under way finish, and closes connections as they fall idle. */
export async function closeServer(server: Server): Promise<void> {
  const idle = setInterval(() => server.closeIdleConnections(), 50);
  const overdue = setTimeout(() => server.closeAllConnections(), CLOSE_WITHIN_MS);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  clearInterval(idle);
  clearTimeout(overdue);
}

/** The path that a request is judged by, and forwarded with. Its body has to be framed in one way only, and its method must not hand out credentials. */
function judgedPath(gateway: Gateway, request: IncomingMessage): RequestPath {
  // Node undoes the chunks and leaves it at that: what is under another coding would go up under a wrong name (RFC 9112 §6.1).
  if (!/^(chunked)?$/i.test(request.headers['transfer-encoding'] ?? '')) throw new Problem('request_invalid');
  // RFC 9112 §3.2: one, but for HTTP/1.0, which may have none.
  const hosts = request.rawHeaders.filter((_, i) => i % 2 === 1 && request.rawHeaders[i - 1]?.toLowerCase() === 'host');
  if (hosts.length > 1 || !HOST.test(hosts[0] ?? (request.httpVersion === '1.0' ? '' : ' '))) throw new Problem('request_invalid');
  // An upstream answers TRACE with the request as it got it, bearer token and all (RFC 9110 §9.3.8).
  if (request.method === 'TRACE') throw new Problem('method_not_allowed', { allow: FORWARDED_METHODS });
  request.url = originForm(request.url ?? '/', gateway.config.publicUrl.host);
  const path = unambiguousPath(request.url);
  if (path === null) throw new Problem('path_ambiguous');
  return path;
}

/** The route of a path; null for the gateway's own. */
function destination({ config }: Gateway, { raw, decoded }: RequestPath): GatewayRoute | null {
  const own = config.production ? OWN : OWN_IN_DEVELOPMENT;
  const endOf = (path: string): GatewayRoute | null | 'own' => (own.test(path) ? 'own' : matchRoute(config.routes, path));
  const end = endOf(raw);
  // Encoded letters, or parameters that some servers take off a segment, must not lead a request past a rule: all readings have to come to the same end.
  if ((decoded !== raw && endOf(decoded) !== end) || (decoded.includes(';') && endOf(decoded.replace(/;[^/]*/g, '')) !== end)) throw new Problem('path_ambiguous');
  return end === 'own' ? null : end;
}

/**
 * An upgrade that is not taken up is a request as any other (RFC 9110 §7.8): Java's client asks for h2c with each first
 * one. Node has left the protocol by then, so its head is put back without the field, for the server to read anew.
 */
function withoutUpgrade(server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { rawHeaders } = request;
  const lines = rawHeaders.flatMap((name, i) => (i % 2 === 0 && name.toLowerCase() !== 'upgrade' ? [`${name}: ${rawHeaders[i + 1] ?? ''}`] : []));
  socket.unshift(Buffer.concat([Buffer.from(`${[`${request.method} ${request.url} HTTP/${request.httpVersion}`, ...lines].join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit('connection', socket);
}

/** A proxy's absolute form of our own address is as good as origin form (RFC 9112 §3.2.2); any other stays and is refused. */
function originForm(target: string, publicHost: string): string {
  const match = /^https?:\/\/([^/?#]*)(\/.*)?$/i.exec(target);
  return match?.[1]?.toLowerCase() === publicHost ? (match[2] ?? '/') : target;
}

/** Where a person comes back to after the login: what was asked for, without its query where that is too long to take along. */
const wayBack = ({ config: { publicUrl } }: Gateway, url: string): string =>
  localPath(url, publicUrl.origin) ?? localPath(url.split('?', 1)[0] ?? '/', publicUrl.origin) ?? '/';

function fail(gateway: Gateway, request: IncomingMessage, response: ServerResponse, error: unknown): void {
  // The socket is gone from a request whose answer waited behind others when the client left.
  if (response.headersSent || response.destroyed || (request.socket as Socket | null)?.destroyed !== false) {
    response.destroy();
    return;
  }
  protectBrowser(response, gateway.config, true);
  const problem = problemOf(error);
  reportProblem(gateway, problem);
  // A person who opens a protected page is taken to the login; a program is told, and so is a reverse proxy that asks.
  const navigates = !request.url?.startsWith('/auth/') && headerOf(request, 'sec-fetch-mode') === 'navigate' && headerOf(request, 'sec-fetch-dest') !== 'iframe' && request.method === 'GET';
  const clear = problem.clearsCookie && gateway.cookies.carriesSession(request.headers.cookie) ? { 'Set-Cookie': gateway.cookies.clearSession() } : {};
  if (problem.status === 401 && navigates && problem.code !== 'bearer_invalid') {
    if (mayHoldCookieBack(gateway, (name) => headerOf(request, name))) {
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' }).end(onwardPage(request.url ?? '/'));
      return;
    }
    response.writeHead(302, { Location: `/auth/login?return_to=${encodeURIComponent(wayBack(gateway, request.url ?? '/'))}`, 'Cache-Control': 'no-store', ...clear }).end();
    return;
  }
  // The rest of a body that does not move is not waited for.
  if (problem.code === 'request_timeout' || (problem.code === 'upstream_timeout' && !request.complete)) response.setHeader('Connection', 'close');
  response.writeHead(problem.status, { ...problem.headers(), ...clear }).end(problem.body());
  // What is left of a body that nobody will read must not hold the connection.
  request.resume();
}
