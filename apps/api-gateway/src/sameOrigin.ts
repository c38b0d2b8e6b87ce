import { Problem } from './errors.js';

export type HeaderReader = (name: string) => string | null;

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/**
 * Refuses a request that acts with the session cookie from another site: `Sec-Fetch-Site`, when sent, must be
 * `same-origin`; `Origin`, when sent, must be ours; when neither is sent, `X-CSRF: 1` must be. A page elsewhere can
 * forge none of the three (Fetch Metadata; Fetch §3.1 forbidden header names).
 * @throws Problem `csrf_rejected`
 */
export function requireSameOrigin(method: string, header: HeaderReader, publicOrigin: string): void {
  if (SAFE_METHODS.has(method.toUpperCase())) return;
  const [site, origin] = [header('sec-fetch-site'), header('origin')];
  if (site !== null && site !== 'same-origin') throw new Problem('csrf_rejected');
  if (origin !== null && origin !== publicOrigin) throw new Problem('csrf_rejected');
  if (site === null && origin === null && header('x-csrf') !== '1') throw new Problem('csrf_rejected');
}
