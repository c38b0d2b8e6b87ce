import type { IncomingMessage, ServerResponse } from 'node:http';
import { Problem } from '../request/errors.js';
import type { Connections } from './connections.js';

/**
 * The body of a request that is answered here has so long to arrive, and so has the rest of any
 * body once its answer is out.
 */
const BODY_MS = 15_000;

/** What the work comes to, unless the request's body takes too long. @throws Problem `request_timeout` */
export async function withinBodyTime<Result>(
  request: IncomingMessage,
  work: Promise<Result>,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      if (!request.complete) reject(new Problem('request_timeout'));
    }, BODY_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/**
 * Ends the connection when the rest of a body that nobody waits for any more does not come to its end, or is broken:
 * its request has been answered, and gets no second answer.
 */
export function boundRestOfBody(
  request: IncomingMessage,
  response: ServerResponse,
  connections: Connections,
): void {
  response.once('finish', () => {
    if (request.complete) return;
    const { socket } = request;
    connections.answeredEarly(request);
    const cut = (): void => {
      if (!request.complete) connections.cut(socket, 'body');
    };
    setTimeout(cut, BODY_MS).unref();
  });
}
