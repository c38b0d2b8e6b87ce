import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import { createFetch } from './app.js';
import { boundRestOfBody, withinBodyTime } from './bodies.js';
import { Connections, SERVER_TIMEOUTS } from './connections.js';
import { destination, judgedPath, ownName } from './destination.js';
import { publicAddress } from './foreignHost.js';
import { fail } from './refusals.js';
import { observe } from './telemetry.js';
import { answerUnreadable } from './unreadable.js';
import { takeUpgrades } from './upgrades.js';
import { protectBrowser } from '../pages/browserHeaders.js';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import {
  hasTooManyFields,
  MAX_HEADER_BYTES,
  requireSaneSize,
  TOO_MANY_FIELDS,
} from '../request/limits.js';
import { shareWithOrigins } from '../proxy/crossOrigin.js';
import { createProxy, type Proxy } from '../proxy/proxy.js';
import { hasBody } from '../request/headers.js';
import { clientNoter } from '../sessions/noteClient.js';
import { createWhoAmI } from '../sessions/whoAmI.js';
import { asksForVerdict, verify, VERIFY_PATH } from '../sessions/verify.js';

/** Supervisors lose patience after 30 s; a stream without end must not cost the refreshes under way. */
const CLOSE_WITHIN_MS = 20_000;

/** How a reverse proxy asks, whose path needs no judgement. */
const QUESTIONS: ReadonlySet<string> = new Set([VERIFY_PATH, `${VERIFY_PATH}?login=redirect`]);

type Listener = (request: IncomingMessage, response: ServerResponse) => void;

type DevelopmentProvider = { path: string; listener: Listener } | null;

/**
 * The public server: judges the path on its raw bytes, then hands the request to the development provider, to a route's
 * upstream, or to the gateway's own routes.
 */
export function createPublicServer(
  gateway: Gateway,
  developmentProvider: DevelopmentProvider,
): { server: Server; close: () => Promise<void> } {
  const { config, life, metrics } = gateway;
  const proxy = createProxy(gateway);
  const connections = new Connections({
    perAddress: config.maxConnectionsPerAddress,
    trustedProxies: config.trustedProxies,
    onCut: (reason) => metrics.connectionsCut.inc({ reason }),
  });
  const dispatch = createDispatch(gateway, proxy, developmentProvider);
  const answerWhoAmI = createWhoAmI(gateway);
  // Each request has its line in the log then.
  const tellsAll = config.logLevel === 'debug' || config.logLevel === 'trace';
  const server = createServer(
    { ...SERVER_TIMEOUTS, maxHeaderSize: MAX_HEADER_BYTES, requireHostHeader: false },
    (request, response) => {
      // So that nobody counts on a connection that is about to go.
      if (life.stopping) response.setHeader('Connection', 'close');
      if (hasBody(request)) boundRestOfBody(request, response, connections);
      const tooMany = hasTooManyFields(request);
      if (gateway.tracer === null && !tooMany) {
        // Asked once for every request of an application: a yes needs no id to be found again by.
        if (QUESTIONS.has(request.url ?? '')) {
          answerVerdict(gateway, request, response);
          return;
        }
        if (!tellsAll && answerWhoAmI(request, response)) return;
      }
      if (!connections.begun(request, response)) return;
      const answered = { route: 'refused' };
      const route = (): string => answered.route;
      observe(gateway, request, response, route, () => {
        if (tooMany) {
          fail(gateway, request, response, new Problem('headers_too_large'));
          return;
        }
        dispatch(request, response, answered)
          .catch((error: unknown) => fail(gateway, request, response, error))
          .catch(() => response.destroy());
      });
    },
  );
  // Node drops what is beyond without a word; one more than is allowed shows that there was more.
  server.maxHeadersCount = TOO_MANY_FIELDS;
  connections.watch(server);
  answerUnreadable(server, connections, config);
  // An expectation that is none of HTTP's is let be (RFC 9110 §10.1.1); Node by itself would answer with a bare 417.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  takeUpgrades(gateway, server, proxy, connections);
  return {
    server,
    async close() {
      proxy.cutTunnels();
      await closeServer(server, () => connections.cutAll());
      await proxy.close();
    },
  };
}

function answerVerdict(gateway: Gateway, request: IncomingMessage, response: ServerResponse): void {
  const refused = (error: unknown): void => {
    const answer = (): void => fail(gateway, request, response, error);
    observe(gateway, request, response, () => VERIFY_PATH, answer);
  };
  try {
    verify(gateway, request, response)?.catch(refused);
  } catch (error) {
    refused(error);
  }
}

type Dispatch = (
  request: IncomingMessage,
  response: ServerResponse,
  answered: { route: string },
) => Promise<void>;

/** Leads a request to what answers it; `answered` tells what that is called. */
function createDispatch(
  gateway: Gateway,
  proxy: Proxy,
  developmentProvider: DevelopmentProvider,
): Dispatch {
  const answer = createFetch(gateway);
  const noteClient = clientNoter(gateway);
  const own = getRequestListener((request, env) => {
    noteClient(request, (env as { incoming: IncomingMessage }).incoming);
    return answer(request);
  });
  return async (request, response, answered) => {
    const path = judgedPath(gateway, request);
    if (developmentProvider && path.raw.startsWith(developmentProvider.path)) {
      answered.route = developmentProvider.path;
      return void developmentProvider.listener(request, response);
    }
    const route = destination(gateway, path);
    if (route !== null && shareWithOrigins(route, request, response)) return;
    answered.route = route?.path ?? ownName(path.raw);
    requireSaneSize(request, route === null);
    const address = request.url ?? '/';
    protectBrowser(response, gateway.config, { address, answeredHere: route === null });
    const elsewhere = route === null ? publicAddress(gateway.config, request) : null;
    if (elsewhere !== null) {
      response.writeHead(303, { Location: elsewhere }).end();
      return;
    }
    if (asksForVerdict(path.raw)) return verify(gateway, request, response);
    if (route !== null) return proxy.forward(route, request, response);
    // Where a request went decides nothing, PUBLIC_URL does; an odd name must not keep its URL from being read.
    request.headers.host = gateway.config.publicUrl.host;
    const answering = own(request, response);
    await (hasBody(request) ? withinBodyTime(request, answering) : answering);
  };
}

/**
 * Stops accepting, lets requests under way finish, and closes connections as they fall idle. `cut` ends what is left
 * after 20 s, also connections that no longer speak HTTP.
 */
export async function closeServer(server: Server, cut?: () => void): Promise<void> {
  const idle = setInterval(() => server.closeIdleConnections(), 50);
  const overdue = setTimeout(() => {
    server.closeAllConnections();
    cut?.();
  }, CLOSE_WITHIN_MS);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  clearInterval(idle);
  clearTimeout(overdue);
}
