import { parseUrl } from '@session-gateway/database';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

const RouteSchema = Type.Object({
  path: Type.String({ pattern: '^/', description: 'a path that begins with /' }),
  upstream: Type.String({ pattern: '^https?://', description: 'an http or https URL' }),
  stripPrefix: Type.Optional(Type.Boolean()),
  auth: Type.Optional(Type.Union([Type.Literal('session'), Type.Literal('bearer'), Type.Literal('any'), Type.Literal('none')])),
  protect: Type.Optional(Type.String({ minLength: 1 })),
  enforce: Type.Optional(Type.Array(Type.String({ pattern: '^[^:#,]+(:[^:#,]+)?$', description: '"RESOURCE" or "RESOURCE:SCOPE"' }), { minItems: 1, description: 'a list with at least one permission' })),
  token: Type.Optional(Type.Union([
    Type.Literal('access'), Type.Literal('none'), Type.Object({ audience: Type.String({ minLength: 1, maxLength: 255 }) }, { additionalProperties: false }),
  ], { description: '"access", "none" or { "audience": "…" }' })),
  websocket: Type.Optional(Type.Boolean()),
  timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_600_000 })),
  cache: Type.Optional(Type.Boolean()),
}, { additionalProperties: false });

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
}

const DEFAULT_TIMEOUT_MS = 60_000;
/** Paths that are the gateway's own and cannot be routed away. */
const OWN_PATHS = ['/auth', '/admin/sessions', '/account', '/health'];

/** The routing table of a JSON text, and what is wrong with it; values are never repeated, since addresses may hold secrets. */
export function parseRoutes(json: string | undefined): { routes: GatewayRoute[]; problems: string[] } {
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
    const faults = [...Value.Errors(RouteSchema, entry)].map(({ path, schema, message }) => `${where}${path && `, ${path.slice(1)}`}: ${expectation(schema, message)}`);
    if (faults.length > 0) {
      problems.push(...new Set(faults));
      return [];
    }
    const route = entry as Static<typeof RouteSchema>;
    const fault = semanticFault(route);
    if (fault !== null) problems.push(`${where}: ${fault}`);
    return fault === null ? [{
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
    } satisfies GatewayRoute] : [];
  });
  return { routes, problems };
}

/** The first route whose path is the request's path or a whole-segment prefix of it; case-sensitive. */
export function matchRoute(routes: readonly GatewayRoute[], path: string): GatewayRoute | null {
  return routes.find((route) => route.path === '/' || path === route.path || path.startsWith(`${route.path}/`)) ?? null;
}

function semanticFault({ path, upstream, auth, protect, enforce, token }: Static<typeof RouteSchema>): string | null {
  if (!/^\/[A-Za-z0-9/_.~!$&'()*+,=:@-]*$/.test(path) || path.includes('//') || path.split('/').some((segment) => segment === '.' || segment === '..')) {
    return 'path must be a plain path without encoded characters, empty or dot segments';
  }
  if (OWN_PATHS.some((own) => path === own || path.startsWith(`${own}/`))) return `path is the gateway's own (${OWN_PATHS.join(', ')})`;
  const url = parseUrl(upstream);
  if (!url) return 'upstream is not a URL, without white space or control characters';
  if (url.username || url.password || url.search || url.hash) return 'upstream must have no user, query or fragment';
  if (protect !== undefined && auth === 'none') return 'protect needs a session or a bearer token, but auth is "none"';
  if (enforce !== undefined && auth === 'none') return 'enforce needs a session or a bearer token, but auth is "none"';
  if (typeof token === 'object' && auth === 'none') return 'a token for an audience needs a session or a bearer token, but auth is "none"';
  // keycloak-connect looks at the first two parts only: with a third, another role than the one written would be asked for.
  if (protect !== undefined && !/^[^:]+(:[^:]+)?$/.test(protect)) return 'protect must be "realm:ROLE", "CLIENT:ROLE" or "ROLE"';
  return null;
}

function expectation(schema: { description?: string; anyOf?: { const?: unknown }[]; [key: string]: unknown }, message: string): string {
  if (schema.description) return `must be ${schema.description}`;
  if (schema.anyOf) return `must be one of ${schema.anyOf.map((choice) => JSON.stringify(choice.const)).join(', ')}`;
  return message.charAt(0).toLowerCase() + message.slice(1);
}
