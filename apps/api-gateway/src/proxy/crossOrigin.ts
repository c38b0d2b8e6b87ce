import type { IncomingMessage, ServerResponse } from 'node:http';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { headerOf } from '../request/headers.js';

const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE';
/** Browsers keep a leave for two hours at most. */
const MAX_AGE_SECONDS = '600';

/**
 * Lets pages of a route's origins call it and read the answers, refusals too (Fetch §3.2), and answers
 * their preflights. Never with credentials: a browser does not show them what was asked with a cookie, so
 * only a bearer token is of use.
 * @returns whether the request was a preflight, and is answered
 */
export function shareWithOrigins(
  { cors }: Pick<GatewayRoute, 'cors'>,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  if (cors.length === 0) return false;
  response.setHeader('Vary', 'Origin');
  const origin = headerOf(request, 'origin');
  if (origin === null || !cors.includes(origin)) return false;
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Expose-Headers', '*');
  const method = headerOf(request, 'access-control-request-method');
  if (request.method !== 'OPTIONS' || method === null) return false;
  const headers = headerOf(request, 'access-control-request-headers');
  response.setHeader('Vary', 'Origin, Access-Control-Request-Headers');
  response.setHeader('Access-Control-Allow-Methods', METHODS);
  response.setHeader('Access-Control-Max-Age', MAX_AGE_SECONDS);
  // `*` does not cover Authorization.
  if (headers !== null) response.setHeader('Access-Control-Allow-Headers', headers);
  response.writeHead(204).end();
  return true;
}
