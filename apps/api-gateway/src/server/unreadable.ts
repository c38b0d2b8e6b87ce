import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { Problem } from '../request/errors.js';
import { MAX_ADDRESS_BYTES } from '../request/limits.js';
import type { Config } from '../settings/config.js';
import { representation } from '../pages/problemPage.js';
import type { HeaderReader } from '../request/sameOrigin.js';
import type { Connections } from './connections.js';

interface Unreadable extends NodeJS.ErrnoException {
  /** What the parser was given last. */
  readonly rawPacket?: Buffer;
}

/**
 * Answers what Node's parser refuses as a problem too, behind the answers that are still due on the connection, and
 * closes it.
 */
export function answerUnreadable(
  server: Server,
  connections: Pick<Connections, 'earlierAnswers' | 'isAnswered'>,
  config: Pick<Config, 'brand' | 'publicUrl'>,
): void {
  // The parser refuses each piece that follows as well.
  const refused = new WeakSet<Socket>();
  server.on('clientError', (error: Unreadable, socket: Socket) => {
    if (refused.has(socket)) return;
    refused.add(socket);
    if (error.code === 'ECONNRESET' || !socket.writable || connections.isAnswered(socket)) {
      socket.destroy();
      return;
    }
    const answer = rawAnswer({ config }, new Problem(unreadable(error)), error);
    connections.earlierAnswers(socket).then(
      (broken) => {
        // In place of the answer to the request that went wrong half-way, unless that has begun.
        if (broken?.headersSent === true) socket.destroy();
        else socket.end(answer, () => socket.destroy());
      },
      () => socket.destroy(),
    );
  });
}

function rawAnswer(
  gateway: { config: Pick<Config, 'brand' | 'publicUrl'> },
  problem: Problem,
  error: Unreadable,
): string {
  const { headers: fields, body } = representation(gateway, problem, {
    ...readable(error),
    address: '/',
    requestId: null,
  });
  const headers = Object.entries({
    ...fields,
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
  });
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `HTTP/1.1 ${problem.status} ${STATUS_TEXT[problem.status] ?? 'Refused'}\r\n${lines}\r\n${body}`;
}

/**
 * What can still be made out of a request whose head is too large: mostly a browser with too many
 * cookies, which come last.
 */
function readable({ code, rawPacket }: Unreadable): { method: string; header: HeaderReader } {
  const head = code === 'HPE_HEADER_OVERFLOW' ? (rawPacket?.toString('latin1') ?? '') : '';
  const mode = /\r\nsec-fetch-mode: *([a-z-]+)\r\n/i.exec(head)?.[1] ?? 'unknown';
  const language = /\r\naccept-language: *([\w,;=.* -]{1,200})\r\n/i.exec(head)?.[1];
  const read = new Map([['sec-fetch-mode', mode]]);
  if (language !== undefined) read.set('accept-language', language);
  return {
    method: /^[A-Z]+(?= \/)/.exec(head)?.[0] ?? '',
    header: (name) => read.get(name) ?? null,
  };
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  414: 'URI Too Long',
  431: 'Request Header Fields Too Large',
};

function unreadable({
  code,
  rawPacket,
}: Unreadable): 'address_too_long' | 'headers_too_large' | 'request_timeout' | 'request_invalid' {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout';
  if (code !== 'HPE_HEADER_OVERFLOW') return 'request_invalid';
  const [requestLine = ''] = (rawPacket?.toString('latin1') ?? '').split('\n', 1);
  return /^[A-Z]+ \//.test(requestLine) && requestLine.length > MAX_ADDRESS_BYTES
    ? 'address_too_long'
    : 'headers_too_large';
}
