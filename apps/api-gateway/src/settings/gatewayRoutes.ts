import { parseUrl } from '@session-gateway/database';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { endsHere, fieldKey } from '../request/fieldNames.js';
import { isShortNameOf, loosened, type RequestPath } from '../request/requestPath.js';

/** A token (RFC 9110 §5.6.2). */
const FIELD_NAME = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/** As in `acr_values`; nothing that a quoted string of a header field would end at. */
const ACR_VALUES = '^[!#-\\[\\]-~]+( [!#-\\[\\]-~]+)*$';
const FieldNames = Type.Array(Type.String({ pattern: FIELD_NAME, description: 'a header name' }));

const RouteSchema = Type.Object(
  {
    path: Type.String({ pattern: '^/', description: 'a path that begins with /' }),
    upstream: Type.String({ pattern: '^https?://', description: 'an http or https URL' }),
    stripPrefix: Type.Optional(Type.Boolean()),
    auth: Type.Optional(
      Type.Union([
        Type.Literal('session'),
        Type.Literal('bearer'),
        Type.Literal('any'),
        Type.Literal('none'),
      ]),
    ),
    protect: Type.Optional(Type.String({ minLength: 1 })),
    enforce: Type.Optional(
      Type.Array(
        Type.String({
          pattern: '^[^:#,]+(:[^:#,]+)?$',
          description: '"RESOURCE" or "RESOURCE:SCOPE"',
        }),
        { minItems: 1, description: 'a list with at least one permission' },
      ),
    ),
    token: Type.Optional(
      Type.Union(
        [
          Type.Literal('access'),
          Type.Literal('none'),
          Type.Object(
            { audience: Type.String({ minLength: 1, maxLength: 255 }) },
            { additionalProperties: false },
          ),
        ],
        { description: '"access", "none" or { "audience": "…" }' },
      ),
    ),
    websocket: Type.Optional(Type.Boolean()),
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_600_000 })),
    cache: Type.Optional(Type.Boolean()),
    cors: Type.Optional(
      Type.Array(Type.String({ pattern: '^https?://[^/]+$', description: 'an origin' }), {
        description: 'a list of origins',
      }),
    ),
    preserveHost: Type.Optional(Type.Boolean()),
    acr: Type.Optional(
      Type.String({
        pattern: ACR_VALUES,
        maxLength: 255,
        description: 'one or several values of acr, with one blank between them',
      }),
    ),
    dropHeaders: Type.Optional(FieldNames),
    passHeaders: Type.Optional(FieldNames),
  },
  { additionalProperties: false },
);

/** One line of the routing table: what is forwarded where, and who may. */
export interface GatewayRoute {
  readonly path: string;
  readonly upstream: URL;
  readonly stripPrefix: boolean;
  readonly auth: 'session' | 'bearer' | 'any' | 'none';
  readonly protect: string | undefined;
  /** Permissions, all of which Keycloak's authorization services must grant. */
  readonly enforce: readonly string[];
  /** The caller's access token, none, or one that was exchanged for another audience. */
  readonly token: 'access' | 'none' | { readonly audience: string };
  readonly websocket: boolean;
  readonly timeoutMs: number;
  /** Whether the upstream says what a browser may keep of its answers behind a login; nothing, otherwise. */
  readonly cache: boolean;
  /** Origins whose pages may call with bearer tokens. */
  readonly cors: readonly string[];
  /** Whether the upstream gets PUBLIC_URL's host in `Host`, in place of its own. */
  readonly preserveHost: boolean;
  /** One of these (a list with blanks) must be how the caller was authenticated; undefined: in whatever way. */
  readonly acr: string | undefined;
  /** Keys (`fieldKey`) of request fields that do not go up, beside those that never do. */
  readonly dropHeaders: ReadonlySet<string>;
  /** Keys of request fields that go up although applications take such names for an identity. */
  readonly passHeaders: ReadonlySet<string>;
}

const DEFAULT_TIMEOUT_MS = 60_000;
/** Paths that are the gateway's own and cannot be routed away. */
const OWN_PATHS = ['/auth', '/admin/sessions', '/account', '/health'];

/**
 * The routing table of a JSON text, and what is wrong with it; values are never repeated, since
 * addresses may hold secrets.
 */
export function parseRoutes(json: string | undefined): {
  routes: GatewayRoute[];
  problems: string[];
} {
  if (json === undefined) return { routes: [], problems: [] };
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return { routes: [], problems: ['not valid JSON'] };
  }
  if (!Array.isArray(parsed)) return { routes: [], problems: ['must be a JSON list of routes'] };
  const problems: string[] = [];
  const routes = parsed.flatMap((entry: unknown, index) => {
    const where = `route ${index + 1}`;
    const faults = [...Value.Errors(RouteSchema, entry)].map(
      ({ path, schema, message }) =>
        `${where}${path && `, ${path.slice(1)}`}: ${expectation(schema, message)}`,
    );
    if (faults.length > 0) {
      problems.push(...new Set(faults));
      return [];
    }
    const route = entry as Static<typeof RouteSchema>;
    const fault = semanticFault(route);
    if (fault !== null) problems.push(`${where}: ${fault}`);
    return fault === null
      ? [
          {
            path: route.path.length > 1 ? route.path.replace(/\/+$/, '') : route.path,
            upstream: new URL(route.upstream),
            stripPrefix: route.stripPrefix ?? false,
            auth: route.auth ?? 'any',
            protect: route.protect,
            enforce: route.enforce ?? [],
            token: route.token ?? 'access',
            websocket: route.websocket ?? false,
            timeoutMs: route.timeoutMs ?? DEFAULT_TIMEOUT_MS,
            cache: route.cache ?? false,
            cors: route.cors ?? [],
            preserveHost: route.preserveHost ?? false,
            acr: route.acr,
            dropHeaders: new Set(route.dropHeaders?.map(fieldKey)),
            passHeaders: new Set(route.passHeaders?.map(fieldKey)),
          } satisfies GatewayRoute,
        ]
      : [];
  });
  return { routes, problems };
}

/** The first route whose path is the request's path or a whole-segment prefix of it; case-sensitive. */
export function matchRoute(routes: readonly GatewayRoute[], path: string): GatewayRoute | null {
  return routes.find((route) => covers(route.path, path)) ?? null;
}

/** Whether a path is the gateway's own. */
export const isOwnPath = (path: string): boolean => OWN_PATHS.some((own) => isWithin(own, path));

/** Whether a path is another one, or lies below it; '' is above all. */
export const isWithin = (prefix: string, path: string): boolean =>
  path === prefix || path.startsWith(`${prefix}/`);

/** What a login that leads to a path has to ask for (`acr_values`); undefined: nothing. */
export function acrOfPath(routes: readonly GatewayRoute[], path: string): string | undefined {
  return isOwnPath(path) ? undefined : matchRoute(routes, path)?.acr;
}

const covers = (prefix: string, path: string): boolean => prefix === '/' || isWithin(prefix, path);

/**
 * Whether a server that reads a path leniently (`loosened`), or without regard to case, would come to a place under
 * another rule than the one that was found. A difference of case counts only where both rules lead to one server and
 * let different people in. What the rule's own path says literally is no such difference.
 * @param route what `matchRoute` found for the path as it came
 */
export function isUnderAnotherRule(
  routes: readonly GatewayRoute[],
  route: GatewayRoute,
  { raw, decoded }: RequestPath,
): boolean {
  const literal = raw.startsWith(route.path) && route.path !== '/' ? route.path : '';
  const loose = literal + loosened(decoded.slice(literal.length));
  if (loose !== decoded) {
    const full = loosened(decoded);
    const found = [
      matchRoute(routes, loose),
      routes.find(({ path }) => covers(loosened(path), full)) ?? null,
    ];
    if (found.some((other) => other !== null && other !== route)) return true;
  }
  const folded = withoutCase(loose);
  if (folded === loose && !folded.includes('~')) return false;
  const other = routes.find(({ path }) => coversFolded(withoutCase(path), folded)) ?? route;
  return other !== route && leadToOneServer(other, route) && !letInTheSame(other, route);
}

/** Servers compare in upper or in lower case: the dotless `ı` is an `i` to those that do it in upper case. */
const withoutCase = (text: string): string => text.toUpperCase().toLowerCase();

function coversFolded(path: string, folded: string): boolean {
  if (path === '/') return true;
  const asked = folded.split('/');
  return path
    .split('/')
    .every((name, i) => asked[i] === name || isShortNameOf(asked[i] ?? '', name));
}

const leadToOneServer = (a: GatewayRoute, b: GatewayRoute): boolean =>
  a.upstream.origin === b.upstream.origin;

const letInTheSame = (a: GatewayRoute, b: GatewayRoute): boolean =>
  a.auth === b.auth &&
  a.protect === b.protect &&
  a.acr === b.acr &&
  a.enforce.join() === b.enforce.join();

function semanticFault({
  path,
  upstream,
  auth,
  protect,
  enforce,
  token,
  acr,
  cors = [],
  passHeaders = [],
}: Static<typeof RouteSchema>): string | null {
  if (
    !/^\/[A-Za-z0-9/_.~!$&'()*+,=:@-]*$/.test(path) ||
    path.includes('//') ||
    path.split('/').some((segment) => segment === '.' || segment === '..')
  ) {
    return 'path must be a plain path without encoded characters, empty or dot segments';
  }
  if (OWN_PATHS.some((own) => path === own || path.startsWith(`${own}/`)))
    return `path is the gateway's own (${OWN_PATHS.join(', ')})`;
  const url = parseUrl(upstream);
  if (!url) return 'upstream is not a URL, without white space or control characters';
  if (url.username || url.password || url.search || url.hash)
    return 'upstream must have no user, query or fragment';
  if (protect !== undefined && auth === 'none')
    return 'protect needs a session or a bearer token, but auth is "none"';
  if (enforce !== undefined && auth === 'none')
    return 'enforce needs a session or a bearer token, but auth is "none"';
  if (acr !== undefined && auth === 'none')
    return 'acr needs a session or a bearer token, but auth is "none"';
  if (cors.length > 0 && auth === 'session')
    return 'cors is for bearer tokens, but auth is "session"';
  if (cors.some((origin) => parseUrl(origin)?.origin !== origin))
    return 'cors must be a list of origins, as browsers write them: https://app.example, without a path';
  if (typeof token === 'object' && auth === 'none')
    return 'a token for an audience needs a session or a bearer token, but auth is "none"';
  // keycloak-connect looks at the first two parts only: with a third, another role than the one
  // written would be asked for.
  if (protect !== undefined && !/^[^:]+(:[^:]+)?$/.test(protect))
    return 'protect must be "realm:ROLE", "CLIENT:ROLE" or "ROLE"';
  if (passHeaders.some((name) => endsHere(fieldKey(name))))
    return 'passHeaders has a field that only the gateway may send (X-Auth-*, X-Forwarded-*, X-Original-*, Proxy and others), or one of the connection';
  return null;
}

function expectation(
  schema: { description?: string; anyOf?: { const?: unknown }[]; [key: string]: unknown },
  message: string,
): string {
  if (schema.description) return `must be ${schema.description}`;
  if (schema.anyOf)
    return `must be one of ${schema.anyOf.map((choice) => JSON.stringify(choice.const)).join(', ')}`;
  return message.charAt(0).toLowerCase() + message.slice(1);
}
