import { connect, createServer, type Socket } from 'node:net';

/** The status lines of everything that came back on one connection, in order, and whether the other side ended it. */
export interface WireAnswer {
  readonly statuses: number[];
  readonly closed: boolean;
}

/**
 * Writes bytes on a connection of their own and reads until the other side closes, as many answers as expected are
 * there, or it falls silent. The end is left open: a client that closes its half is taken to have gone away.
 */
export function onTheWire(
  port: number,
  bytes: string | Buffer,
  options: { answers?: number; silenceMs?: number } = {},
): Promise<WireAnswer> {
  const { answers = 1, silenceMs = 1_500 } = options;
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    const end = (closed: boolean): void => {
      clearTimeout(silent);
      socket.destroy();
      resolve({
        statuses: [...text.matchAll(/HTTP\/1\.[01] (\d{3}) /g)].map(([, status]) => Number(status)),
        closed,
      });
    };
    let silent = setTimeout(() => end(false), silenceMs);
    socket.on('data', (piece: Buffer) => {
      text += piece.toString('latin1');
      clearTimeout(silent);
      silent = setTimeout(() => end(false), silenceMs);
      if ((text.match(/HTTP\/1\.[01] \d{3} /g)?.length ?? 0) >= answers) end(false);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => end(true));
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  });
}

export interface RawUpstream {
  readonly url: string;
  readonly port: number;
  /** What arrived on each connection, byte for byte. */
  readonly connections: readonly { readonly bytes: string }[];
  clear(): void;
  close(): Promise<void>;
}

/**
 * An upstream that keeps every byte and answers each head it sees, whatever is wrong with it; it
 * closes after each answer.
 */
export function startRawUpstream(): Promise<RawUpstream> {
  let connections: { bytes: string }[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const connection = { bytes: '' };
    connections.push(connection);
    sockets.add(socket);
    let answered = false;
    socket.on('data', (piece: Buffer) => {
      connection.bytes += piece.toString('latin1');
      if (answered || !isWhole(connection.bytes)) return;
      answered = true;
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      resolve({
        port,
        url: `http://127.0.0.1:${port}`,
        get connections() {
          return connections;
        },
        // One that was opened ahead has yet to say something.
        clear: () => {
          connections = connections.filter(({ bytes }) => bytes === '');
        },
        close: () =>
          new Promise((done) => {
            for (const socket of sockets) socket.destroy();
            server.close(() => done());
          }),
      });
    });
  });
}

/** Whether a request of canonical framing has arrived with its whole body. */
function isWhole(bytes: string): boolean {
  const end = bytes.indexOf('\r\n\r\n');
  if (end === -1) return false;
  const [head, body] = [bytes.slice(0, end), bytes.slice(end + 4)];
  if (/^transfer-encoding:/im.test(head)) return /(?:^|\r\n)0\r\n\r\n/.test(body);
  return body.length >= Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
}
