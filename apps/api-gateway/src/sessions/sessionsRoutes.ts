import {
  type EndOptions,
  type EndReason,
  endSessions,
  positionOf,
  type SessionSelection,
  shownId,
} from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, json } from '../pages/answers.js';
import { headersOf, single } from '../request/form.js';
import { listedBody } from './sessionBody.js';
import { requireSession } from './authenticate.js';
import { requireAdmin } from './requireAdmin.js';
import { Problem } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { remoteAddress } from '../request/remoteAddress.js';

export const MY_SESSIONS_LIMIT = 200;

/** A person's own sessions, and everyone's for an administrator. */
export function sessionsRoutes(gateway: Gateway): AnyElysia {
  const { store } = gateway;

  const end = async (
    selection: SessionSelection,
    reason: EndReason,
    options: EndOptions,
  ): Promise<number> => (await endSessions(gateway, selection, reason, options)).length;
  return new Elysia()
    .get('/auth/sessions', async ({ request }) => {
      const session = await requireSession(gateway, 'GET', headersOf(request));
      const sessions = await store.list({ subject: session.subject, limit: MY_SESSIONS_LIMIT });
      return json({ sessions: sessions.map((listed) => listedBody(listed, session)) });
    })
    .delete('/auth/sessions', async ({ request }) => {
      const { subject, id, sid } = await requireSession(gateway, 'DELETE', headersOf(request));
      await end({ subject, exceptId: id }, 'ended_by_user', {
        ipAddress: remoteAddress(request),
        exceptSid: sid,
      });
      return empty(204);
    })
    .delete('/auth/sessions/:id', async ({ request, params }) => {
      const { subject, id, sid } = await requireSession(gateway, 'DELETE', headersOf(request));
      if (
        (await end({ id: params.id, subject }, 'ended_by_user', {
          ipAddress: remoteAddress(request),
          exceptSid: params.id === shownId(id) ? null : sid,
        })) === 0
      )
        throw new Problem('not_found');
      return empty(204);
    })
    .get('/admin/sessions', async ({ request }) => {
      await requireAdmin(gateway, request);
      const query = new URL(request.url).searchParams;
      const limit = single(query, 'limit') ?? '50';
      if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > 200)
        throw new Problem('request_invalid');
      const cursor = single(query, 'cursor');
      const after = cursor === null ? undefined : positionOf(cursor);
      if (after === null) throw new Problem('request_invalid');
      const sessions = await store.list({
        subject: single(query, 'sub') ?? undefined,
        after,
        limit: Number(limit),
      });
      return json({
        sessions: sessions.map((listed) => listedBody(listed, null)),
        next_cursor: sessions.length === Number(limit) ? (sessions.at(-1)?.cursor ?? null) : null,
      });
    })
    .delete('/admin/sessions', async ({ request }) => {
      const admin = await requireAdmin(gateway, request);
      const subject = single(new URL(request.url).searchParams, 'sub');
      if (!subject) throw new Problem('request_invalid');
      await end({ subject }, 'ended_by_admin', admin);
      return empty(204);
    })
    .delete('/admin/sessions/:id', async ({ request, params }) => {
      const admin = await requireAdmin(gateway, request);
      if ((await end({ id: params.id }, 'ended_by_admin', admin)) === 0)
        throw new Problem('not_found');
      return empty(204);
    });
}
