import { isAuthError } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { WebStandardAdapter } from 'elysia/adapter/web-standard';
import { headersOf, html } from './answers.js';
import { requireSession } from './authenticate.js';
import { Problem, problemOf } from './errors.js';
import type { Gateway } from './gateway.js';
import { startPage } from './page.js';
import { healthRoutes } from './routes/health.js';
import { loginRoutes } from './routes/login.js';
import { logoutRoutes } from './routes/logout.js';
import { sessionRoutes } from './routes/session.js';
import { sessionsRoutes } from './routes/sessions.js';

/** The gateway's own routes. Everything that is thrown is answered as a problem. */
export function createApp(gateway: Gateway): AnyElysia {
  const issuerOrigin = new URL(gateway.client.issuer).origin;
  return new Elysia({ adapter: WebStandardAdapter })
    .onError(({ error, code }) => {
      const problem = code === 'NOT_FOUND' ? new Problem('not_found') : problemOf(error);
      reportProblem(gateway, problem);
      const headers = new Headers(problem.headers());
      if (problem.clearsCookie) headers.append('Set-Cookie', gateway.cookies.clearSession());
      return new Response(problem.body(), { status: problem.status, headers });
    })
    .get('/', async ({ request }) => {
      const session = await requireSession(gateway, 'GET', headersOf(request)).catch((error: unknown) => {
        if (error instanceof Problem && error.clearsCookie) return null;
        throw error;
      });
      // Browsers hold the redirect that answers a form to form-action too.
      return html(startPage(session && { session, profile: await gateway.store.profile(session) }), { formAction: issuerOrigin });
    })
    .use(loginRoutes(gateway))
    .use(sessionRoutes(gateway))
    .use(sessionsRoutes(gateway))
    .use(logoutRoutes(gateway))
    .use(healthRoutes(gateway));
}

/** Counts a problem, and tells the operator about those that are for operators. */
export function reportProblem({ metrics, log }: Pick<Gateway, 'metrics' | 'log'>, problem: Problem): void {
  metrics.problems.inc({ code: problem.code });
  if (problem.status < 500) return;
  const cause = problem.cause instanceof Error ? problem.cause : undefined;
  const reason = isAuthError(cause) ? cause.reason : undefined;
  log[problem.status === 500 || problem.code === 'provider_rejected' ? 'error' : 'warn'](
    { event: 'problem', code: problem.code, reason, error: cause && describe(cause) }, PROBLEM_LOG);
}

const PROBLEM_LOG = 'a request failed';
/** Class, code and message, without the properties that libraries hang on errors: those may hold tokens. */
const describe = (error: Error): string => {
  const { code } = error as { code?: unknown };
  const inner = error.cause instanceof Error ? ` < ${error.cause.name}: ${error.cause.message}` : '';
  return `${error.name}${typeof code === 'string' ? ` ${code}` : ''}: ${error.message}${inner}`;
};
