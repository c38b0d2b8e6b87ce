import { Problem } from './errors.js';
import type { HeaderReader } from './sameOrigin.js';

/** Reads header fields of a request as the web's objects have it. */
export const headersOf =
  (request: Request): HeaderReader =>
  (name) =>
    request.headers.get(name);

/** A form of at most `maxBytes`, also where no length is announced; null when the body is no form, or holds a NUL. */
export async function readForm(
  request: Request,
  maxBytes: number,
): Promise<URLSearchParams | null> {
  if (!/^application\/x-www-form-urlencoded(;|$)/i.test(request.headers.get('content-type') ?? ''))
    return null;
  const form = new URLSearchParams(await readText(request, maxBytes));
  return [...form.values()].some(holdsNul) ? null : form;
}

async function readText(request: Request, maxBytes: number): Promise<string> {
  const announced = request.headers.get('content-length');
  if (announced !== null) {
    if (Number(announced) > maxBytes) throw new Problem('request_too_large');
    // At once, straight from the connection: the web's streams of a flood of forms would be
    // hundreds of megabytes to collect.
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
