import {
  type ClientRequest,
  type IncomingMessage,
  request as httpRequest,
  ServerResponse,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Caller } from '../sessions/authenticate.js';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { proveSameOrigin } from '../request/sameOrigin.js';
import { headerOf } from '../request/headers.js';
import type { SessionWatch } from './sessionWatch.js';
import { timedUpstream } from './timedUpstream.js';
import {
  type Access,
  type FutileRenewals,
  renewedAccess,
  requireAccess,
} from './upstreamAccess.js';
import {
  answerHeaders,
  beginAnswer,
  type Credentials,
  requestHeaders,
  upstreamPath,
} from './upstreamHeaders.js';
import { asksForNonce, proven } from './upstreamProofs.js';

/** For what one side said last, when it has left and the other reads slowly. */
const LAST_WORDS_MS = 10_000;

/** As other proxies log it: the client left before it had an answer. */
const CLIENT_CLOSED = 499;

export interface Tunnels {
  /**
   * The status that the client got: 101, or the upstream's own where it would not switch; 499
   * when it went away meanwhile.
   */
  readonly open: (
    route: GatewayRoute,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ) => Promise<number>;
  readonly close: () => void;
}

/** An upgrade that asks for a WebSocket (RFC 6455 §4.2.1); any other is none of ours. */
export const isWebSocketUpgrade = (request: IncomingMessage): boolean =>
  request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket';

/**
 * WebSockets as two sockets that are joined after the upstream's handshake: frames pass untouched, with the sockets'
 * own back-pressure. A tunnel lives as long as what it was opened with (`SessionWatch`).
 */
export function createTunnels(
  gateway: Gateway,
  futile: FutileRenewals,
  watch: SessionWatch,
): Tunnels {
  /** What cuts each of them. */
  const tunnels = new Set<() => void>();
  let closed = false;

  const join = (caller: Caller | null, client: Duplex, upstream: Duplex): void => {
    let overdue: NodeJS.Timeout | undefined;
    const cut = (): void => {
      clearTimeout(overdue);
      tunnels.delete(cut);
      forget();
      client.destroy();
      upstream.destroy();
    };
    const forget = watch.watch(caller, cut);
    // Its handshake was under way when the others were cut.
    if (closed) {
      cut();
      return;
    }
    tunnels.add(cut);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      socket.once('close', (failed: boolean) => {
        // What a side said before it left, its Close frame at least, still goes to the other one,
        // which then leaves by itself.
        if (failed || other.destroyed || !other.writableEnded) cut();
        else overdue = setTimeout(cut, LAST_WORDS_MS);
      });
    }
    client.pipe(upstream);
    upstream.pipe(client);
  };

  return {
    async open(route, request, socket, head) {
      // Every handshake, whoever it is from: a page elsewhere could open one with this person's cookie.
      proveSameOrigin((name) => headerOf(request, name), gateway.config.publicUrl.origin);
      let access = await requireAccess(gateway, futile, route, request);
      if (socket.destroyed) return CLIENT_CLOSED;
      const shakeWith = async ({ credentials }: Access): Promise<Shaken> => {
        const ask = (): Promise<Shaken> =>
          timedUpstream(
            gateway,
            route,
            () => shake(gateway, route, request, socket, credentials),
            ({ response }) => response.statusCode ?? 0,
          );
        const first = await ask();
        if (
          !asksForNonce(
            gateway,
            route,
            credentials,
            first.response.statusCode ?? 0,
            first.response.rawHeaders,
          )
        )
          return first;
        first.response.destroy();
        return ask();
      };
      let answer = await shakeWith(access);
      const renewed =
        answer.response.statusCode === 401
          ? await renewedAccess(gateway, futile, route, access)
          : null;
      if (renewed !== null) {
        answer.response.destroy();
        access = renewed;
        answer = await shakeWith(access);
        if (answer.response.statusCode === 401 && access.caller?.kind === 'session')
          futile.add(route, access.caller.session.id);
      }
      if (answer.upstream === null) {
        await refuse(route, request, socket, answer.response, gateway);
        return answer.response.statusCode ?? 502;
      }
      if (socket.destroyed || answer.upstream.destroyed) {
        answer.upstream.destroy();
        if (socket.destroyed) return CLIENT_CLOSED;
        throw new Problem('upstream_unavailable');
      }
      const headers = answerHeaders(answer.response.rawHeaders, route, gateway);
      const lines = headers.flatMap((name, i) =>
        i % 2 === 0 ? [`${name}: ${headers[i + 1] ?? ''}`] : [],
      );
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\n${['Connection: Upgrade', 'Upgrade: websocket', ...lines].join('\r\n')}\r\n\r\n`,
        'latin1',
      );
      socket.write(answer.head);
      answer.upstream.write(head);
      join(access.caller, socket, answer.upstream);
      return 101;
    },
    close() {
      closed = true;
      for (const cut of tunnels) cut();
    },
  };
}

interface Shaken {
  readonly response: IncomingMessage;
  /** Null when the upstream answered without switching protocols. */
  readonly upstream: Duplex | null;
  readonly head: Buffer;
}

/** The client's handshake, sent on. A client that goes away meanwhile takes it back. */
async function shake(
  gateway: Gateway,
  route: GatewayRoute,
  request: IncomingMessage,
  socket: Duplex,
  credentials: Credentials,
): Promise<Shaken> {
  const headers = requestHeaders(
    gateway,
    route,
    request,
    await proven(gateway, route, request, credentials),
  );
  const secure = route.upstream.protocol === 'https:';
  const outgoing: ClientRequest = (secure ? httpsRequest : httpRequest)({
    host: route.upstream.hostname.replace(/^\[|\]$/g, ''),
    port: route.upstream.port || (secure ? 443 : 80),
    path: upstreamPath(route, request.url ?? '/'),
    headers: [
      'host',
      route.preserveHost ? gateway.config.publicUrl.host : route.upstream.host,
      'connection',
      'Upgrade',
      'upgrade',
      'websocket',
      ...headers,
    ],
    agent: false,
  });
  const late = setTimeout(() => outgoing.destroy(new Problem('upstream_timeout')), route.timeoutMs);
  const gone = (): void => void outgoing.destroy();
  if (socket.destroyed) gone();
  socket.once('close', gone);
  return new Promise<Shaken>((resolve, reject) => {
    outgoing.once('upgrade', (response, upstream, head) => {
      upstream.on('error', () => upstream.destroy());
      resolve({ response, upstream, head });
    });
    outgoing.once('response', (response) =>
      resolve({ response, upstream: null, head: Buffer.alloc(0) }),
    );
    outgoing.on('error', (error) =>
      reject(
        error instanceof Problem ? error : new Problem('upstream_unavailable', { cause: error }),
      ),
    );
    outgoing.end();
  }).finally(() => {
    clearTimeout(late);
    socket.off('close', gone);
  });
}

/** Passes on an answer that is no handshake, and ends the connection. */
async function refuse(
  route: GatewayRoute,
  request: IncomingMessage,
  socket: Duplex,
  answer: IncomingMessage,
  gateway: Gateway,
): Promise<void> {
  const response = new ServerResponse(request);
  beginAnswer(response, answer.statusCode ?? 502, answer.rawHeaders, route, gateway);
  assign(response, request, socket);
  // Node has left the connection to us, and with it what ends an answer that nobody reads.
  const unread = (): void => {
    if (socket.writableLength > 0) socket.destroy();
  };
  request.socket.setTimeout(route.timeoutMs, unread);
  await pipeline(answer, response).catch(() => response.destroy());
}

/** An HTTP answer on the socket of an upgrade; the connection ends with it. */
export function responseOn(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request);
  assign(response, request, socket);
  return response;
}

function assign(response: ServerResponse, request: IncomingMessage, socket: Duplex): void {
  response.shouldKeepAlive = false;
  response.assignSocket(request.socket);
  // Node took this listener off when it left the connection to us; without it a long answer stops half-way.
  socket.on('drain', () => void response.emit('drain'));
  response.once('finish', () => socket.end(() => socket.destroy()));
}
