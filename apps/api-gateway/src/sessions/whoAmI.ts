import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { keepNewest } from '@session-gateway/database';
import type { Session } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { ownFields } from '../pages/browserHeaders.js';
import { hasBody, headerOf } from '../request/headers.js';
import { knownSession } from './authenticate.js';
import { sessionBody } from './sessionBody.js';

export const SESSION_PATH = '/auth/session';
const WITHOUT_USE = `${SESSION_PATH}?extend=false`;
/** Pages ask again and again: answers of so many sessions are kept as they are written. */
const KEPT_BODIES = 1_000;

interface Body {
  readonly session: Session;
  readonly text: string;
  readonly bytes: number;
}

/**
 * Answers `GET /auth/session` without a statement, on Node's own objects, where this process knows the
 * session and whose it is. False: the request is another, or has something in it to be judged, looked up or
 * refused, and is not answered.
 */
export type WhoAmI = (request: IncomingMessage, response: ServerResponse) => boolean;

export function createWhoAmI(gateway: Gateway): WhoAmI {
  const kept = new Map<string, Body>();
  const bodyOf = (session: Session): Body => {
    const known = kept.get(session.id);
    if (known?.session === session) return known;
    const text = JSON.stringify(sessionBody(gateway, session, session.profile ?? NOBODY));
    const body = { session, text, bytes: Buffer.byteLength(text) };
    keepNewest(kept, session.id, body, KEPT_BODIES);
    return body;
  };
  return (request, response) => {
    const isUse = request.url === SESSION_PATH;
    if ((!isUse && request.url !== WITHOUT_USE) || !isPlain(request)) return false;
    const known = knownOrNull(gateway, request);
    if (known?.profile === undefined) return false;
    const { text, bytes } = bodyOf(isUse ? gateway.store.use(known) : gateway.store.seen(known));
    response.writeHead(200, [
      ...ownFields(gateway.config),
      'X-Request-Id',
      randomUUID(),
      'Content-Type',
      'application/json',
      'Content-Length',
      String(bytes),
    ]);
    response.end(text);
    return true;
  };
}

const NOBODY = { preferredUsername: null, email: null, name: null };

/** Whether nothing about a request needs a judgement, nor an id that its sender knows. */
function isPlain(request: IncomingMessage): boolean {
  return (
    request.method === 'GET' &&
    request.httpVersion === '1.1' &&
    request.headers['x-request-id'] === undefined &&
    !hasBody(request) &&
    hasOneHost(request.rawHeaders)
  );
}

function hasOneHost(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (name.length === 4 && name.toLowerCase() === 'host') hosts++;
  }
  return hosts === 1;
}

/** A refusal comes from the look-up that follows. */
function knownOrNull(gateway: Gateway, request: IncomingMessage): Session | null {
  try {
    return knownSession(gateway, 'GET', (name) => headerOf(request, name), { extend: false });
  } catch {
    return null;
  }
}
