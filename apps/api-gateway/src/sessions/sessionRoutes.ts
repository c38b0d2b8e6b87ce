import { type AnyElysia, Elysia } from 'elysia';
import { json } from '../pages/answers.js';
import { headersOf } from '../request/form.js';
import { sessionBody } from './sessionBody.js';
import { requireSession } from './authenticate.js';
import type { Gateway } from '../gateway.js';
import { SESSION_PATH } from './whoAmI.js';

/** Who is logged in, for pages, and renewing the access token on demand. */
export function sessionRoutes(gateway: Gateway): AnyElysia {
  const { store, refresher } = gateway;
  const extends_ = (request: Request): boolean =>
    new URL(request.url).searchParams.get('extend') !== 'false';

  return new Elysia()
    .get(SESSION_PATH, async ({ request }) => {
      const session = await requireSession(gateway, 'GET', headersOf(request), { extend: false });
      const profile = await store.profile(session);
      const told = extends_(request) ? store.use(session) : store.seen(session);
      return json(sessionBody(gateway, told, profile));
    })
    .post('/auth/refresh', async ({ request }) => {
      const session = await requireSession(gateway, 'POST', headersOf(request));
      const force = new URL(request.url).searchParams.get('force') === 'true';
      const fresh =
        force || refresher.freshness(session) !== 'fresh'
          ? await refresher.refresh(session)
          : session;
      return json(sessionBody(gateway, fresh, await store.profile(fresh)));
    });
}
