import { PROBLEMS, type ProblemCode } from '../request/errors.js';
import { DEFAULT_LOGIN_PARAMETERS } from '../settings/keycloakSettings.js';

interface Operation {
  readonly summary: string;
  /** Of what an answer in the good case is; the status alone where it has no body. */
  readonly answers: Readonly<Record<number, string>>;
  readonly query?: readonly string[];
  /** Those of them without which it is refused. */
  readonly required?: readonly string[];
  readonly form?: readonly string[];
  readonly fails?: readonly ProblemCode[];
  /** Fields of the answer in the good case, where they are what it is for. */
  readonly headers?: readonly string[];
}

const SESSION: readonly ProblemCode[] = [
  'session_not_found',
  'session_expired',
  'cookie_ambiguous',
  'storage_unavailable',
];
const UNSAFE: readonly ProblemCode[] = [...SESSION, 'csrf_rejected'];
const ADMIN: readonly ProblemCode[] = [
  ...SESSION,
  'bearer_invalid',
  'forbidden',
  'provider_unavailable',
];

/**
 * What each of the gateway's own routes is for; a test holds this equal to the routes that there are. The file is long
 * because the table is.
 */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'GET /': {
    summary: 'The start page',
    answers: { 200: 'text/html' },
    fails: ['cookie_ambiguous', 'storage_unavailable'],
  },
  'GET /account': {
    summary: 'The page where a person sees and ends their sessions',
    answers: { 200: 'text/html', 302: '' },
    fails: SESSION,
  },
  'POST /account/end': {
    summary: 'Its form: end one of my sessions',
    answers: { 303: '' },
    form: ['id'],
    fails: [...UNSAFE, 'request_invalid', 'request_too_large'],
  },
  'POST /account/end-others': {
    summary: 'Its form: end all my other sessions',
    answers: { 303: '' },
    fails: UNSAFE,
  },
  'GET /account/admin': {
    summary:
      "The administrator's page: people by user name, e-mail address or sub, their sessions and recent events",
    answers: { 200: 'text/html', 302: '' },
    query: ['q', 'sub', 'cursor'],
    fails: [...SESSION, 'forbidden', 'request_invalid', 'not_found'],
  },
  'GET /account/admin/end': {
    summary: 'Asks whether to end a session of a person, or all',
    answers: { 200: 'text/html', 302: '', 303: '' },
    query: ['sub', 'id'],
    required: ['sub'],
    fails: [...SESSION, 'forbidden', 'request_invalid', 'not_found'],
  },
  'POST /account/admin/end': {
    summary: 'Its form: end a session of a person, or all where it names none',
    answers: { 303: '' },
    form: ['sub', 'id'],
    fails: [...UNSAFE, 'forbidden', 'request_invalid', 'request_too_large'],
  },
  'GET /account/page.js': {
    summary: "The script of the gateway's own pages",
    answers: { 200: 'text/javascript' },
  },
  'GET /auth/client.js': { summary: 'The browser helper', answers: { 200: 'text/javascript' } },
  'GET /auth/client.d.ts': { summary: 'Its types', answers: { 200: 'text/plain' } },
  'GET /auth/logo': {
    summary: 'The picture of BRAND_LOGO_FILE',
    answers: { 200: 'image/*' },
    fails: ['not_found'],
  },
  'GET /auth/login': {
    summary:
      'Begin a login: redirects to the provider; in a frame a page that opens it in a tab; with SESSION_COOKIE_SAMESITE=strict a navigation from another site gets a page first that asks again; under another host name than that of PUBLIC_URL it leads there first',
    answers: { 200: 'text/html', 302: '', 303: '' },
    query: ['return_to', 'again', ...DEFAULT_LOGIN_PARAMETERS],
    fails: [
      'navigation_required',
      'return_to_rejected',
      'request_invalid',
      'cookie_ambiguous',
      'rate_limited',
      'provider_unavailable',
      'provider_rejected',
    ],
  },
  'GET /auth/callback': {
    summary:
      "The provider's answer to it: a new session, and back to return_to; 303 where no session comes of it, and the person is logged in already, or the login begins anew, or it was not to ask",
    answers: { 200: 'text/html', 302: '', 303: '' },
    query: ['code', 'state', 'iss', 'error', 'kc_action_status'],
    fails: [
      'callback_rejected',
      'cookie_ambiguous',
      'rate_limited',
      'provider_unavailable',
      'provider_rejected',
      'storage_unavailable',
    ],
  },
  'GET /auth/session': {
    summary: 'Who is logged in, and until when',
    answers: { 200: 'Session' },
    query: ['extend'],
    fails: SESSION,
  },
  'POST /auth/refresh': {
    summary: 'Make sure that the access token is fresh',
    answers: { 200: 'Session' },
    query: ['force'],
    fails: [
      ...UNSAFE,
      'reauthentication_required',
      'provider_unavailable',
      'provider_rejected',
      'token_unreadable',
    ],
  },
  'GET /auth/verify': {
    summary:
      'Forward-auth: X-Auth-Subject, X-Auth-Session, X-Auth-Roles and X-Auth-Acr for a reverse proxy',
    answers: { 200: '', 302: '' },
    query: ['extend', 'login'],
    fails: [...UNSAFE, 'bearer_invalid', 'provider_unavailable'],
    headers: ['X-Auth-Subject', 'X-Auth-Session', 'X-Auth-Roles', 'X-Auth-Acr'],
  },
  'POST /auth/logout': {
    summary: 'End the session here and at the provider',
    answers: { 200: 'LogoutUrl or text/html', 303: '' },
    query: ['page'],
    fails: ['csrf_rejected', 'cookie_ambiguous', 'storage_unavailable'],
  },
  'GET /auth/logged-out': {
    summary: 'The page after a logout, or on to POST_LOGOUT_URL',
    answers: { 200: 'text/html', 303: '' },
  },
  'GET /auth/ended': {
    summary: 'The page of a session that is over; it begins no login',
    answers: { 200: 'text/html' },
  },
  'POST /auth/backchannel-logout': {
    summary: 'OpenID Connect Back-Channel Logout 1.0',
    answers: { 200: '' },
    form: ['logout_token'],
    fails: [
      'logout_token_invalid',
      'request_too_large',
      'rate_limited',
      'provider_unavailable',
      'storage_unavailable',
    ],
  },
  'GET /auth/frontchannel-logout': {
    summary: 'OpenID Connect Front-Channel Logout 1.0',
    answers: { 200: '' },
    query: ['iss', 'sid'],
    required: ['iss', 'sid'],
    fails: ['request_invalid', 'storage_unavailable'],
  },
  'GET /auth/sessions': {
    summary: 'My live sessions',
    answers: { 200: 'Sessions' },
    fails: SESSION,
  },
  'DELETE /auth/sessions': {
    summary: 'End all my other sessions',
    answers: { 204: '' },
    fails: UNSAFE,
  },
  'DELETE /auth/sessions/:id': {
    summary: 'End one of my sessions',
    answers: { 204: '' },
    fails: [...UNSAFE, 'not_found'],
  },
  'GET /admin/sessions': {
    summary:
      'Live sessions of everyone, or of one subject, newest first; cursor is the next_cursor of the page before',
    answers: { 200: 'SessionsPage' },
    query: ['sub', 'limit', 'cursor'],
    fails: [...ADMIN, 'request_invalid'],
  },
  'DELETE /admin/sessions': {
    summary: 'End all sessions of a subject',
    answers: { 204: '' },
    query: ['sub'],
    required: ['sub'],
    fails: [...ADMIN, 'csrf_rejected', 'request_invalid'],
  },
  'DELETE /admin/sessions/:id': {
    summary: 'End a session',
    answers: { 204: '' },
    fails: [...ADMIN, 'csrf_rejected', 'not_found'],
  },
  'GET /health/live': { summary: 'Liveness', answers: { 200: 'Liveness' } },
  'GET /health/ready': {
    summary: 'Readiness; the management port says why not',
    answers: { 200: 'Readiness', 503: 'Readiness' },
  },
};

const text = { type: 'string' };
const nullable = { type: ['string', 'null'] };
const time = { type: 'string', format: 'date-time' };
const object = (properties: Record<string, unknown>): object => ({
  type: 'object',
  required: Object.keys(properties),
  properties,
});
const list = (items: unknown): unknown => ({ type: 'array', items });
const listed = {
  id: text,
  created_at: time,
  last_accessed_at: time,
  expires_at: time,
  ip_address: nullable,
  user_agent: nullable,
};
const SCHEMAS: Readonly<Record<string, object>> = {
  Session: object({
    session: object({
      id: text,
      created_at: time,
      expires_at: time,
      idle_expires_at: time,
      extendable: { type: 'boolean' },
      token_expires_at: { type: ['string', 'null'], format: 'date-time' },
      last_accessed_at: time,
      acr: nullable,
    }),
    user: object({
      sub: text,
      preferred_username: nullable,
      email: nullable,
      name: nullable,
      roles: list(text),
    }),
  }),
  Sessions: object({ sessions: list(object({ ...listed, current: { type: 'boolean' } })) }),
  SessionsPage: object({ sessions: list(object({ ...listed, sub: text })), next_cursor: nullable }),
  LogoutUrl: object({ logout_url: text }),
  Liveness: object({ status: text }),
  Readiness: object({
    status: { type: 'string', enum: ['ready', 'not ready', 'stopping'] },
    dependencies: {
      type: 'object',
      additionalProperties: object({ status: { type: 'string', enum: ['ok', 'down'] } }),
    },
  }),
  Problem: object({
    type: text,
    title: text,
    status: { type: 'integer' },
    code: { type: 'string', enum: Object.keys(PROBLEMS) },
  }),
};

const LISTED_EXAMPLE = {
  id: 'Qm9yZWQgYnkgZXhhbXBsZXM',
  created_at: '2026-03-02T08:15:30.000Z',
  last_accessed_at: '2026-03-02T09:40:02.000Z',
  expires_at: '2026-03-02T10:10:02.000Z',
  ip_address: '203.0.113.7',
  user_agent: 'Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0',
};
/** One value of each schema; a test holds them to it. */
const EXAMPLES: Readonly<Record<string, unknown>> = {
  Session: {
    session: {
      id: LISTED_EXAMPLE.id,
      created_at: LISTED_EXAMPLE.created_at,
      expires_at: '2026-03-02T18:15:30.000Z',
      idle_expires_at: LISTED_EXAMPLE.expires_at,
      extendable: true,
      token_expires_at: '2026-03-02T09:43:12.000Z',
      last_accessed_at: LISTED_EXAMPLE.last_accessed_at,
      acr: '1',
    },
    user: {
      sub: 'f3a1c0de-0000-4000-8000-000000000001',
      preferred_username: 'alice',
      email: 'alice@example.com',
      name: 'Alice Example',
      roles: ['realm:user', 'shop:editor'],
    },
  },
  Sessions: { sessions: [{ ...LISTED_EXAMPLE, current: true }] },
  SessionsPage: {
    sessions: [{ ...LISTED_EXAMPLE, sub: 'f3a1c0de-0000-4000-8000-000000000001' }],
    next_cursor: null,
  },
  LogoutUrl: {
    logout_url:
      'https://id.example.com/realms/main/protocol/openid-connect/logout?client_id=gateway',
  },
  Liveness: { status: 'ok' },
  Readiness: {
    status: 'not ready',
    dependencies: { database: { status: 'down' }, provider: { status: 'ok' } },
  },
  Problem: {
    type: 'about:blank',
    title: PROBLEMS.session_expired.title,
    status: PROBLEMS.session_expired.status,
    code: 'session_expired',
  },
};

/** Of parameters that are more than a text. */
const PARAMETERS: Readonly<Record<string, unknown>> = {
  limit: { type: 'integer', minimum: 1, maximum: 200, default: 50 },
  max_age: { type: 'integer', minimum: 0 },
  extend: { type: 'boolean', default: true },
  login: { type: 'string', enum: ['redirect'] },
  force: { type: 'boolean', default: false },
  page: { type: 'boolean', default: false },
};

/** The API's description (OpenAPI 3.1) for the routes that there are: `GET /x` and so on. */
export function describeApi(
  routes: readonly string[],
  options: { serverUrl: string; cookieName: string },
): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ');
    const operation = OPERATIONS[route];
    if (operation)
      (paths[path.replace(/:(\w+)/g, '{$1}')] ??= {})[method.toLowerCase()] = operationOf(
        method,
        path,
        operation,
      );
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Session gateway',
      version: '1',
      description:
        'Every failure is a problem (RFC 9457) with a stable `code`; a navigation gets a page that says the same.',
    },
    servers: [{ url: options.serverUrl }],
    paths,
    components: {
      schemas: Object.fromEntries(
        Object.entries(SCHEMAS).map(([name, schema]) => [
          name,
          { ...schema, examples: [EXAMPLES[name]] },
        ]),
      ),
      securitySchemes: {
        session: { type: 'apiKey', in: 'cookie', name: options.cookieName },
        bearer: { type: 'http', scheme: 'bearer' },
      },
    },
  };
}

function credentialsOf(fails: readonly ProblemCode[]): { security?: object[] } {
  if (fails.includes('bearer_invalid')) return { security: [{ session: [] }, { bearer: [] }] };
  return fails.includes('session_not_found') ? { security: [{ session: [] }] } : {};
}

function operationOf(
  method: string,
  path: string,
  { summary, answers, query = [], required = [], form, fails = [], headers = [] }: Operation,
): unknown {
  const parameter = (name: string, place: 'path' | 'query') => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: PARAMETERS[name] ?? text,
  });
  const problem = { content: { ...PROBLEM, ...(method === 'GET' ? { 'text/html': {} } : {}) } };
  const codesByStatus: Record<number, ProblemCode[]> = {};
  for (const code of fails) (codesByStatus[PROBLEMS[code].status] ??= []).push(code);
  return {
    summary,
    parameters: [
      ...[...path.matchAll(/:(\w+)/g)].map(([, name = '']) => parameter(name, 'path')),
      ...query.map((name) => parameter(name, 'query')),
    ],
    ...(form
      ? {
          requestBody: {
            required: true,
            content: {
              'application/x-www-form-urlencoded': {
                schema: object(Object.fromEntries(form.map((name) => [name, text]))),
              },
            },
          },
        }
      : {}),
    ...credentialsOf(fails),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, what]) => [
          status,
          {
            description: what === '' ? 'done' : what,
            ...fields(status.startsWith('30') ? ['Location', ...headers] : headers),
            ...contentOf(what),
          },
        ]),
      ),
      ...Object.fromEntries(
        Object.entries(codesByStatus).map(([status, codes]) => [
          status,
          {
            description: codes.join(', '),
            ...fields(['429', '503'].includes(status) ? ['Retry-After'] : []),
            ...problem,
          },
        ]),
      ),
      // Limits of size and time, ambiguous paths, faults: what any request can meet.
      default: { description: 'any other failure', ...problem },
    },
  };
}

const PROBLEM = {
  'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } },
};

function fields(names: readonly string[]): object {
  return names.length === 0
    ? {}
    : { headers: Object.fromEntries(names.map((name) => [name, { schema: text }])) };
}

function contentOf(what: string): object {
  if (what === '') return {};
  return {
    content: Object.fromEntries(
      what
        .split(' or ')
        .map((each) =>
          Object.hasOwn(SCHEMAS, each)
            ? ['application/json', { schema: { $ref: `#/components/schemas/${each}` } }]
            : [each, {}],
        ),
    ),
  };
}
