import { endSessions, type EndReason, hasRole, revokeAtProvider, type SessionSelection } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, headersOf, json, listedBody, single } from '../answers.js';
import { authenticate, requireSession } from '../authenticate.js';
import { Problem } from '../errors.js';
import type { Gateway } from '../gateway.js';

const MY_SESSIONS_LIMIT = 200;
const ADMIN_ROLE = 'realm:session-admin';

/** A person's own sessions, and everyone's for an administrator. */
export function sessionsRoutes(gateway: Gateway): AnyElysia {
  const { store, client, metrics } = gateway;

  const end = async (selection: SessionSelection, reason: EndReason): Promise<number> => {
    const ended = await endSessions(gateway, selection, reason);
    metrics.sessionsEnded.inc({ reason }, ended.length);
    // There is no browser of theirs here to send to the provider: the grants are revoked from server to server.
    void revokeAtProvider(client, ended);
    return ended.length;
  };
  const requireAdmin = async (request: Request): Promise<void> => {
    const caller = await authenticate(gateway, request.method, headersOf(request), { accepts: 'any' });
    const roles = caller.kind === 'session' ? caller.session.roles : caller.identity.roles;
    if (!hasRole(roles, ADMIN_ROLE, client.clientId)) throw new Problem('forbidden');
  };

  return new Elysia()
    .get('/auth/sessions', async ({ request }) => {
      const session = await requireSession(gateway, 'GET', headersOf(request));
      const sessions = await store.list({ subject: session.subject, limit: MY_SESSIONS_LIMIT });
      return json({ sessions: sessions.map((listed) => listedBody(listed, session.id)) });
    })
    .delete('/auth/sessions', async ({ request }) => {
      const { subject, id } = await requireSession(gateway, 'DELETE', headersOf(request));
      await end({ subject, exceptId: id }, 'ended_by_user');
      return empty(204);
    })
    .delete('/auth/sessions/:id', async ({ request, params }) => {
      const { subject } = await requireSession(gateway, 'DELETE', headersOf(request));
      if ((await end({ id: params.id, subject }, 'ended_by_user')) === 0) throw new Problem('not_found');
      return empty(204);
    })
    .get('/admin/sessions', async ({ request }) => {
      await requireAdmin(request);
      const query = new URL(request.url).searchParams;
      const limit = single(query, 'limit') ?? '50';
      if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > 200) throw new Problem('request_invalid');
      const sessions = await store.list({ subject: single(query, 'sub') ?? undefined, cursor: single(query, 'cursor') ?? undefined, limit: Number(limit) });
      return json({ sessions: sessions.map((listed) => listedBody(listed, null)), next_cursor: sessions.length === Number(limit) ? (sessions.at(-1)?.id ?? null) : null });
    })
    .delete('/admin/sessions', async ({ request }) => {
      await requireAdmin(request);
      const subject = single(new URL(request.url).searchParams, 'sub');
      if (!subject) throw new Problem('request_invalid');
      await end({ subject }, 'ended_by_admin');
      return empty(204);
    })
    .delete('/admin/sessions/:id', async ({ request, params }) => {
      await requireAdmin(request);
      if ((await end({ id: params.id }, 'ended_by_admin')) === 0) throw new Problem('not_found');
      return empty(204);
    });
}
