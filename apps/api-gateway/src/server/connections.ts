import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { plainAddress, type TrustedProxies } from '../request/forwarded.js';
import { addressGroup } from '../request/limits.js';

/** A head has so long to arrive, from its first byte or, on a new connection, from its beginning. */
const HEAD_MS = 14_000;
/** How often Node looks for heads that are overdue. */
const HEAD_CHECK_MS = 500;
/** How long an unused connection of a client is kept. */
export const KEEP_ALIVE_MS = 65_000;
/** A client that takes nothing of an answer of ours for so long has given it up; a route says its own `timeoutMs`. */
const UNREAD_MS = 60_000;
/** How often connections are looked for that stay busy without asking for anything. */
const IDLE_CHECK_MS = 5_000;
/**
 * Answers that may be outstanding on one connection. Nobody pipelines more; each may hold a connection to an upstream.
 */
const MAX_PIPELINED = 100;

/** Why a connection was ended by us. */
export type CutReason = 'address' | 'body' | 'idle' | 'pipeline' | 'unread';

/** What `createServer` is told about time. No bound on a whole request: an upload may take as long as it moves. */
export const SERVER_TIMEOUTS = {
  requestTimeout: 0,
  headersTimeout: HEAD_MS,
  connectionsCheckingInterval: HEAD_CHECK_MS,
  keepAliveTimeout: KEEP_ALIVE_MS,
  // A peer that has vanished is noticed by TCP alone.
  keepAlive: true,
  keepAliveInitialDelay: 30_000,
};

interface Connection {
  readonly socket: Socket;
  /** What had been sent when it was last looked at. */
  sent: number;
  /** Since when nothing has been asked for; null while an answer is on its way. */
  idleSince: number | null;
  unanswered: number;
  /** The request that was answered before all of its body had come. */
  answeredEarly: IncomingMessage | null;
}

export interface ConnectionOptions {
  /** Open connections of one address (IPv6: of one /64); 0: any number. */
  readonly perAddress: number;
  /** These stand for many people, and have no bound. */
  readonly trustedProxies: TrustedProxies;
  readonly onCut: (reason: CutReason) => void;
}

/** The open connections of clients: how many, how long, and whose turn it is on each. */
export class Connections {
  readonly #open = new Map<Duplex, Connection>();
  readonly #byAddress = new Map<string, number>();
  readonly #options: ConnectionOptions;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Watches a server's connections until it closes. */
  watch(server: Server): void {
    server.timeout = UNREAD_MS;
    server.on('connection', (socket) => this.#opened(socket));
    server.on('timeout', (socket: Socket) => {
      if (socket.writableLength > 0) this.cut(socket, 'unread');
      else if (answering(socket) === null) socket.destroy();
    });
    const checking = setInterval(() => this.#cutIdle(Date.now()), IDLE_CHECK_MS).unref();
    server.once('close', () => clearInterval(checking));
  }

  /** Counts an answer that is outstanding; false: there are too many, and the connection is cut. */
  begun({ socket }: { socket: Socket }, response: ServerResponse): boolean {
    const connection = this.#open.get(socket);
    if (connection === undefined) return !socket.destroyed;
    if (connection.unanswered >= MAX_PIPELINED) {
      this.cut(socket, 'pipeline');
      return false;
    }
    connection.unanswered++;
    response.once('close', () => connection.unanswered--);
    return true;
  }

  /**
   * Resolves when everything that was asked for before on a connection has been answered (RFC 9112 §9.3.2), or when it
   * is closed. Node leaves HTTP at an upgrade whatever is outstanding, and no longer tells answers that they may go on.
   * @returns the answer whose request is still coming in, if that is the next one; it is not waited for
   */
  async earlierAnswers(socket: Duplex): Promise<ServerResponse | null> {
    for (let answer = answering(socket); answer !== null; answer = answering(socket)) {
      if (socket.destroyed) return null;
      if (!answer.req.complete) return answer;
      const current = answer;
      const goOn = (): void => void current.emit('drain');
      socket.on('drain', goOn);
      await new Promise((resolve) => void current.once('close', resolve));
      socket.off('drain', goOn);
    }
    return null;
  }

  answeredEarly(request: IncomingMessage): void {
    const connection = this.#open.get(request.socket);
    if (connection !== undefined) connection.answeredEarly = request;
  }

  /** Whether what comes in now belongs to a request that has had its answer. */
  isAnswered(socket: Duplex): boolean {
    return this.#open.get(socket)?.answeredEarly?.complete === false;
  }

  /** The connection is to speak another protocol, in which it may be silent. */
  upgraded(socket: Duplex): void {
    const connection = this.#open.get(socket);
    if (connection !== undefined) connection.idleSince = Infinity;
  }

  cut(socket: Duplex, reason: CutReason): void {
    if (socket.destroyed) return;
    this.#options.onCut(reason);
    socket.destroy();
  }

  cutAll(): void {
    for (const socket of this.#open.keys()) socket.destroy();
  }

  #opened(socket: Socket): void {
    const known = this.#open.get(socket);
    if (known !== undefined) {
      // An upgrade that is not taken up is handed to the server anew.
      known.idleSince = null;
      return;
    }
    // One for each request in a pipeline, and they are not few.
    socket.setMaxListeners(0);
    const { perAddress, trustedProxies } = this.#options;
    const address = plainAddress(socket.remoteAddress ?? '');
    const counted = perAddress > 0 && address !== null && !trustedProxies(address);
    const group = counted ? addressGroup(address) : '';
    const count = this.#byAddress.get(group) ?? 0;
    if (counted && count >= perAddress) {
      this.cut(socket, 'address');
      return;
    }
    if (counted) this.#byAddress.set(group, count + 1);
    this.#open.set(socket, {
      socket,
      sent: 0,
      idleSince: Date.now(),
      unanswered: 0,
      answeredEarly: null,
    });
    socket.once('close', () => {
      this.#open.delete(socket);
      if (!counted) return;
      const left = (this.#byAddress.get(group) ?? 1) - 1;
      if (left > 0) this.#byAddress.set(group, left);
      else this.#byAddress.delete(group);
    });
  }

  /** Node's own clock starts anew with each byte, and there are bytes that ask for nothing, such as empty lines. */
  #cutIdle(now: number): void {
    for (const connection of this.#open.values()) {
      const { socket, sent, idleSince } = connection;
      if (idleSince === Infinity) continue;
      connection.sent = socket.bytesWritten;
      if (answering(socket) !== null) connection.idleSince = null;
      else if (idleSince === null || socket.bytesWritten !== sent) connection.idleSince = now;
      else if (now - idleSince > KEEP_ALIVE_MS + HEAD_MS) this.cut(socket, 'idle');
    }
  }
}

/** The answer that has its turn on a connection: Node keeps it there, and lets the next one follow. */
function answering(socket: Duplex): ServerResponse | null {
  return (socket as { _httpMessage?: ServerResponse | null })._httpMessage ?? null;
}
