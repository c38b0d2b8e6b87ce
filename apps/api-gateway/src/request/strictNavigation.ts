import type { HeaderReader } from './sameOrigin.js';
import type { GatewayCookies } from './sessionCookie.js';

/**
 * Whether this navigation may lack a session cookie that the browser has: it began on another site, whose links bring
 * no `SameSite=Strict` cookie. Its answer is `onwardPage` to the same address, which the browser then asks for from
 * here, with the cookie if it has one; what holds then is no more in doubt, so nobody is sent around twice.
 */
export function mayHoldCookieBack(
  {
    config,
    cookies,
  }: {
    config: { readonly sessionCookieSameSite: 'lax' | 'strict' };
    cookies: GatewayCookies;
  },
  header: HeaderReader,
): boolean {
  return (
    config.sessionCookieSameSite === 'strict' &&
    header('sec-fetch-site') === 'cross-site' &&
    header('sec-fetch-mode') === 'navigate' &&
    !cookies.carriesSession(header('cookie'))
  );
}
