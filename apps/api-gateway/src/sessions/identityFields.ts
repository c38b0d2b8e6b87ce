import { type BearerIdentity, type Session, shownId } from '@session-gateway/keycloak-auth';
import { ownFields } from '../pages/browserHeaders.js';
import type { Config } from '../settings/config.js';
import type { IdentitySettings } from '../settings/identitySettings.js';

const made = new WeakMap<Session | BearerIdentity, string[]>();

/** The fields of a yes of forward-auth, made once for each copy of a session or verdict on a bearer token. */
export function identityFields(
  config: Pick<Config, 'publicUrl' | 'identity'>,
  who: Session | BearerIdentity,
): string[] {
  const known = made.get(who);
  if (known !== undefined) return known;
  const { told, isCut } = rolesTold(who.roles, config.identity);
  const fields = [
    ...ownFields(config),
    'X-Auth-Subject',
    fieldValue(who.subject),
    'X-Auth-Session',
    'id' in who ? shownId(who.id) : '',
    'X-Auth-Roles',
    told,
    'X-Auth-Acr',
    fieldValue(who.acr ?? ''),
    ...(isCut ? ['X-Auth-Roles-Truncated', 'true'] : []),
    'Content-Length',
    '0',
  ];
  made.set(who, fields);
  return fields;
}

/** Roles as a list with commas: those of the setting, and whole ones only, as many as there is room for. */
export function rolesTold(
  roles: readonly string[],
  { roles: whose, rolesMaxBytes }: IdentitySettings,
): { told: string; isCut: boolean } {
  let told = '';
  let isCut = false;
  for (const role of roles) {
    if (whose !== 'all' && !whose.some((name) => role.startsWith(`${name}:`))) continue;
    const longer = told === '' ? fieldValue(role) : `${told},${fieldValue(role)}`;
    // Every character of it is one byte.
    if (longer.length <= rolesMaxBytes) told = longer;
    else isCut = true;
  }
  return { told, isCut };
}

/**
 * Printable ASCII as it is; percent-encoded what a header cannot carry, what a list would be cut at, and blanks at the
 * ends of a value or of the names in a role, which a reader would take off: `session-admin ` is not `session-admin`.
 */
export function fieldValue(text: string): string {
  if (/^[!-$&-+\--~]*$/.test(text)) return text;
  return text.replace(/^ +| +$| +(?=:)|(?<=^[^:]*:) +|[^ !-$&-+\--~]/gu, (part) =>
    percentEncoded(part),
  );
}

/** Also for half a surrogate pair, which `encodeURIComponent` refuses. */
export function percentEncoded(text: string | Uint8Array): string {
  return Buffer.from(text as string)
    .toString('hex')
    .toUpperCase()
    .replace(/../g, '%$&');
}
