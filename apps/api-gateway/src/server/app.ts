import { isAuthError } from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import { WebStandardAdapter } from 'elysia/adapter/web-standard';
import { Problem, problemOf } from '../request/errors.js';
import type { Gateway } from '../gateway.js';
import { adminPages } from '../sessions/adminPages.js';
import { accountRoutes } from '../sessions/accountRoutes.js';
import { healthRoutes } from './health.js';
import { endPages } from '../login/endPages.js';
import { loginRoutes } from '../login/loginRoutes.js';
import { representation } from '../pages/problemPage.js';
import { headersOf } from '../request/form.js';
import { loginOf, vouches } from '../login/vouching.js';
import { logoutRoutes } from '../login/logoutRoutes.js';
import { openApiRoutes } from './openApiRoutes.js';
import { sessionRoutes } from '../sessions/sessionRoutes.js';
import { sessionsRoutes } from '../sessions/sessionsRoutes.js';
import { reportRefusal } from '../observability/refusals.js';
import { VERIFY_PATH } from '../sessions/verify.js';

/**
 * Everything that is thrown is answered as a problem. By default Elysia looks for the path behind a URL's eleventh
 * character, and finds another one behind a short host.
 */
export function emptyApp(gateway: Gateway) {
  const app = new Elysia({ adapter: WebStandardAdapter, handler: { standardHostname: false } });
  return app.onError(({ error, code, request }) =>
    answerProblem(
      gateway,
      request,
      code === 'NOT_FOUND' ? withoutRoute(app, request) : problemOf(error),
    ),
  );
}

/** What is wrong with a request that no route takes: its method, where its path has others, or all of it. */
function withoutRoute(app: AnyElysia, { url }: Request): Problem {
  const asked = new URL(url).pathname.split('/');
  const allow = app.routes
    .filter(({ path }) => {
      const segments = path.split('/');
      return (
        segments.length === asked.length &&
        segments.every((segment, i) => segment.startsWith(':') || segment === asked[i])
      );
    })
    .flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
  return allow.length === 0
    ? new Problem('not_found')
    : new Problem('method_not_allowed', { allow });
}

/** The gateway's own routes. */
export function createApp(gateway: Gateway): AnyElysia {
  const app = emptyApp(gateway)
    .use(accountRoutes(gateway))
    .use(adminPages(gateway))
    .use(loginRoutes(gateway))
    .use(sessionRoutes(gateway))
    .use(sessionsRoutes(gateway))
    .use(logoutRoutes(gateway))
    .use(endPages(gateway))
    .use(healthRoutes(gateway, { withReasons: false }));
  return gateway.config.production ? app : app.use(openApiRoutes(gateway, routesOf(app)));
}

/** `GET /x` for each route, and for the one that the server answers by itself. */
export const routesOf = (app: AnyElysia): string[] => [
  ...app.routes.map(({ method, path }) => `${method} ${path}`),
  `GET ${VERIFY_PATH}`,
];

/** What createApp's routes answer, within the limits of what one address may ask. */
export function createFetch(gateway: Gateway): (request: Request) => Promise<Response> {
  const app = createApp(gateway);
  return (request) =>
    gateway.limits
      .guard(
        request,
        async () => app.fetch(request),
        (route) => vouches(gateway, request, route),
      )
      .catch((error: unknown) => answerProblem(gateway, request, problemOf(error)));
}

function answerProblem(gateway: Gateway, request: Request, problem: Problem): Response {
  reportProblem(gateway, problem);
  const header = headersOf(request);
  const { pathname, search } = new URL(request.url);
  const { headers: fields, body } = representation(gateway, problem, {
    method: request.method,
    header,
    address: pathname + search,
    requestId: header('x-request-id'),
    uiLocales:
      pathname === '/auth/callback'
        ? (loginOf(gateway, request)?.login.parameters?.['ui_locales'] ?? null)
        : null,
  });
  const headers = new Headers(fields);
  if (problem.clearsCookie && gateway.cookies.carriesSession(request.headers.get('cookie')))
    headers.append('Set-Cookie', gateway.cookies.clearSession());
  return new Response(body, { status: problem.status, headers });
}

/** Counts a problem, and tells the operator about those that are for operators. */
export function reportProblem(
  { metrics, log }: Pick<Gateway, 'metrics' | 'log'>,
  problem: Problem,
): void {
  metrics.problems.inc({ code: problem.code });
  reportRefusal({ metrics, log }, problem);
  if (problem.status < 500) return;
  const cause = problem.cause instanceof Error ? problem.cause : undefined;
  const reason = isAuthError(cause) ? cause.reason : undefined;
  log[problem.status === 500 || problem.code === 'provider_rejected' ? 'error' : 'warn'](
    { event: 'problem', code: problem.code, reason, error: cause && describe(cause) },
    PROBLEM_LOG,
  );
}

const PROBLEM_LOG = 'a request failed';
/** Class, code and message, without the properties that libraries hang on errors: those may hold tokens. */
const describe = (error: Error): string => {
  const { code } = error as { code?: unknown };
  const inner =
    error.cause instanceof Error ? ` < ${error.cause.name}: ${error.cause.message}` : '';
  return `${error.name}${typeof code === 'string' ? ` ${code}` : ''}: ${error.message}${inner}`;
};
