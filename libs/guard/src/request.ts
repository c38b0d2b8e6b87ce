import type { GuardRequest, Passed } from './guard.js';
import type { Identity } from './identity.js';
import { GuardError } from './errors.js';

/** What the guard reads of Node's own request; Express's and Fastify's raw one are the same with more to it. */
export interface NodeRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  /** Express: the target before a mounted router has cut it. */
  readonly originalUrl?: string | undefined;
  readonly rawHeaders: readonly string[];
}

/** What the guard does with Node's own response. */
export interface NodeResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

export function ofNode(request: NodeRequest): GuardRequest {
  return {
    method: request.method ?? '',
    url: request.originalUrl ?? request.url ?? '',
    authorization: fieldsOf(request.rawHeaders, 'authorization'),
    dpop: fieldsOf(request.rawHeaders, 'dpop'),
  };
}

/** Node's `headers` hide that a field came twice. */
function fieldsOf(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const field = rawHeaders[i] ?? '';
    if (field.length === name.length && field.toLowerCase() === name)
      values.push(rawHeaders[i + 1] ?? '');
  }
  return values;
}

/** A field that came twice is one value with a comma here, which no token and no proof has. */
export function ofFetch(request: Request): GuardRequest {
  const values = (name: string): string[] => {
    const value = request.headers.get(name);
    return value === null ? [] : [value];
  };
  const { pathname, search } = new URL(request.url);
  return {
    method: request.method,
    url: pathname + search,
    authorization: values('authorization'),
    dpop: values('dpop'),
  };
}

const identities = new WeakMap<object, Identity | null>();

/** Keeps who a request speaks for, under the request itself. */
export function pass({ identity }: Passed, ...requests: readonly object[]): void {
  for (const request of requests) identities.set(request, identity);
}

/**
 * Who a guarded request speaks for; null on an optional route without credentials.
 * @throws TypeError on an open route
 */
export function identityIfAny(request: object): Identity | null {
  const identity = identities.get(request);
  if (identity === undefined) throw new TypeError('no guard has seen this request');
  return identity;
}

/** Who a guarded request speaks for. @throws TypeError where it is nobody: the route is open or optional */
export function identityOf(request: object): Identity {
  const identity = identityIfAny(request);
  if (identity === null) throw new TypeError('the request has no credentials');
  return identity;
}

/** Answers a refusal as a problem document (RFC 9457); false: the error is not the guard's. */
export function refuseOnNode(error: unknown, response: NodeResponse): boolean {
  if (!(error instanceof GuardError)) return false;
  response.statusCode = error.status;
  for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
  response.setHeader('content-type', 'application/problem+json');
  response.end(error.problem());
  return true;
}

/** @throws what is not the guard's */
export function refusedOnFetch(error: unknown): Response {
  if (!(error instanceof GuardError)) throw error;
  return new Response(error.problem(), {
    status: error.status,
    headers: { ...error.headers, 'content-type': 'application/problem+json' },
  });
}
