import type { IncomingMessage, ServerResponse } from 'node:http';
import { authenticate, knownSession } from './authenticate.js';
import { identityFields, percentEncoded } from './identityFields.js';
import { ownFields } from '../pages/browserHeaders.js';
import type { Gateway } from '../gateway.js';
import { Problem } from '../request/errors.js';
import { isNavigation } from '../request/navigation.js';
import { loginAddress } from '../request/loginAddress.js';
import { type HeaderReader, isSafeMethod, proveSameOrigin } from '../request/sameOrigin.js';
import { headerOf } from '../request/headers.js';

export const VERIFY_PATH = '/auth/verify';

/** Whether a path asks for a verdict: Envoy puts the path of the request in question behind it. */
export const asksForVerdict = (path: string): boolean =>
  path === VERIFY_PATH || path.startsWith(`${VERIFY_PATH}/`);

/**
 * Answers a reverse proxy that asks about a request in its hands (nginx `auth_request`, Traefik, Envoy): 200 and who it
 * is from, or a problem. Asked about once for every request of an application, it is answered on Node's own objects,
 * and with any method, since Envoy asks with that of the request. Whoever names an unsafe one (Traefik in
 * `X-Forwarded-Method`, Kubernetes' ingress-nginx in `X-Original-Method`), it has to prove same origin. A bearer token
 * is judged as on a route with `auth: any`. With `login=redirect` a person without a session is taken to the login.
 * @returns a promise only where the session had to be looked up elsewhere
 * @throws Problem 401, 403 or 400; storage faults as they are
 */
export function verify(
  gateway: Gateway,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> | undefined {
  const header: HeaderReader = (name) => headerOf(request, name);
  const asked = request.method ?? 'GET';
  if (asksForWebSocket(header)) proveSameOrigin(header, gateway.config.publicUrl.origin);
  const query = operatorsQuery(request.url ?? '', header);
  const extend = query.get('extend') !== 'false';
  const method =
    [header('x-forwarded-method'), header('x-original-method')].find(
      (named) => named !== null && !isSafeMethod(named),
    ) ?? asked;
  const known =
    header('authorization') === null ? knownSession(gateway, method, header, { extend }) : null;
  if (known !== null) {
    response.writeHead(200, identityFields(gateway.config, known)).end();
    return undefined;
  }
  return authenticate(gateway, method, header, { accepts: 'any', extend }).then(
    (caller) => {
      const { config } = gateway;
      const who = caller.kind === 'session' ? caller.session : caller.identity;
      response.writeHead(200, identityFields(config, who)).end();
    },
    (error: unknown) => {
      const redirects = query.get('login') === 'redirect' && wouldHelp(error);
      if (!redirects || !isNavigation(originalMethod(header, asked), header)) throw error;
      const address = originalAddress(request.url ?? '', header);
      const { publicUrl } = gateway.config;
      response.writeHead(302, [
        ...ownFields(gateway.config),
        'Location',
        // Absolute, since some proxies (Traefik) resolve it by the address that they asked at.
        publicUrl.origin + loginAddress({ back: address, origin: publicUrl.origin }),
        'Content-Length',
        '0',
      ]);
      response.end();
    },
  );
}

/** Whether a login would help: a bearer token is a program's. */
const wouldHelp = (error: unknown): boolean =>
  error instanceof Problem && error.status === 401 && error.code !== 'bearer_invalid';

const originalMethod = (header: HeaderReader, asked: string): string =>
  header('x-forwarded-method') ?? header('x-original-method') ?? asked;

/**
 * The address that the request in question was made to, without scheme and host: as a reverse proxy tells it in a
 * header field, or behind `for=`. What no address holds as it is (bytes beyond ASCII, which Node reads as Latin-1, a
 * `#`, a `\\`) is percent-encoded, so that the way back leads to the very same.
 */
export function originalAddress(url: string, header: HeaderReader): string {
  const told = ORIGINAL_ADDRESS.map(header).find((value) => value !== null);
  const address = told ?? /[?&]for=(.*)$/s.exec(url)?.[1] ?? '/';
  return address
    .replace(/^https?:\/\/[^/?#]*/i, '')
    .replace(/[^!-~]|[#\\]/g, (byte) => percentEncoded(Buffer.from(byte, 'latin1')));
}

/**
 * Whether the request in question is a WebSocket's handshake: proxies that take `Upgrade` off leave its other fields.
 */
export const asksForWebSocket = (header: HeaderReader): boolean =>
  /\bwebsocket\b/i.test(header('upgrade') ?? '') ||
  header('sec-websocket-key') !== null ||
  header('sec-websocket-version') !== null;

const NO_QUERY = new URLSearchParams();

/**
 * The parameters of a question that whoever set up the reverse proxy wrote. Those of the request in question are its
 * client's, and decide nothing: what stands behind a longer path or `for=` (Envoy puts it there), and a query that is
 * also that of the address in `X-Forwarded-Uri` or `X-Original-URI` (Caddy hangs it on).
 */
export function operatorsQuery(url: string, header: HeaderReader): URLSearchParams {
  const at = url.indexOf('?');
  if (at === -1) return NO_QUERY;
  const [path, query] = [url.slice(0, at), url.slice(at + 1)];
  if (path !== VERIFY_PATH && path !== `${VERIFY_PATH}/`) return NO_QUERY;
  const isTheClients = ORIGINAL_ADDRESS.some((name) => header(name)?.endsWith(`?${query}`));
  return isTheClients ? NO_QUERY : new URLSearchParams(query.split(/(?:^|&)for=/, 1)[0]);
}

const ORIGINAL_ADDRESS = ['x-forwarded-uri', 'x-original-uri', 'x-original-url'];
