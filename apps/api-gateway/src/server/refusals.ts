import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { reportProblem } from './app.js';
import { protectBrowser } from '../pages/browserHeaders.js';
import { problemOf } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { lookFor } from '../pages/look.js';
import { onwardPage } from '../pages/page.js';
import { representation } from '../pages/problemPage.js';
import { isNavigation } from '../request/navigation.js';
import { loginAddress } from '../request/loginAddress.js';
import { mayHoldCookieBack } from '../request/strictNavigation.js';
import { headerOf } from '../request/headers.js';

/** Answers a request with what went wrong, or cuts an answer that has begun. */
export function fail(
  gateway: Gateway,
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
): void {
  // The socket is gone from a request whose answer waited behind others when the client left.
  if (
    response.headersSent ||
    response.destroyed ||
    (request.socket as Socket | null)?.destroyed !== false
  ) {
    response.destroy();
    return;
  }
  const address = request.url ?? '/';
  protectBrowser(response, gateway.config, { address, answeredHere: true });
  const problem = problemOf(error);
  reportProblem(gateway, problem);
  const header = (name: string): string | null => headerOf(request, name);
  const clear =
    problem.clearsCookie && gateway.cookies.carriesSession(request.headers.cookie)
      ? { 'Set-Cookie': gateway.cookies.clearSession() }
      : {};
  // A person who opens a protected page is taken to the login; a program is told, and so is a reverse proxy that asks.
  if (
    problem.status === 401 &&
    problem.code !== 'bearer_invalid' &&
    !address.startsWith('/auth/') &&
    isNavigation(request.method ?? '', header)
  ) {
    if (mayHoldCookieBack(gateway, header)) {
      response
        .writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' })
        .end(onwardPage(address, lookFor(gateway, header)));
      return;
    }
    response
      .writeHead(302, {
        Location: loginAddress({
          back: address,
          origin: gateway.config.publicUrl.origin,
          acrValues: problem.acrValues,
        }),
        'Cache-Control': 'no-store',
        ...clear,
      })
      .end();
    return;
  }
  // The rest of a body that does not move is not waited for, nor one whose length may be among
  // the fields that are lost.
  if (problem.code === 'request_timeout' || problem.code === 'headers_too_large')
    response.setHeader('Connection', 'close');
  const requestId = response.getHeader('x-request-id');
  const { headers, body } = representation(gateway, problem, {
    method: request.method ?? '',
    header,
    address,
    requestId: typeof requestId === 'string' ? requestId : null,
  });
  response.writeHead(problem.status, { ...headers, ...clear }).end(body);
  // What is left of a body that nobody will read must not hold the connection.
  request.resume();
}
