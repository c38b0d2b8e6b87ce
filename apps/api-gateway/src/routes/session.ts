import { type AnyElysia, Elysia } from 'elysia';
import { headersOf, json, sessionBody } from '../answers.js';
import { requireSession } from '../authenticate.js';
import type { Gateway } from '../gateway.js';

/** Who is logged in, for pages, and renewing the access token on demand. */
export function sessionRoutes(gateway: Gateway): AnyElysia {
  const { store, refresher } = gateway;
  const extends_ = (request: Request): boolean => new URL(request.url).searchParams.get('extend') !== 'false';

  return new Elysia()
    .get('/auth/session', async ({ request }) => {
      const session = await requireSession(gateway, 'GET', headersOf(request), { extend: false });
      const seen = extends_(request) ? await store.touchNow(session) : session;
      return json(sessionBody(gateway, seen, await store.profile(seen)));
    })
    .post('/auth/refresh', async ({ request }) => {
      const session = await requireSession(gateway, 'POST', headersOf(request));
      const force = new URL(request.url).searchParams.get('force') === 'true';
      const fresh = force || refresher.freshness(session) !== 'fresh' ? await refresher.refresh(session) : session;
      return json(sessionBody(gateway, fresh, await store.profile(fresh)));
    });
}
