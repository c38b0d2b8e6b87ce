import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Session } from '@session-gateway/keycloak-auth';
import { knownSession, requireSession } from '../authenticate.js';
import { ownFields } from '../browserHeaders.js';
import type { Gateway } from '../gateway.js';
import { type HeaderReader, isSafeMethod } from '../sameOrigin.js';
import { headerOf } from '../upstreamHeaders.js';

export const VERIFY_PATH = '/auth/verify';

/** Whether a path asks for a verdict: Envoy puts the path of the request in question behind it. */
export const asksForVerdict = (path: string): boolean => path === VERIFY_PATH || path.startsWith(`${VERIFY_PATH}/`);

/**
 * Answers a reverse proxy that asks about a request in its hands (nginx `auth_request`, Traefik, Envoy): 200 and who it is
 * from, or a problem. Asked about once for every request of an application, it is answered on Node's own objects, and
 * with any method, since Envoy asks with that of the request. Whoever names an unsafe one (Traefik in `X-Forwarded-Method`,
 * Kubernetes' ingress-nginx in `X-Original-Method`), it has to prove same origin.
 * @returns a promise only where the session had to be looked up elsewhere
 * @throws Problem 401, 403 or 400; storage faults as they are
 */
export function verify(gateway: Gateway, request: IncomingMessage, response: ServerResponse): Promise<void> | undefined {
  const header: HeaderReader = (name) => headerOf(request, name);
  const asked = request.method ?? 'GET';
  const extend = !/[?&]extend=false(&|$)/.test(request.url ?? '');
  const method = [header('x-forwarded-method'), header('x-original-method')].find((named) => named !== null && !isSafeMethod(named)) ?? asked;
  const answer = (session: Session): void => { response.writeHead(200, fieldsOf(session, gateway)).end(); };
  const known = knownSession(gateway, method, header, { extend });
  return known === null ? requireSession(gateway, method, header, { extend }).then(answer) : void answer(known);
}

const fields = new WeakMap<Session, string[]>();

/** The fields of a yes, made once for each copy of a session. */
function fieldsOf(session: Session, { config }: Pick<Gateway, 'config'>): string[] {
  let made = fields.get(session);
  if (made === undefined) {
    made = [...ownFields(config), 'X-Auth-Subject', fieldValue(session.subject), 'X-Auth-Session', session.id, 'X-Auth-Roles', session.roles.map(fieldValue).join(','), 'Content-Length', '0'];
    fields.set(session, made);
  }
  return made;
}

/** Printable ASCII as it is; what a header cannot carry, or a list would be cut at, percent-encoded. */
function fieldValue(text: string): string {
  return /^[ !-$&-+\--~]*$/.test(text) ? text : text.replace(/[^ !-$&-+\--~]/gu, encodeURIComponent);
}
