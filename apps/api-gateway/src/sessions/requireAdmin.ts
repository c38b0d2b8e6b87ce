import { hasRole, type Origin } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { Problem } from '../request/errors.js';
import { headersOf } from '../request/form.js';
import { remoteAddress } from '../request/remoteAddress.js';
import { authenticate, type Authentication } from './authenticate.js';

const ADMIN_ROLE = 'realm:session-admin';

export const isAdmin = ({ client }: Pick<Gateway, 'client'>, roles: readonly string[]): boolean =>
  hasRole(roles, ADMIN_ROLE, client.clientId);

/** Who acts on the sessions of others, for the audit trail. @throws Problem `forbidden`; else as `authenticate` does */
export async function requireAdmin(
  gateway: Gateway,
  request: Request,
  accepts: Authentication['accepts'] = 'any',
): Promise<Origin> {
  const caller = await authenticate(gateway, request.method, headersOf(request), { accepts });
  const { roles, subject } = caller.kind === 'session' ? caller.session : caller.identity;
  if (!isAdmin(gateway, roles)) throw new Problem('forbidden');
  return { actor: `admin:${subject}`, ipAddress: remoteAddress(request) };
}
