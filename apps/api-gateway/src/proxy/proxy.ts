import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Agent, errors as undiciErrors } from 'undici';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { hasBody } from '../request/headers.js';
import { Exchange, type UpstreamAnswer } from './exchange.js';
import { RequestBody } from './requestBody.js';
import { SessionWatch } from './sessionWatch.js';
import { timedUpstream } from './timedUpstream.js';
import { type Access, FutileRenewals, renewedAccess, requireAccess } from './upstreamAccess.js';
import { beginAnswer, type Credentials, requestHeaders, upstreamPath } from './upstreamHeaders.js';
import { asksForNonce, proven } from './upstreamProofs.js';
import { createTunnels } from './webSockets.js';

/** Methods that may be sent twice (RFC 9110 §9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/** Answers that never have a body (RFC 9112 §6.3). */
const BODILESS = new Set([204, 304]);

export interface Proxy {
  /**
   * Authenticates, then streams the request to the route's upstream and its answer back. Throws only
   * before anything was sent.
   */
  forward(route: GatewayRoute, request: IncomingMessage, response: ServerResponse): Promise<void>;
  /**
   * The same for a WebSocket: what follows the handshake passes in both directions until a side, or the session, ends.
   * Resolves with the status that the client got.
   */
  tunnel(
    route: GatewayRoute,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<number>;
  /** Cuts WebSockets, so that the server can close. */
  cutTunnels(): void;
  close(): Promise<void>;
}

export function createProxy(gateway: Gateway): Proxy {
  const agent = new Agent({
    connect: { timeout: 5_000 },
    keepAliveTimeout: 30_000,
    bodyTimeout: 0,
    maxHeaderSize: 65_536,
  });
  const futile = new FutileRenewals();
  const watch = new SessionWatch(gateway);
  const tunnels = createTunnels(gateway, futile, watch);
  return {
    async forward(route, request, response) {
      // Node takes it off a request whose client leaves.
      const { socket } = request;
      const departure = new Departure(request, response);
      const access = await requireAccess(gateway, futile, route, request);
      if (departure.aborted) return;
      const ask = (credentials: Credentials): Promise<UpstreamAnswer> =>
        timedUpstream(
          gateway,
          route,
          () => send(agent, gateway, route, request, credentials, departure),
          ({ statusCode }) => statusCode,
        );
      const sendWith = async ({ credentials }: Access): Promise<UpstreamAnswer> => {
        const answer = await ask(credentials);
        if (
          !asksForNonce(gateway, route, credentials, answer.statusCode, answer.rawHeaders) ||
          hasBody(request)
        )
          return answer;
        answer.discard();
        return ask(credentials);
      };
      let upstream = await sendWith(access);
      if (upstream.statusCode === 401 && mayRepeat(request)) {
        const renewed = await renewedAccess(gateway, futile, route, access).catch(
          (error: unknown) => {
            upstream.discard();
            throw error;
          },
        );
        if (renewed !== null) {
          upstream.discard();
          upstream = await sendWith(renewed);
          if (upstream.statusCode === 401 && renewed.caller?.kind === 'session')
            futile.add(route, renewed.caller.session.id);
        }
      }
      try {
        // As for a body that does not come: the server ends connections that take nothing for so long.
        socket.setTimeout(route.timeoutMs);
        beginAnswer(response, upstream.statusCode, upstream.rawHeaders, route, gateway);
        // The head of a stream is news too; one of known length goes out with its first bytes. Node's
        // `flushHeaders` would write it as UTF-8.
        if (!upstream.isWhole && !response.hasHeader('content-length'))
          response.write('', 'latin1');
      } catch (error) {
        upstream.cut();
        throw error;
      }
      if (BODILESS.has(upstream.statusCode)) {
        // A 304 may tell the length of what it leaves out (RFC 9110 §8.6); undici misses those bytes.
        upstream.discard();
        response.end();
        return;
      }
      if (isEventStream(response))
        response.once(
          'close',
          watch.watch(access.caller, () => response.destroy()),
        );
      // Past this point the status is sent: a fault can only cut the answer short, which is what both sides then see.
      await upstream.passOn(response);
    },
    tunnel: tunnels.open,
    cutTunnels: tunnels.close,
    close: () => agent.destroy(),
  };
}

/**
 * Whether the client has gone away: its answer's connection is closed, or the one that an answer behind others in a
 * pipeline waits for.
 */
class Departure {
  aborted: boolean;
  /** What is to be done then. */
  whenGone: () => void = () => undefined;

  constructor({ socket }: IncomingMessage, response: ServerResponse) {
    this.aborted = socket.destroyed;
    const gone = (): void => {
      this.aborted = true;
      this.whenGone();
    };
    socket.once('close', gone);
    response.once('close', () => {
      socket.off('close', gone);
      gone();
    });
  }
}

async function send(
  agent: Agent,
  gateway: Gateway,
  route: GatewayRoute,
  request: IncomingMessage,
  credentials: Credentials,
  departure: Departure,
): Promise<UpstreamAnswer> {
  const attempt = (): Promise<UpstreamAnswer> =>
    sendOnce(agent, gateway, route, request, credentials, departure);
  return attempt().catch((error: unknown) => {
    if (
      departure.aborted ||
      !mayRepeat(request) ||
      !(error instanceof Problem) ||
      !wasStale(error.cause)
    )
      throw error;
    return attempt();
  });
}

const mayRepeat = (request: IncomingMessage): boolean =>
  IDEMPOTENT.has(request.method ?? '') && !hasBody(request);

/**
 * The upstream closed a connection that had served before just as this request came: as good as none (RFC 9112 §9.3.1).
 */
function wasStale(error: unknown): boolean {
  if (error instanceof undiciErrors.SocketError) return (error.socket?.bytesRead ?? 0) > 0;
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET';
}

async function sendOnce(
  agent: Agent,
  gateway: Gateway,
  route: GatewayRoute,
  request: IncomingMessage,
  credentials: Credentials,
  departure: Departure,
): Promise<UpstreamAnswer> {
  const body = hasBody(request) ? new RequestBody(request) : null;
  let isLate = false;
  let stop = (): void => undefined;
  try {
    const headers = requestHeaders(
      gateway,
      route,
      request,
      await proven(gateway, route, request, credentials),
    );
    if (route.preserveHost) headers.push('host', gateway.config.publicUrl.host);
    const exchange = new Exchange(agent, {
      origin: route.upstream.origin,
      path: upstreamPath(route, request.url ?? '/'),
      method: request.method ?? 'GET',
      headers,
      body,
      headersTimeout: body ? route.timeoutMs : 0,
    });
    departure.whenGone = () => exchange.cut();
    if (departure.aborted) exchange.cut();
    if (body === null) {
      // undici's own clock may be a second late.
      const timer = setTimeout(() => {
        isLate = true;
        exchange.cut();
      }, route.timeoutMs);
      stop = () => clearTimeout(timer);
      return await exchange.sent;
    }
    // undici's clock starts when the body is through; until then, ours tells when it no longer moves.
    const stalled = new Promise<never>((_, reject) => {
      stop = watchBody(request, body, route.timeoutMs, (problem) => {
        reject(problem);
        exchange.cut();
      });
    });
    return await Promise.race([exchange.sent, stalled]);
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (
      isLate ||
      error instanceof undiciErrors.HeadersTimeoutError ||
      error instanceof undiciErrors.ConnectTimeoutError
    )
      throw new Problem('upstream_timeout', { cause: error });
    throw new Problem('upstream_unavailable', { cause: error });
  } finally {
    stop();
  }
}

/**
 * Gives up a body of which nothing has come for so long; it is the upstream's fault where that does not take what is
 * there.
 */
function watchBody(
  request: IncomingMessage,
  body: RequestBody,
  ms: number,
  giveUp: (problem: Problem) => void,
): () => void {
  const { socket } = request;
  const silent = (): void =>
    giveUp(new Problem(body.isWaiting ? 'upstream_timeout' : 'request_timeout'));
  const stop = (): void => {
    socket.setTimeout(0);
    request.off('timeout', silent).off('end', stop);
  };
  socket.setTimeout(ms);
  request.on('timeout', silent).once('end', stop);
  return stop;
}

/** An answer that stays open, and so may outlive the session that asked for it (HTML Standard §9.2). */
const isEventStream = (response: ServerResponse): boolean =>
  /^text\/event-stream\b/i.test(String(response.getHeader('content-type') ?? ''));
