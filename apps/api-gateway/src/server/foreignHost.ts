import type { IncomingMessage } from 'node:http';
import { headerOf } from '../request/headers.js';
import { isNavigation } from '../request/navigation.js';
import type { Config } from '../settings/config.js';

/** Pages that a login begins at. */
const LOGIN_BEGINS = /^\/(auth\/login\/?|account)?(\?|$)/;
/**
 * Set on an address that was led here: a reverse proxy that writes a Host of its own must not
 * send anybody around for ever.
 */
const LED = 'led=1';

/**
 * Where a person goes on who opened the gateway under another host name than that of PUBLIC_URL, such as 127.0.0.1 or
 * one with `www.`: the provider leads back to PUBLIC_URL, where the browser has none of the cookies of that name. Null:
 * here is right, or nobody can tell. Ports do not count: cookies know none (RFC 6265 §8.5).
 */
export function publicAddress(
  { publicUrl }: Pick<Config, 'publicUrl'>,
  request: IncomingMessage,
): string | null {
  const address = request.url ?? '/';
  const isElsewhere = (host: string): boolean =>
    URL.canParse(`http://${host}`) && new URL(`http://${host}`).hostname !== publicUrl.hostname;
  // A proxy's claim may be anybody's: all that it does is to lead to ourselves.
  const host = headerOf(request, 'x-forwarded-host') ?? request.headers.host ?? '';
  if (
    request.method !== 'GET' ||
    !LOGIN_BEGINS.test(address) ||
    !isElsewhere(host) ||
    !isNavigation('GET', (name) => headerOf(request, name)) ||
    address.split(/[?&]/).includes(LED)
  )
    return null;
  return `${publicUrl.origin}${address}${address.includes('?') ? '&' : '?'}${LED}`;
}
