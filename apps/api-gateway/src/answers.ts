import type { ListedSession, Profile, Session } from '@session-gateway/keycloak-auth';
import { PAGE_POLICY } from './browserHeaders.js';
import { Problem } from './errors.js';
import type { Gateway } from './gateway.js';
import type { HeaderReader } from './sameOrigin.js';

const NO_STORE = { 'Cache-Control': 'no-store' };

export function json(body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { headers: { 'Content-Type': 'application/json', ...NO_STORE, ...headers } });
}

/** Several Set-Cookie headers need the list form; a record would join them. */
export function empty(status: number, headers: [string, string][] = []): Response {
  return new Response(null, { status, headers: [...Object.entries(NO_STORE), ...headers] });
}

export function html(body: string, headers: readonly [string, string][] = []): Response {
  return new Response(body, {
    headers: [
      ['Content-Type', 'text/html; charset=utf-8'], ['Content-Security-Policy', PAGE_POLICY], ...Object.entries(NO_STORE), ...headers,
    ],
  });
}

export function text(body: string, type: 'text/javascript' | 'text/plain'): Response {
  return new Response(body, { headers: { 'Content-Type': `${type}; charset=utf-8`, ...NO_STORE } });
}

/** `GET /auth/session`: times in ISO 8601, never a token. */
export function sessionBody(gateway: Gateway, session: Session, profile: Profile): unknown {
  return {
    session: {
      id: session.id,
      created_at: session.createdAt,
      expires_at: session.expiresAt,
      idle_expires_at: new Date(Math.min(gateway.store.idleExpiresAt(session).getTime(), session.expiresAt.getTime())),
      token_expires_at: session.tokenExpiresAt,
      last_accessed_at: session.lastAccessedAt,
    },
    user: { sub: session.subject, preferred_username: profile.preferredUsername, email: profile.email, name: profile.name, roles: session.roles },
  };
}

export function listedBody(session: ListedSession, currentId: string | null): Record<string, unknown> {
  return {
    id: session.id,
    created_at: session.createdAt,
    last_accessed_at: session.lastAccessedAt,
    expires_at: session.expiresAt,
    ip_address: session.ipAddress,
    user_agent: session.userAgent,
    ...(currentId === null ? { sub: session.subject } : { current: session.id === currentId }),
  };
}

export const headersOf = (request: Request): HeaderReader => (name) => request.headers.get(name);

/** A form of at most `maxBytes`, also where no length is announced; null when the body is no form, or holds a NUL. */
export async function readForm(request: Request, maxBytes: number): Promise<URLSearchParams | null> {
  if (!/^application\/x-www-form-urlencoded(;|$)/i.test(request.headers.get('content-type') ?? '')) return null;
  const form = new URLSearchParams(await readText(request, maxBytes));
  return [...form.values()].some(holdsNul) ? null : form;
}

async function readText(request: Request, maxBytes: number): Promise<string> {
  const announced = request.headers.get('content-length');
  if (announced !== null) {
    if (Number(announced) > maxBytes) throw new Problem('request_too_large');
    // At once, straight from the connection: the web's streams of a flood of forms would be hundreds of megabytes to collect.
    return request.text();
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += (chunk as Uint8Array).length;
    if (size > maxBytes) throw new Problem('request_too_large');
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What a query says once; a parameter given twice (RFC 6749 §3.1) or with a NUL in it is refused. */
export function single(query: URLSearchParams, name: string): string | null {
  const values = query.getAll(name);
  if (values.length > 1 || values.some(holdsNul)) throw new Problem('request_invalid');
  return values[0] ?? null;
}

/** PostgreSQL takes no NUL in a text. */
const holdsNul = (text: string): boolean => text.includes('\0');
