import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Gateway } from '../gateway.js';
import { inRequest } from '../observability/requestContext.js';
import { headerOf } from '../request/headers.js';

/** As other proxies log it: the client left before it had an answer. */
export const CLIENT_CLOSED = 499;
const REQUEST_ID = /^[A-Za-z0-9_-]{8,64}$/;

/** A request that is being watched. */
export interface Observed {
  readonly id: string;
  /** Runs work as this request's. */
  run<Result>(work: () => Result): Result;
  /**
   * Tells the trace and the log how it ended. `route`: a name out of a closed set, never the path that was asked for.
   */
  ended(route: string, status: number): void;
}

/**
 * Gives a request its id, which is the caller's where that is a sane one, and which the upstream gets too. With a
 * tracer the upstream is asked as part of this request's span; without one the caller's trace passes untouched.
 */
export function observed(
  { tracer, log }: Pick<Gateway, 'tracer' | 'log'>,
  request: IncomingMessage,
): Observed {
  const method = request.method ?? '';
  const given = request.headers['x-request-id'];
  const id = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
  if (id !== given) setHeader(request, 'x-request-id', id);
  const traceparent = headerOf(request, 'traceparent');
  const span = tracer?.begin(method, 'server', traceparent);
  if (span) {
    // It tells of a trace that is not gone on with (W3C Trace Context §4).
    if (!span.isContinued) {
      dropRawHeader(request, 'tracestate');
      delete request.headers['tracestate'];
    }
    setHeader(request, 'traceparent', span.traceparent);
  }
  const began = performance.now();
  const context = {
    request: id,
    ...(span ? { trace: span.traceId, traceparent: span.traceparent } : {}),
  };
  return {
    id,
    run: (work) => inRequest(context, work),
    ended(route, status) {
      span?.end(
        { 'http.request.method': method, 'http.route': route, 'http.response.status_code': status },
        status >= 500,
      );
      inRequest(context, () =>
        log.debug(
          { event: 'request', method, route, status, ms: Math.round(performance.now() - began) },
          'answered',
        ),
      );
    },
  };
}

/** Runs the work for a request whose answer ends with `response`. `route` is asked at the end. */
export function observe(
  gateway: Pick<Gateway, 'tracer' | 'log'>,
  request: IncomingMessage,
  response: ServerResponse,
  route: () => string,
  work: () => void,
): void {
  const watched = observed(gateway, request);
  response.setHeader('X-Request-Id', watched.id);
  response.once('close', () =>
    watched.ended(route(), response.headersSent ? response.statusCode : CLIENT_CLOSED),
  );
  watched.run(work);
}

/** Replaces a header field in both of Node's views of it. */
function setHeader(request: IncomingMessage, name: string, value: string): void {
  dropRawHeader(request, name);
  request.rawHeaders.unshift(name, value);
  request.headers[name] = value;
}

function dropRawHeader(request: IncomingMessage, name: string): void {
  if (request.headers[name] === undefined) return;
  const kept = request.rawHeaders.flatMap((field, i) =>
    i % 2 === 0 && field.toLowerCase() !== name ? [field, request.rawHeaders[i + 1] ?? ''] : [],
  );
  request.rawHeaders.splice(0, Infinity, ...kept);
}
