import { GuardError } from './errors.js';
import type { Identity } from './identity.js';
import type { PushedClaims } from './permissions.js';

/** What a route asks for beyond a good token: everything that is named. */
export interface Requirement<Request = unknown> {
  /** Role expressions, `realm:NAME`, `CLIENT:NAME` or `NAME` of the own client: all of them. */
  roles?: string | readonly string[];
  /** RFC 6749 §3.3: all of them. */
  scopes?: string | readonly string[];
  /** `RESOURCE` or `RESOURCE:SCOPE` by Keycloak's authorization services: all of them. */
  permissions?: string | readonly string[];
  /** Claims for Keycloak's policies; needs `clientSecret`. */
  claims?: (request: Request) => PushedClaims;
  /** Authentication context classes, any of which will do (RFC 9470 §3). */
  acr?: string | readonly string[];
  /** The login must not be longer ago (RFC 9470 §3). */
  maxAgeSeconds?: number;
  /** A decision of your own. */
  allow?: Allow<Request>;
  /** A request without credentials passes, with nobody. One with wrong credentials does not. Default: false. */
  optional?: boolean;
}

export type Allow<Request> = (identity: Identity, request: Request) => boolean | Promise<boolean>;

/** What `protect` takes: nothing, a role expression, a decision of your own, or a requirement. */
export type Spec<Request = unknown> = string | Allow<Request> | Requirement<Request>;

/** @throws TypeError when a spec is none, so that a slip of the pen does not open a route */
export function requirementOf<Request>(spec: Spec<Request> | undefined): Requirement<Request> {
  if (spec === undefined) return {};
  if (typeof spec === 'function') return { allow: spec };
  const requirement = typeof spec === 'string' ? { roles: spec } : spec;
  for (const name of ['roles', 'scopes', 'permissions', 'acr'] as const) {
    const list = listOf(requirement[name]);
    if (requirement[name] !== undefined && (list.length === 0 || !list.every(isName)))
      throw new TypeError(`${name} must be a text that is not empty, or a list of such`);
  }
  return requirement;
}

const isName = (value: unknown): boolean => typeof value === 'string' && value !== '';

export const listOf = (value: string | readonly string[] | undefined): readonly string[] =>
  value === undefined ? [] : [value].flat();

/** What a token itself can tell. @throws GuardError `role_missing`, `scope_missing`, `authentication_insufficient` */
export function checkClaims<Request>(
  identity: Identity,
  requirement: Requirement<Request>,
  now: number,
): void {
  checkLogin(identity, requirement, now);
  const scopes = listOf(requirement.scopes);
  if (!scopes.every((scope) => identity.scopes.includes(scope)))
    throw new GuardError('scope_missing', 'the access token lacks a scope', {
      challenge: { scope: scopes.join(' ') },
    });
  if (!listOf(requirement.roles).every((role) => identity.hasRole(role)))
    throw new GuardError('role_missing', 'a role is missing');
}

function checkLogin<Request>(
  identity: Identity,
  { acr, maxAgeSeconds }: Requirement<Request>,
  now: number,
): void {
  const classes = listOf(acr);
  const { authenticatedAt } = identity;
  const strong = classes.length === 0 || (identity.acr !== null && classes.includes(identity.acr));
  const recent =
    maxAgeSeconds === undefined ||
    (authenticatedAt !== null && now - authenticatedAt.getTime() <= maxAgeSeconds * 1000);
  if (strong && recent) return;
  throw new GuardError('authentication_insufficient', 'a stronger or newer login is needed', {
    challenge: {
      ...(classes.length > 0 ? { acr_values: classes.join(' ') } : {}),
      ...(maxAgeSeconds === undefined ? {} : { max_age: maxAgeSeconds }),
    },
  });
}
