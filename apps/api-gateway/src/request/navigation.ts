import { prefersPage } from './accept.js';
import type { HeaderReader } from './sameOrigin.js';

/**
 * Whether a person's browser asks for a page to show: a GET or HEAD that Fetch Metadata calls a navigation. Browsers
 * send none on plain http beyond localhost, and there `Accept` decides.
 */
export function isNavigation(method: string, header: HeaderReader): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  const mode = header('sec-fetch-mode');
  if (mode !== null) return mode === 'navigate';
  const saysNothing = header('sec-fetch-site') === null && header('sec-fetch-dest') === null;
  return saysNothing && prefersPage(header('accept'));
}
