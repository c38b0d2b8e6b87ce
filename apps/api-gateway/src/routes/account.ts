import { type AnyElysia, Elysia } from 'elysia';
import { empty, headersOf, html, readForm, text } from '../answers.js';
import { requireSession } from '../authenticate.js';
import { browserFile } from '../browserFiles.js';
import { Problem } from '../errors.js';
import type { Gateway } from '../gateway.js';
import { accountPage, type Current, onwardPage, startPage } from '../page.js';
import { remoteAddress } from '../remoteAddress.js';
import { mayHoldCookieBack } from '../strictNavigation.js';
import { endAndRevoke, MY_SESSIONS_LIMIT } from './sessions.js';

const MAX_FORM_BYTES = 4_096;
const NOTICES: Readonly<Record<string, string>> = {
  ended: 'The session has ended.', gone: 'That session was over already.', others: 'All other sessions have ended.',
};

/** The pages for people, and the scripts that pages of this origin may use. */
export function accountRoutes(gateway: Gateway): AnyElysia {
  const { store } = gateway;
  const [clientScript, clientTypes, pageScript] = [browserFile('client.js'), browserFile('client.d.ts'), browserFile('page.js')];
  const end = endAndRevoke(gateway);

  const currentOf = async (request: Request): Promise<Current> => {
    // A page that a person opens is use of the session, at once: it says when the session ends.
    const session = await store.touchNow(await requireSession(gateway, 'GET', headersOf(request), { extend: false }));
    const idle = store.idleExpiresAt(session);
    return { session, profile: await store.profile(session), idleExpiresAt: idle < session.expiresAt ? idle : session.expiresAt };
  };
  /** Null where a login would help. */
  const currentOrNull = (request: Request): Promise<Current | null> => currentOf(request).catch((error: unknown) => {
    if (error instanceof Problem && error.clearsCookie) return null;
    throw error;
  });
  const backTo = (notice: keyof typeof NOTICES): Response => empty(303, [['Location', `/account?done=${notice}`]]);

  return new Elysia()
    .get('/', async ({ request }) => {
      const current = await currentOrNull(request);
      return html(current === null && mayHoldCookieBack(gateway, headersOf(request)) ? onwardPage('/') : startPage(current));
    })
    .get('/account', async ({ request }) => {
      const current = opensPage(request) ? await currentOrNull(request) : await currentOf(request);
      if (current === null && mayHoldCookieBack(gateway, headersOf(request))) return html(onwardPage('/account'));
      if (current === null) return empty(302, [['Location', '/auth/login?return_to=%2Faccount']]);
      const sessions = await store.list({ subject: current.session.subject, limit: MY_SESSIONS_LIMIT });
      return html(accountPage(current, sessions, NOTICES[new URL(request.url).searchParams.get('done') ?? ''] ?? null));
    })
    .post('/account/end', async ({ request }) => {
      const { subject, id: own, sid } = await requireSession(gateway, 'POST', headersOf(request));
      const id = (await readForm(request, MAX_FORM_BYTES))?.get('id');
      if (!id) throw new Problem('request_invalid');
      return backTo((await end({ id, subject }, 'ended_by_user', { ipAddress: remoteAddress(request), exceptSid: id === own ? null : sid })) > 0 ? 'ended' : 'gone');
    }, { parse: 'none' })
    .post('/account/end-others', async ({ request }) => {
      const { subject, id, sid } = await requireSession(gateway, 'POST', headersOf(request));
      await end({ subject, exceptId: id }, 'ended_by_user', { ipAddress: remoteAddress(request), exceptSid: sid });
      return backTo('others');
    }, { parse: 'none' })
    .get('/account/page.js', () => text(pageScript, 'text/javascript'))
    .get('/auth/client.js', () => text(clientScript, 'text/javascript'))
    .get('/auth/client.d.ts', () => text(clientTypes, 'text/plain'));
}

/** A person's navigation, also in browsers that do not say so (Fetch Metadata). */
function opensPage(request: Request): boolean {
  const mode = request.headers.get('sec-fetch-mode');
  return mode === null ? /\btext\/html\b/.test(request.headers.get('accept') ?? '') : mode === 'navigate';
}
