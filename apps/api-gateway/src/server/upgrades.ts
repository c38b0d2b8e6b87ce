import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { Problem, problemOf } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { hasTooManyFields, requireSaneSize } from '../request/limits.js';
import { headerOf } from '../request/headers.js';
import { proveSameOrigin } from '../request/sameOrigin.js';
import { asksForVerdict, asksForWebSocket } from '../sessions/verify.js';
import type { Proxy } from '../proxy/proxy.js';
import { isWebSocketUpgrade, responseOn } from '../proxy/webSockets.js';
import type { Connections } from './connections.js';
import { destination, judgedPath } from './destination.js';
import { fail } from './refusals.js';
import { observe, observed } from './telemetry.js';

/** Answers requests to leave HTTP, each when what was asked for before it on its connection has been answered. */
export function takeUpgrades(
  gateway: Gateway,
  server: Server,
  proxy: Proxy,
  connections: Connections,
): void {
  const take = async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    if (hasTooManyFields(request)) throw new Problem('headers_too_large');
    const path = judgedPath(gateway, request);
    // A question whether a handshake may pass; the field that says so is about to go.
    const header = (name: string): string | null => headerOf(request, name);
    if (asksForVerdict(path.raw) && asksForWebSocket(header))
      proveSameOrigin(header, gateway.config.publicUrl.origin);
    const route = destination(gateway, path);
    requireSaneSize(request, false);
    if (!isWebSocketUpgrade(request) || !route?.websocket) {
      withoutUpgrade(server, request, socket, head);
      return;
    }
    const watched = observed(gateway, request);
    try {
      const status = await watched.run(() => proxy.tunnel(route, request, socket, head));
      watched.ended(route.path, status);
    } catch (error) {
      watched.ended(route.path, problemOf(error).status);
      if (socket.destroyed) return;
      const response = responseOn(request, socket);
      response.setHeader('X-Request-Id', watched.id);
      watched.run(() => fail(gateway, request, response, error));
    }
  };
  const refuse = (request: IncomingMessage, socket: Duplex, error: unknown): void => {
    if (socket.destroyed) return;
    const response = responseOn(request, socket);
    const answer = (): void => fail(gateway, request, response, error);
    observe(gateway, request, response, () => 'refused', answer);
  };
  server.on('upgrade', (request, socket, head) => {
    connections.upgraded(socket);
    if (!socket.listeners('error').includes(leave)) socket.on('error', leave);
    connections
      .earlierAnswers(socket)
      .then(async () => {
        // An earlier answer may have been the connection's last.
        if (!socket.destroyed && socket.writable) await take(request, socket, head);
      })
      .catch((error: unknown) => refuse(request, socket, error))
      .catch(() => socket.destroy());
  });
}

function leave(this: Duplex): void {
  this.destroy();
}

/**
 * An upgrade that is not taken up is a request as any other (RFC 9110 §7.8): Java's client asks for h2c with each first
 * one. Node has left the protocol by then, so its head is put back without the field, for the server to read anew.
 */
function withoutUpgrade(
  server: Server,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void {
  const { rawHeaders } = request;
  const lines = rawHeaders.flatMap((name, i) =>
    i % 2 === 0 && name.toLowerCase() !== 'upgrade' ? [`${name}: ${rawHeaders[i + 1] ?? ''}`] : [],
  );
  socket.unshift(
    Buffer.concat([
      Buffer.from(
        `${[`${request.method} ${request.url} HTTP/${request.httpVersion}`, ...lines].join('\r\n')}\r\n\r\n`,
        'latin1',
      ),
      head,
    ]),
  );
  server.emit('connection', socket);
}
