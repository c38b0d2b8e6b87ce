import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { createApp, reportProblem } from './app.js';
import { Problem, problemOf } from './errors.js';
import type { Gateway } from './gateway.js';
import { type GatewayRoute, matchRoute } from './gatewayRoutes.js';
import { createProxy, headerOf } from './proxy.js';
import { noteRemoteAddress } from './remoteAddress.js';
import { unambiguousPath } from './requestPath.js';
import { healthRoutes } from './routes/health.js';

type Listener = (request: IncomingMessage, response: ServerResponse) => void;

/** Paths below these are answered here and never forwarded. */
const OWN = /^\/(auth|admin\/sessions|account|health)(\/|$)/;

/**
 * The public server: judges the path on its raw bytes, then hands the request to the development provider, to a route's
 * upstream, or to the gateway's own routes.
 */
export function createPublicServer(gateway: Gateway, developmentProvider: { path: string; listener: Listener } | null): { server: Server; close: () => Promise<void> } {
  const proxy = createProxy(gateway);
  const app = createApp(gateway);
  const own = getRequestListener((request, env) => {
    noteRemoteAddress(request, (env as { incoming: IncomingMessage }).incoming.socket.remoteAddress);
    return app.fetch(request);
  });

  const dispatch = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    request.url = originForm(request.url ?? '/', gateway.config.publicUrl.host);
    const path = unambiguousPath(request.url);
    if (path === null) throw new Problem('path_ambiguous');
    if (developmentProvider && path.raw.startsWith(developmentProvider.path)) return developmentProvider.listener(request, response);
    // Encoded letters must not lead a request past a rule: both readings have to come to the same end.
    const [end, decodedEnd] = [destination(gateway, path.raw), destination(gateway, path.decoded)];
    if (end !== decodedEnd) throw new Problem('path_ambiguous');
    if (end !== null) return proxy.forward(end, request, response);
    await own(request, response);
  };

  const closing = { now: false };
  const server = createServer((request, response) => {
    if (closing.now) response.setHeader('Connection', 'close');
    dispatch(request, response).catch((error: unknown) => fail(gateway, request, response, error));
  });
  return {
    server,
    async close() {
      closing.now = true;
      await closeServer(server);
      await proxy.close();
    },
  };
}

/** Health and metrics, for those who run the gateway. */
export function createManagementServer(gateway: Gateway): Server {
  const app = healthRoutes(gateway);
  const health = getRequestListener((request) => app.fetch(request));
  return createServer((request, response) => {
    if (request.url !== '/metrics') return void health(request, response);
    gateway.metrics.registry.metrics().then(
      (text) => response.writeHead(200, { 'Content-Type': gateway.metrics.registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
}

/** Stops accepting, lets requests under way finish, and closes connections as they fall idle. */
export async function closeServer(server: Server): Promise<void> {
  const idle = setInterval(() => server.closeIdleConnections(), 50);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  clearInterval(idle);
}

function destination(gateway: Gateway, path: string): GatewayRoute | null {
  if (OWN.test(path)) return null;
  return matchRoute(gateway.config.routes, path);
}

/** A proxy's absolute form of our own address is as good as origin form (RFC 9112 §3.2.2); any other stays and is refused. */
function originForm(target: string, publicHost: string): string {
  const match = /^https?:\/\/([^/?#]*)(\/.*)?$/i.exec(target);
  return match?.[1]?.toLowerCase() === publicHost ? (match[2] ?? '/') : target;
}

function fail(gateway: Gateway, request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const problem = problemOf(error);
  reportProblem(gateway, problem);
  // A person who opens a protected page is taken to the login; a program is told.
  const navigates = headerOf(request, 'sec-fetch-mode') === 'navigate' && headerOf(request, 'sec-fetch-dest') !== 'iframe' && request.method === 'GET';
  const clear = problem.clearsCookie && request.headers.cookie ? { 'Set-Cookie': gateway.cookies.clearSession() } : {};
  if (problem.status === 401 && navigates && problem.code !== 'bearer_invalid') {
    response.writeHead(302, { Location: `/auth/login?return_to=${encodeURIComponent(request.url ?? '/')}`, 'Cache-Control': 'no-store', ...clear }).end();
    return;
  }
  response.writeHead(problem.status, { ...problem.headers(), ...clear }).end(problem.body());
  // What is left of a body that nobody will read must not hold the connection.
  request.resume();
}
