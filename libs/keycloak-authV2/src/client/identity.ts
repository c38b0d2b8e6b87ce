import type { JWTPayload } from 'jose';

/** Who a token set is about, as far as the provider told. */
export interface Identity {
  readonly subject: string;
  readonly sid: string | null;
  readonly preferredUsername: string | null;
  readonly email: string | null;
  readonly name: string | null;
  /** The ID Token's `acr`; null when it tells none: after a refresh what was known stays. */
  readonly acr: string | null;
  /** `realm:NAME` and `CLIENT:NAME`, sorted; null when a refresh could not tell: what was known stays. */
  readonly roles: readonly string[] | null;
}

/**
 * Roles as they are written everywhere here, from whichever claims hold them: access token first,
 * then userinfo, then ID Token.
 */
export function rolesOf(...sources: Record<string, unknown>[]): string[] {
  for (const claims of sources) {
    const realm = roleNames(claims['realm_access']).map((role) => `realm:${role}`);
    // A client called `realm` would pass its roles off as the realm's.
    const clients = Object.entries(record(claims['resource_access']))
      .filter(([client]) => !/^realm(:|$)/.test(client))
      .flatMap(([client, access]) => roleNames(access).map((role) => `${client}:${role}`));
    if (realm.length + clients.length > 0)
      return [...new Set([...realm, ...clients])].filter((role) => storable(role) === role).sort();
  }
  return [];
}

/** Who a token set is about, from whichever claims tell. Null for `userinfo`: it was asked for and could not be had. */
export function identityOf(
  subject: string,
  access: JWTPayload,
  userinfo: Record<string, unknown> | null,
  id: JWTPayload,
): Identity {
  const roles = rolesOf(access, userinfo ?? {}, id);
  const first = (claim: string): string | null => {
    for (const claims of [id, userinfo ?? {}, access])
      if (typeof claims[claim] === 'string') return storable(claims[claim]);
    return null;
  };
  return {
    subject,
    sid: first('sid'),
    preferredUsername: first('preferred_username'),
    email: first('email'),
    name: first('name'),
    acr: acrOf(id),
    roles: userinfo === null && roles.length === 0 ? null : roles,
  };
}

const MAX_ACR_LENGTH = 255;

/**
 * The authentication context class that a token tells (OpenID Connect Core §2); null for none, or one
 * that cannot be kept as it is.
 */
export function acrOf({ acr }: JWTPayload): string | null {
  if (typeof acr !== 'string' || acr === '' || acr.length > MAX_ACR_LENGTH) return null;
  return storable(acr) === acr ? acr : null;
}

/**
 * Whether an authentication context class is one of those wanted: a list with blanks, as in `acr_values` (§3.1.2.1).
 */
export const meetsAcr = (acr: string | null, wanted: string): boolean =>
  acr !== null && wanted.split(' ').includes(acr);

/** An object's members; none of what is no object. */
export const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
const roleNames = (access: unknown): string[] => {
  const { roles } = record(access);
  return Array.isArray(roles)
    ? roles.filter((role): role is string => typeof role === 'string')
    : [];
};

/**
 * Without what PostgreSQL takes in no text or JSON, NUL and halves of surrogate pairs: a name must not keep tokens from
 * being stored. A role would become another one, and is left out.
 */
const storable = (text: string): string =>
  Buffer.from(text.replaceAll('\0', ''), 'utf8').toString('utf8');
