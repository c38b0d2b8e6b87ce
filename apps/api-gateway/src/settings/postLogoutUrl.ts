import { parseUrl } from '@session-gateway/database';
import { isLoopbackHost } from '../request/loopback.js';
import { localPath } from '../request/returnTo.js';

/** The page of the gateway's own, which is also the address that is registered at the provider. */
export const LOGGED_OUT_PATH = '/auth/logged-out';

/**
 * An address that a person may be led to: a local path, or an absolute URL with https, or with http on loopback.
 * Undefined for anything else.
 */
export function addressForPeople(text: string, publicUrl: URL): URL | undefined {
  const path = text.startsWith('/') ? localPath(text, publicUrl.origin) : null;
  if (path !== null) return new URL(path, publicUrl);
  const url = parseUrl(text);
  if (!url || url.username || url.password) return undefined;
  const isTrusted =
    url.protocol === 'https:' || (url.protocol === 'http:' && isLoopbackHost(url.hostname));
  return isTrusted ? url : undefined;
}

/**
 * Where the browser goes on to from `/auth/logged-out`; null: it stays on the gateway's own page; undefined: the text
 * is no address for people.
 */
export function parsePostLogoutUrl(
  text: string | undefined,
  publicUrl: URL,
): string | null | undefined {
  if (text === undefined || text === '') return null;
  const url = addressForPeople(text, publicUrl);
  if (url === undefined) return undefined;
  // The own page would lead to itself.
  if (url.origin === publicUrl.origin && url.pathname === LOGGED_OUT_PATH) return null;
  return text.startsWith('/') ? url.pathname + url.search + url.hash : url.href;
}
