import { type AnyElysia, Elysia } from 'elysia';
import type { Gateway } from '../gateway.js';
import { empty, html } from '../pages/answers.js';
import { loggedOutPage, sessionOverPage } from '../pages/page.js';
import { lookFor } from '../pages/look.js';
import { headersOf } from '../request/form.js';
import { LOGGED_OUT_PATH } from '../settings/postLogoutUrl.js';

/** Where a person ends: after a logout, and when a session is over. Neither page begins a login. */
export function endPages(gateway: Pick<Gateway, 'config' | 'providerLogouts'>): AnyElysia {
  const { config, providerLogouts } = gateway;
  return new Elysia()
    .get(LOGGED_OUT_PATH, ({ request }) => {
      // With LOGOUT_ORDER=browser: it is back from the provider, and the server follows.
      const state = new URL(request.url).searchParams.get('state');
      if (config.logoutOrder === 'browser' && state !== null)
        void providerLogouts.sendNow(state, 0);
      return config.postLogoutUrl === null
        ? html(gateway, loggedOutPage(lookFor(gateway, headersOf(request))))
        : empty(303, [['Location', config.postLogoutUrl]]);
    })
    .get('/auth/ended', ({ request }) =>
      html(gateway, sessionOverPage(lookFor(gateway, headersOf(request)))),
    );
}
