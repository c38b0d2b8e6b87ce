import type { Config } from '../settings/config.js';
import { Problem } from '../request/errors.js';
import { pagePolicy } from './browserHeaders.js';

const NO_STORE = { 'Cache-Control': 'no-store' };

export function json(body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), {
    headers: { 'Content-Type': 'application/json', ...NO_STORE, ...headers },
  });
}

/** Several Set-Cookie headers need the list form; a record would join them. */
export function empty(status: number, headers: [string, string][] = []): Response {
  return new Response(null, { status, headers: [...Object.entries(NO_STORE), ...headers] });
}

/** A page; `policy` is its Content-Security-Policy. */
export function html(
  { config }: { config: Pick<Config, 'brand' | 'publicUrl'> },
  body: string,
  headers: readonly [string, string][] = [],
  policy = pagePolicy(config),
): Response {
  return new Response(body, {
    headers: [
      ['Content-Type', 'text/html; charset=utf-8'],
      ['Content-Security-Policy', policy],
      ['Vary', 'Accept-Language'],
      ...Object.entries(NO_STORE),
      ...headers,
    ],
  });
}

/** The brand's picture. Opened by itself an SVG is a document: this one runs nothing and loads nothing. @throws Problem `not_found` */
export function logo({ brand }: Pick<Config, 'brand'>): Response {
  if (brand.logo === null) throw new Problem('not_found');
  return new Response(new Uint8Array(brand.logo.bytes), {
    headers: {
      'Content-Type': brand.logo.type,
      'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; sandbox",
      // Pages of ours may stand under the address of an application (forward-auth).
      'Cross-Origin-Resource-Policy': 'cross-origin',
      ...NO_STORE,
    },
  });
}

export function text(body: string, type: 'text/javascript' | 'text/plain'): Response {
  return new Response(body, { headers: { 'Content-Type': `${type}; charset=utf-8`, ...NO_STORE } });
}
