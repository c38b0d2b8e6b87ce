import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Agent, type Dispatcher, errors as undiciErrors } from 'undici';
import { Problem } from './errors.js';
import type { Gateway } from './gateway.js';
import type { GatewayRoute } from './gatewayRoutes.js';
import { timedUpstream } from './telemetry.js';
import { type Access, FutileRenewals, renewedAccess, requireAccess } from './upstreamAccess.js';
import { beginAnswer, type Credentials, hasBody, requestHeaders, upstreamPath } from './upstreamHeaders.js';
import { asksForNonce, proven } from './upstreamProofs.js';
import { createTunnels } from './webSockets.js';

/** Methods that may be sent twice (RFC 9110 §9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

export interface Proxy {
  /** Authenticates, then streams the request to the route's upstream and its answer back. Throws only before anything was sent. */
  forward(route: GatewayRoute, request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** The same for a WebSocket: what follows the handshake passes in both directions until a side, or the session, ends. Resolves with the status that the client got. */
  tunnel(route: GatewayRoute, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<number>;
  /** Cuts WebSockets, so that the server can close. */
  cutTunnels(): void;
  close(): Promise<void>;
}

export function createProxy(gateway: Gateway): Proxy {
  const agent = new Agent({ connect: { timeout: 5_000 }, keepAliveTimeout: 30_000, bodyTimeout: 0, maxHeaderSize: 65_536 });
  const futile = new FutileRenewals();
  const tunnels = createTunnels(gateway, futile);
  return {
    async forward(route, request, response) {
      const access = await requireAccess(gateway, futile, route, request);
      // An emitter does for undici what an AbortSignal does, which would cost an exception for every request that ends well.
      const abort = new EventEmitter();
      response.once('close', () => abort.emit('abort'));
      const ask = (credentials: Credentials): Promise<Dispatcher.ResponseData> =>
        timedUpstream(gateway, route, () => send(agent, gateway, route, request, credentials, abort), ({ statusCode }) => statusCode);
      const sendWith = async ({ credentials }: Access): Promise<Dispatcher.ResponseData> => {
        const answer = await ask(credentials);
        if (!asksForNonce(gateway, route, credentials, answer.statusCode, rawHeaders(answer)) || hasBody(request)) return answer;
        discard(answer);
        return ask(credentials);
      };
      let upstream = await sendWith(access);
      if (upstream.statusCode === 401 && IDEMPOTENT.has(request.method ?? '') && !hasBody(request)) {
        const renewed = await renewedAccess(gateway, futile, route, access).catch((error: unknown) => {
          discard(upstream);
          throw error;
        });
        if (renewed !== null) {
          discard(upstream);
          upstream = await sendWith(renewed);
          if (upstream.statusCode === 401 && renewed.caller?.kind === 'session') futile.add(route, renewed.caller.session.id);
        }
      }
      try {
        beginAnswer(response, upstream.statusCode, rawHeaders(upstream), route, gateway.cookies);
        // The head of a stream is news too; one of known length goes out with its first bytes.
        if (!response.hasHeader('content-length')) response.flushHeaders();
      } catch (error) {
        upstream.body.destroy();
        throw error;
      }
      // Past this point the status is sent: a fault can only cut the answer short, which is what both sides then see.
      await passOn(upstream.body, response);
    },
    tunnel: tunnels.open,
    cutTunnels: tunnels.close,
    close: () => agent.destroy(),
  };
}

async function send(agent: Agent, gateway: Gateway, route: GatewayRoute, request: IncomingMessage, credentials: Credentials, signal: EventEmitter): Promise<Dispatcher.ResponseData> {
  const body = hasBody(request) ? request : null;
  let isLate = false;
  let timer: NodeJS.Timeout | undefined;
  try {
    const headers = requestHeaders(gateway, request, await proven(gateway, route, request, credentials));
    // undici's own clock may be a second late, but knows when a body still moves. Ours starts when undici listens.
    if (!body) timer = setTimeout(() => {
      isLate = true;
      signal.emit('abort');
    }, route.timeoutMs);
    return await agent.request({
      origin: route.upstream.origin,
      path: upstreamPath(route, request.url ?? '/'),
      method: (request.method ?? 'GET') as 'GET',
      headers,
      body,
      headersTimeout: body ? route.timeoutMs : 0,
      responseHeaders: 'raw',
      signal,
    });
  } catch (error) {
    if (isLate || error instanceof undiciErrors.HeadersTimeoutError || error instanceof undiciErrors.ConnectTimeoutError) throw new Problem('upstream_timeout', { cause: error });
    throw new Problem('upstream_unavailable', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Sends on a body until all of it is out or either side is gone; a client that goes has the request aborted, and with it
 * the body. Node's `pipeline` would do, but builds an AbortController and an exception for every answer that ends well.
 */
function passOn(body: Dispatcher.ResponseData['body'], response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const cut = (): void => void response.destroy();
    body.once('error', cut).once('close', () => { if (!response.writableEnded) cut(); });
    response.once('error', cut).once('close', () => { body.destroy(); resolve(); });
    // A client that went away earlier will not be told of once more.
    if (response.destroyed) {
      body.destroy();
      resolve();
    } else body.pipe(response);
  });
}

/** Name, value, name, value, … as `responseHeaders: 'raw'` has them. */
const rawHeaders = ({ headers }: Dispatcher.ResponseData): string[] => headers as unknown as string[];

/** Reads what is left of a short answer, so that its connection serves again; cuts a long one. */
function discard({ body }: Dispatcher.ResponseData): void {
  body.dump({ limit: 16_384 }).catch(() => body.destroy());
}
