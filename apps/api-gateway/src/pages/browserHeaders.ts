import type { ServerResponse } from 'node:http';
import type { Config } from '../settings/config.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';
import { styleOf } from './style.js';

/** Two years, as browsers' preload lists ask for; subdomains are not ours to bind (RFC 6797 §6.1). */
const STRICT_TRANSPORT_SECURITY = 'max-age=63072000';

/** For everything that the gateway answers itself: nothing is kept, framed, guessed at or lent to other sites. */
const OWN: readonly [string, string][] = [
  ['Cache-Control', 'no-store'],
  ['Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'"],
  ['Cross-Origin-Opener-Policy', 'same-origin'],
  ['Cross-Origin-Resource-Policy', 'same-origin'],
  // With "no-referrer" a form would be sent with `Origin: null`, which proves nothing.
  ['Referrer-Policy', 'same-origin'],
  ['X-Content-Type-Options', 'nosniff'],
];

const OWN_FIELDS = OWN.flat();
const OWN_FIELDS_HTTPS = ['Strict-Transport-Security', STRICT_TRANSPORT_SECURITY, ...OWN_FIELDS];

/** The same as a list of names and values, which Node writes fastest, for an answer that sets all its fields at once. */
export const ownFields = ({ publicUrl }: Pick<Config, 'publicUrl'>): readonly string[] =>
  publicUrl.protocol === 'https:' ? OWN_FIELDS_HTTPS : OWN_FIELDS;

/** A page may open a login in a window of its own, and hears from it afterwards: a policy on the way would cut the two apart. */
const KEEPS_OPENER = /^\/auth\/(login|callback)\/?(\?|$)/;

/** Sets what a browser is told by default; an answer's own headers replace these. */
export function protectBrowser(
  response: ServerResponse,
  { publicUrl }: Pick<Config, 'publicUrl'>,
  { address, answeredHere }: { address: string; answeredHere: boolean },
): void {
  if (publicUrl.protocol === 'https:')
    response.setHeader('Strict-Transport-Security', STRICT_TRANSPORT_SECURITY);
  if (!answeredHere) return;
  for (const [name, value] of OWN) response.setHeader(name, value);
  if (KEEPS_OPENER.test(address)) response.removeHeader('Cross-Origin-Opener-Policy');
}

/** Fields that tell caches what they may keep (RFC 9111 §5.2; RFC 9213 for one kind of cache; Surrogate-Control for those in front of a site). */
const CACHE_CONTROL = /^((.+-)?cache-control|surrogate-control)$/i;

/**
 * What caches are told of an answer behind a login: to keep nothing. Where the route leaves that to its upstream, what the upstream says, and `no-store`
 * where it says nothing. The upstream saw a bearer token, which keeps shared caches away unless it says otherwise (RFC 9111 §3.5); a cache in front of the
 * gateway sees a cookie, which does not.
 */
export function cachedBehindLogin(
  rawHeaders: readonly string[],
  { cache }: Pick<GatewayRoute, 'cache'>,
): string[] {
  const at = rawHeaders.findIndex(
    (name, i) => i % 2 === 0 && name.toLowerCase() === 'cache-control',
  );
  if (!cache || at === -1) {
    const others = rawHeaders.filter((_, i) => !CACHE_CONTROL.test(rawHeaders[i - (i % 2)] ?? ''));
    return [...others, 'Cache-Control', 'no-store'];
  }
  const headers = [...rawHeaders];
  if (!/\b(no-store|private|public|s-maxage)\b/i.test(headers[at + 1] ?? ''))
    headers[at + 1] = `${headers[at + 1] ?? ''}, private`;
  return headers;
}

/** What a page's Content-Security-Policy is made of. */
type Dressed = Pick<Config, 'brand' | 'publicUrl'>;

/** Of pages that only say something: their one style by its hash, the logo, and nothing else. */
export const stillPagePolicy = ({ brand, publicUrl }: Dressed): string =>
  [
    "default-src 'none'",
    `style-src ${styleOf(brand).source}`,
    `img-src data:${brand.logo === null ? '' : ` ${publicUrl.origin}`}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "form-action 'self'",
  ].join('; ');

/** The same for a page that this origin's own pages may show in a frame. */
export const framedPagePolicy = (config: Dressed): string =>
  stillPagePolicy(config).replace("frame-ancestors 'none'", "frame-ancestors 'self'");

/** Of the gateway's other pages: also scripts and requests to this origin. */
export const pagePolicy = (config: Dressed): string =>
  `${stillPagePolicy(config)}; script-src 'self'; connect-src 'self'`;

/** What pages kept in this browser goes with the session, as far as LOGOUT_CLEAR_SITE_DATA says. */
export const clearSiteData = ({
  logoutClearSiteData: directives,
}: Pick<Config, 'logoutClearSiteData'>): [string, string][] =>
  directives.length === 0
    ? []
    : [['Clear-Site-Data', directives.map((directive) => `"${directive}"`).join(', ')]];
