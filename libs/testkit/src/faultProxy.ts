import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { freePort } from '@session-gateway/keycloak-server';
import { later } from './httpServer.js';

/** What happens to connections; what is left out is as on a good network. */
export interface Faults {
  /** Everything arrives so much later, in both directions. */
  readonly latencyMs?: number;
  /**
   * Nothing arrives. Connections stay, new ones are accepted, and what was sent meanwhile
   * arrives when the fault is over.
   */
  readonly blackhole?: boolean;
  /**
   * A connection is reset once so many bytes of the server's have passed since the fault began; 0: before its first.
   */
  readonly resetAfterBytes?: number;
  /** The server's bytes trickle. */
  readonly bytesPerSecond?: number;
  /** New connections are reset as soon as they are made. */
  readonly drop?: boolean;
}

export interface FaultProxy {
  readonly port: number;
  /** `url` with this proxy's address in the place of the server's. */
  through(url: string): string;
  /** In place of what was set before, and for connections that are open, too. */
  set(faults: Faults): void;
  clear(): void;
  /** Resets every open connection. */
  cut(): void;
  /** Connections at this moment, and since the start. */
  open(): number;
  accepted(): number;
  dispose(): Promise<void>;
}

const HELD_BYTES = 1_048_576;
const SLICE_MS = 100;

/** A network in front of a loopback server that a test can make slow, mute or brittle. */
export async function startFaultProxy({ to }: { to: number }): Promise<FaultProxy> {
  const port = await freePort();
  const links = new Set<{ sockets: [Socket, Socket]; passed: number }>();
  let faults: Faults = {};
  let changed = signal();
  let accepted = 0;

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accepted += 1;
    client.on('error', () => undefined);
    if (faults.drop) return resetNow(client);
    const upstream = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const link: { sockets: [Socket, Socket]; passed: number } = {
      sockets: [client, upstream],
      passed: 0,
    };
    links.add(link);
    const reset = (): void => {
      links.delete(link);
      for (const socket of link.sockets) resetNow(socket);
    };
    upstream.once('error', reset);
    for (const socket of link.sockets) socket.once('close', reset);
    void pass(client, upstream, (piece) => upstream.write(piece));
    void pass(upstream, client, async (piece) => {
      for (let at = 0; at < piece.length && !client.destroyed;) {
        const { resetAfterBytes = Infinity, bytesPerSecond = Infinity } = faults;
        const room = resetAfterBytes - link.passed;
        if (room <= 0) return void reset();
        const slice = piece.subarray(
          at,
          at + Math.min(room, Math.max(1, Math.floor((bytesPerSecond * SLICE_MS) / 1_000))),
        );
        client.write(slice);
        at += slice.length;
        link.passed += slice.length;
        if (link.passed >= resetAfterBytes) return void setImmediate(reset);
        if (bytesPerSecond !== Infinity)
          await Promise.race([later(Math.max(SLICE_MS, 1_000 / bytesPerSecond)), changed.promise]);
      }
    });
  });

  /**
   * One direction: in order, each piece no earlier than its latency after it came, and none
   * while there is a black hole.
   */
  async function pass(from: Socket, to: Socket, write: (piece: Buffer) => unknown): Promise<void> {
    const held: { piece: Buffer | null; at: number }[] = [];
    let [bytes, arrived] = [0, signal()];
    from.on('data', (piece: Buffer) => {
      held.push({ piece, at: performance.now() });
      if ((bytes += piece.length) > HELD_BYTES) from.pause();
      arrived.resolve();
    });
    from.once('end', () => {
      held.push({ piece: null, at: performance.now() });
      arrived.resolve();
    });
    let over = false;
    const closed = once(to, 'close')
      .catch(() => undefined)
      .then(() => {
        over = true;
      });
    while (!over && !to.destroyed) {
      const next = held[0];
      if (!next || faults.blackhole) {
        await Promise.race([faults.blackhole ? changed.promise : arrived.promise, closed]);
        arrived = signal();
        continue;
      }
      const waitMs = next.at + (faults.latencyMs ?? 0) - performance.now();
      if (waitMs > 0) {
        await Promise.race([later(waitMs), changed.promise]);
        continue;
      }
      held.shift();
      if (next.piece === null) return void to.end();
      bytes -= next.piece.length;
      if (bytes <= HELD_BYTES) from.resume();
      await write(next.piece);
    }
  }

  const set = (next: Faults): void => {
    faults = next;
    for (const link of links) link.passed = 0;
    changed.resolve();
    changed = signal();
  };
  const cut = (): void => {
    for (const { sockets } of links) for (const socket of sockets) resetNow(socket);
    links.clear();
  };
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    port,
    through(url) {
      const through = new URL(url);
      through.hostname = '127.0.0.1';
      through.port = String(port);
      return through.href;
    },
    set,
    clear: () => set({}),
    cut,
    open: () => links.size,
    accepted: () => accepted,
    async dispose() {
      const closed = once(server, 'close');
      server.close();
      cut();
      set({});
      await closed;
    },
  };
}

/**
 * A reset of a connection that is being shut down would leave Node with a handle that never closes, and one
 * with unsent bytes would wait.
 */
function resetNow(socket: Socket): void {
  if (socket.writableEnded || socket.writableLength > 0) socket.destroy();
  else if (!socket.destroyed) socket.resetAndDestroy();
}

interface Signal {
  promise: Promise<void>;
  resolve: () => void;
}

function signal(): Signal {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
