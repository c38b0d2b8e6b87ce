import { endSessions, type EndReason, hasRole, type Origin, positionOf, revokeAtProvider, type SessionSelection } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, headersOf, json, listedBody, single } from '../answers.js';
import { authenticate, requireSession } from '../authenticate.js';
import { Problem } from '../errors.js';
import type { Gateway } from '../gateway.js';
import { remoteAddress } from '../remoteAddress.js';

export const MY_SESSIONS_LIMIT = 200;
const ADMIN_ROLE = 'realm:session-admin';

/**
 * Ends sessions here, then their grants at the provider without waiting; the returned function says how many it ended.
 * `exceptSid` is the provider's session that somebody goes on with.
 */
export function endAndRevoke(gateway: Gateway): (selection: SessionSelection, reason: EndReason, origin: Origin & { exceptSid?: string | null }) => Promise<number> {
  return async (selection, reason, { exceptSid, ...origin }) => {
    const ended = await endSessions(gateway, selection, reason, origin);
    // There is no browser of theirs here to send to the provider: the grants are revoked from server to server.
    void revokeAtProvider(gateway, ended, { exceptSid: exceptSid ?? null });
    return ended.length;
  };
}

/** A person's own sessions, and everyone's for an administrator. */
export function sessionsRoutes(gateway: Gateway): AnyElysia {
  const { store, client } = gateway;

  const end = endAndRevoke(gateway);
  /** Who acts, for the audit trail. */
  const requireAdmin = async (request: Request): Promise<Origin> => {
    const caller = await authenticate(gateway, request.method, headersOf(request), { accepts: 'any' });
    const roles = caller.kind === 'session' ? caller.session.roles : caller.identity.roles;
    if (!hasRole(roles, ADMIN_ROLE, client.clientId)) throw new Problem('forbidden');
    return { actor: `admin:${caller.kind === 'session' ? caller.session.subject : caller.identity.subject}`, ipAddress: remoteAddress(request) };
  };

  return new Elysia()
    .get('/auth/sessions', async ({ request }) => {
      const session = await requireSession(gateway, 'GET', headersOf(request));
      const sessions = await store.list({ subject: session.subject, limit: MY_SESSIONS_LIMIT });
      return json({ sessions: sessions.map((listed) => listedBody(listed, session.id)) });
    })
    .delete('/auth/sessions', async ({ request }) => {
      const { subject, id, sid } = await requireSession(gateway, 'DELETE', headersOf(request));
      await end({ subject, exceptId: id }, 'ended_by_user', { ipAddress: remoteAddress(request), exceptSid: sid });
      return empty(204);
    })
    .delete('/auth/sessions/:id', async ({ request, params }) => {
      const { subject, id, sid } = await requireSession(gateway, 'DELETE', headersOf(request));
      if ((await end({ id: params.id, subject }, 'ended_by_user', { ipAddress: remoteAddress(request), exceptSid: params.id === id ? null : sid })) === 0) throw new Problem('not_found');
      return empty(204);
    })
    .get('/admin/sessions', async ({ request }) => {
      await requireAdmin(request);
      const query = new URL(request.url).searchParams;
      const limit = single(query, 'limit') ?? '50';
      if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > 200) throw new Problem('request_invalid');
      const cursor = single(query, 'cursor');
      const after = cursor === null ? undefined : positionOf(cursor);
      if (after === null) throw new Problem('request_invalid');
      const sessions = await store.list({ subject: single(query, 'sub') ?? undefined, after, limit: Number(limit) });
      return json({ sessions: sessions.map((listed) => listedBody(listed, null)), next_cursor: sessions.length === Number(limit) ? (sessions.at(-1)?.cursor ?? null) : null });
    })
    .delete('/admin/sessions', async ({ request }) => {
      const admin = await requireAdmin(request);
      const subject = single(new URL(request.url).searchParams, 'sub');
      if (!subject) throw new Problem('request_invalid');
      await end({ subject }, 'ended_by_admin', admin);
      return empty(204);
    })
    .delete('/admin/sessions/:id', async ({ request, params }) => {
      const admin = await requireAdmin(request);
      if ((await end({ id: params.id }, 'ended_by_admin', admin)) === 0) throw new Problem('not_found');
      return empty(204);
    });
}
