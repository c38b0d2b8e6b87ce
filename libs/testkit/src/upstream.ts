import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { later, startServer, type TestServer } from './httpServer.js';
import { claimsOf } from './providerState.js';
import { echoWebSocket } from './webSocketEcho.js';

/** One request as it arrived, and the body of the JSON answer to it. */
export interface UpstreamRequest {
  method: string;
  /** As on the request line, not decoded. */
  url: string;
  httpVersion: string;
  /** Name, value, name, value, … in order, names as spelled by the sender. */
  rawHeaders: string[];
  /** As Node reads them: lower-case names, duplicates joined. */
  headers: Record<string, string | string[] | undefined>;
  bodyBytes: number;
  bodySha256: string;
  /** The whole bearer token, and its claims (read, not verified; none when it is no JWT). */
  bearer: string | null;
  claims: Record<string, unknown> | null;
}

export interface Upstream extends TestServer {
  /** The latest requests, oldest first, at most 1000. */
  readonly requests: readonly UpstreamRequest[];
  count(): number;
  /** Requests that are being answered at this moment. */
  open(): number;
  /** Responses that the client left before their end. */
  aborted(): number;
  clear(): void;
  /** From now on these bearer tokens get 401, as when they were revoked. */
  refuse(...bearers: string[]): void;
  dispose(): Promise<void>;
}

const KEPT = 1_000;

/**
 * An API that answers each request with JSON saying what arrived. The last path segments steer it, below any prefix:
 * `/status/418` · `/slow/200` (after 200 ms) · `/hang` (never) · `/silent` (no more than the head) ·
 * `/download/1000000` (that many bytes, in pieces) · `/upload` (reads as slowly as it likes, answers length and hash) ·
 * `/sse/3` (three events, 20 ms apart) · `/reset` (cuts the connection) · `/cut` (cuts it within the body) · `/cookies`
 * (Set-Cookie headers, two with names of a gateway's own) · `/cacheable` (any cache may keep it) · `/moved` (to an
 * address of its own) · `/pingpong` (sends back each piece as it arrives). A WebSocket gets back what it sends.
 */
export async function startUpstream(options: { port?: number } = {}): Promise<Upstream> {
  const requests: UpstreamRequest[] = [];
  let [count, open, aborted] = [0, 0, 0];
  const refusing = new Set<string>();
  const keep = (seen: UpstreamRequest): void => {
    requests.push(seen);
    if (requests.length > KEPT) requests.shift();
  };
  const server = await startServer(
    (request, response) => {
      count += 1;
      open += 1;
      response.once('close', () => {
        open -= 1;
        if (!response.writableFinished) aborted += 1;
      });
      return answer(request, response, keep, refusing);
    },
    options.port,
    (request, socket, head) => {
      count += 1;
      keep(describe(request, 0, ''));
      if ((request.url ?? '').endsWith('/status/403'))
        return void socket.end(
          'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno',
        );
      open += 1;
      socket.once('close', () => {
        open -= 1;
      });
      echoWebSocket(request, socket, head);
    },
  );
  return {
    ...server,
    requests,
    count: () => count,
    open: () => open,
    aborted: () => aborted,
    clear() {
      requests.length = 0;
      count = aborted = 0;
    },
    refuse: (...bearers) => bearers.forEach((bearer) => refusing.add(bearer)),
    dispose: server.stop,
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  keep: (seen: UpstreamRequest) => void,
  refusing: ReadonlySet<string>,
): Promise<void> {
  const [, action = '', amount = ''] =
    /\/([a-z]+)(?:\/(\d+))?$/.exec((request.url ?? '').split('?')[0] ?? '') ?? [];
  if (action === 'pingpong') {
    keep(describe(request, 0, ''));
    response.writeHead(200, { 'content-type': 'application/octet-stream' }).flushHeaders();
    request.pipe(response);
    return;
  }
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    hash.update(piece);
    bytes += piece.length;
  }
  const seen = describe(request, bytes, hash.digest('hex'));
  keep(seen);
  const json = (status: number, headers: Record<string, string | string[]> = {}): void => {
    response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(JSON.stringify(seen));
  };
  if (seen.bearer !== null && refusing.has(seen.bearer)) return void json(401);
  switch (action) {
    case 'status':
      return void json(Number(amount));
    case 'slow':
      await later(Number(amount));
      return void json(200);
    case 'hang':
      return;
    case 'silent':
      return void response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    case 'reset':
      return void request.socket.destroy();
    case 'cut': {
      response
        .writeHead(200, { 'content-type': 'text/plain', 'content-length': '1000' })
        .write('half');
      await later(20);
      return void request.socket.destroy();
    }
    case 'cookies':
      return void json(200, {
        'set-cookie': [
          'a=1; Path=/',
          'session=theirs; Path=/',
          'b=2; Path=/; HttpOnly',
          'SESSION=theirs',
        ],
      });
    case 'moved':
      return void json(302, {
        location: `http://127.0.0.1:${request.socket.localPort}/there?x`,
        'set-cookie': 'a=1; Path=/; Domain=internal',
        'access-control-allow-credentials': 'true',
        vary: 'Accept',
      });
    case 'cacheable':
      return void json(200, {
        'cache-control': ['public', 'max-age=60'],
        'cdn-cache-control': 'max-age=60',
        'surrogate-control': 'max-age=60',
        etag: '"1"',
      });
    case 'download':
      return download(response, Number(amount));
    case 'sse':
      return serverSentEvents(response, Number(amount));
    default:
      return void json(200);
  }
}

async function download(response: ServerResponse, bytes: number): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  const piece = Buffer.alloc(64 * 1024, 'x');
  const closed = new Promise<void>((resolve) => response.once('close', resolve));
  for (let left = bytes; left > 0 && !response.destroyed; left -= piece.length) {
    const more = response.write(left < piece.length ? piece.subarray(0, left) : piece);
    if (!more)
      await Promise.race([closed, new Promise<void>((resolve) => response.once('drain', resolve))]);
  }
  response.end();
}

async function serverSentEvents(response: ServerResponse, events: number): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  for (let i = 1; i <= events && !response.destroyed; i += 1) {
    response.write(`id: ${i}\ndata: ${JSON.stringify({ event: i })}\n\n`);
    await later(20);
  }
  response.end();
}

function describe(
  request: IncomingMessage,
  bodyBytes: number,
  bodySha256: string,
): UpstreamRequest {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? null;
  return {
    method: request.method ?? '',
    url: request.url ?? '',
    httpVersion: request.httpVersion,
    rawHeaders: request.rawHeaders,
    headers: request.headers,
    bodyBytes,
    bodySha256,
    bearer,
    claims: bearer === null ? null : claimsOf(bearer),
  };
}
