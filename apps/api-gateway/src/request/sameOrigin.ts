import { Problem } from './errors.js';

export type HeaderReader = (name: string) => string | null;

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

export const isSafeMethod = (method: string): boolean => SAFE_METHODS.has(method.toUpperCase());

/**
 * Refuses a request that acts with the session cookie from another site: `Sec-Fetch-Site`, when sent, must be
 * `same-origin`; `Origin`, when sent, must be ours, or `null` beside `Sec-Fetch-Site: same-origin`; when
 * neither is sent, `X-CSRF: 1` must be. A page elsewhere can forge none of the three (Fetch Metadata; Fetch
 * §3.1 forbidden header names).
 * @throws Problem `csrf_rejected`
 */
export function requireSameOrigin(
  method: string,
  header: HeaderReader,
  publicOrigin: string,
): void {
  if (!isSafeMethod(method)) proveSameOrigin(header, publicOrigin);
}

/** The same whatever the method: a WebSocket's handshake is a GET. */
export function proveSameOrigin(header: HeaderReader, publicOrigin: string): void {
  const silent = header('sec-fetch-site') === null && header('origin') === null;
  if (comesFromElsewhere(header, publicOrigin) || (silent && header('x-csrf') !== '1'))
    throw new Problem('csrf_rejected');
}

/** Whether a browser says that another origin's page sent this. Silence says nothing. */
export function comesFromElsewhere(header: HeaderReader, publicOrigin: string): boolean {
  const [site, origin] = [header('sec-fetch-site'), header('origin')];
  if (site !== null && site !== 'same-origin') return true;
  // A form of a page with `Referrer-Policy: no-referrer` says `null` (Fetch §3.2); so does a sandboxed frame, whose
  // `Sec-Fetch-Site` is `cross-site`.
  if (origin === 'null' && site === 'same-origin') return false;
  return origin !== null && origin !== publicOrigin;
}
