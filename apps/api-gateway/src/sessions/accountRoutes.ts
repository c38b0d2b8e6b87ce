import { endSessions, shownId } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { empty, html, logo, text } from '../pages/answers.js';
import { headersOf, readForm } from '../request/form.js';
import { requireSession } from './authenticate.js';
import { browserFile } from '../pages/browserFiles.js';
import { Problem } from '../request/errors.js';
import { loginAddress } from '../request/loginAddress.js';
import type { Gateway } from '../gateway.js';
import { accountPage, LOGO_PATH, onwardPage, startPage } from '../pages/page.js';
import { lookFor } from '../pages/look.js';
import type { Notice } from '../pages/words/words.js';
import { remoteAddress } from '../request/remoteAddress.js';
import { isNavigation } from '../request/navigation.js';
import { mayHoldCookieBack } from '../request/strictNavigation.js';
import { currentOf, currentOrNull } from './current.js';
import { isAdmin } from './requireAdmin.js';
import { MY_SESSIONS_LIMIT } from './sessionsRoutes.js';

const MAX_FORM_BYTES = 4_096;
/** A list, since the name comes from the address: every object has a `__proto__`. */
const NOTICES: readonly Notice[] = ['ended', 'gone', 'others'];

/** The pages for people, and the scripts that pages of this origin may use. */
export function accountRoutes(gateway: Gateway): AnyElysia {
  const { store } = gateway;
  const { origin } = gateway.config.publicUrl;
  const [clientScript, clientTypes, pageScript] = [
    browserFile('client.js'),
    browserFile('client.d.ts'),
    browserFile('page.js'),
  ];

  const backTo = (notice: Notice): Response =>
    empty(303, [['Location', `/account?done=${notice}`]]);

  return new Elysia()
    .get('/', async ({ request }) => {
      const current = await currentOrNull(gateway, request);
      return html(
        gateway,
        current === null && mayHoldCookieBack(gateway, headersOf(request))
          ? onwardPage('/', lookFor(gateway, headersOf(request)))
          : startPage(current, lookFor(gateway, headersOf(request))),
      );
    })
    .get('/account', async ({ request }) => {
      const current = isNavigation(request.method, headersOf(request))
        ? await currentOrNull(gateway, request)
        : await currentOf(gateway, request);
      if (current === null && mayHoldCookieBack(gateway, headersOf(request)))
        return html(gateway, onwardPage('/account', lookFor(gateway, headersOf(request))));
      if (current === null)
        return empty(302, [['Location', loginAddress({ back: '/account', origin })]]);
      const sessions = await store.list({
        subject: current.session.subject,
        limit: MY_SESSIONS_LIMIT,
      });
      const done = new URL(request.url).searchParams.get('done');
      return html(
        gateway,
        accountPage(
          current,
          sessions,
          {
            notice: NOTICES.find((name) => name === done) ?? null,
            isAdmin: isAdmin(gateway, current.session.roles),
          },
          lookFor(gateway, headersOf(request)),
        ),
      );
    })
    .post(
      '/account/end',
      async ({ request }) => {
        const { subject, id: own, sid } = await requireSession(gateway, 'POST', headersOf(request));
        const id = (await readForm(request, MAX_FORM_BYTES))?.get('id');
        if (!id) throw new Problem('request_invalid');
        const ended = await endSessions(gateway, { id, subject }, 'ended_by_user', {
          ipAddress: remoteAddress(request),
          exceptSid: id === shownId(own) ? null : sid,
        });
        return backTo(ended.length > 0 ? 'ended' : 'gone');
      },
      { parse: 'none' },
    )
    .post(
      '/account/end-others',
      async ({ request }) => {
        const { subject, id, sid } = await requireSession(gateway, 'POST', headersOf(request));
        await endSessions(gateway, { subject, exceptId: id }, 'ended_by_user', {
          ipAddress: remoteAddress(request),
          exceptSid: sid,
        });
        return backTo('others');
      },
      { parse: 'none' },
    )
    .get(LOGO_PATH, () => logo(gateway.config))
    .get('/account/page.js', () => text(pageScript, 'text/javascript'))
    .get('/auth/client.js', () => text(clientScript, 'text/javascript'))
    .get('/auth/client.d.ts', () => text(clientTypes, 'text/plain'));
}
