import { fieldOf, objectOf, textsOf } from './claims.js';
import { GuardError } from './errors.js';
import type { Identity } from './identity.js';
import type { Fetch } from './issuerKeys.js';

const UMA_TICKET = 'urn:ietf:params:oauth:grant-type:uma-ticket';
const CLAIM_FORMAT = 'urn:ietf:params:oauth:token-type:jwt';
const TIMEOUT_MS = 5_000;

/** Claims that are pushed to Keycloak's policies: each a list of texts. */
export type PushedClaims = Readonly<Record<string, readonly string[]>>;

export interface PermissionOptions {
  tokenUrl: string;
  /** The resource server: the client that has the resources. */
  clientId: string;
  clientSecret: string | null;
  fetch: Fetch;
}

/**
 * Asks Keycloak's authorization services whether a token has permissions, written `RESOURCE` or `RESOURCE:SCOPE`.
 * Nothing is remembered: each call asks, unless the token itself is an RPT that has the permission (UMA 2.0 §3.3.5).
 */
export class Permissions {
  readonly #options: PermissionOptions;

  constructor(options: PermissionOptions) {
    this.#options = options;
  }

  /** @throws GuardError `permission_denied`, `token_revoked`, `issuer_rejected`, `issuer_unavailable` */
  async check(
    identity: Identity,
    permissions: readonly string[],
    claims?: PushedClaims,
  ): Promise<void> {
    const open = permissions.filter((one) => !this.#granted(identity, one));
    if (open.length > 0 && identity.bound)
      throw new GuardError(
        'issuer_rejected',
        'Keycloak takes no token that is bound to a key for a permission: ask for roles here',
      );
    // One by one: asked together, any of them would do.
    await Promise.all(open.map((one) => this.#ask(identity, one, claims)));
  }

  /**
   * Whether the token itself says so. Only one for us alone: in another's, a resource of the same name is another one.
   */
  #granted({ claims }: Identity, permission: string): boolean {
    const audiences = textsOf(claims.aud);
    if (audiences.length !== 1 || audiences[0] !== this.#options.clientId) return false;
    const listed = fieldOf(claims['authorization'], 'permissions');
    const { resource, scope } = parsed(permission);
    return (
      Array.isArray(listed) &&
      listed.some(
        (one) =>
          [fieldOf(one, 'rsid'), fieldOf(one, 'rsname')].includes(resource) &&
          (scope === null || textsOf(fieldOf(one, 'scopes')).includes(scope)),
      )
    );
  }

  async #ask(identity: Identity, permission: string, claims?: PushedClaims): Promise<void> {
    const answer = await this.#post(identity.token, permission, claims);
    const said = objectOf(await answer.json().catch(() => null));
    if (answer.status === 200 && said['result'] === true) return;
    if (answer.status === 200 || answer.status === 403)
      throw new GuardError('permission_denied', 'the permission was denied');
    if (said['error'] === 'invalid_grant' || (answer.status === 401 && claims === undefined))
      throw new GuardError('token_revoked', 'the issuer does not take the token any more');
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 429)
      throw new GuardError(
        'issuer_rejected',
        'Keycloak rejects the question: is the resource, the scope or the client unknown to it?',
      );
    throw unavailable(new Error(`status ${answer.status}`));
  }

  async #post(token: string, permission: string, claims?: PushedClaims): Promise<Response> {
    const { tokenUrl, clientId, clientSecret, fetch } = this.#options;
    const { resource, scope } = parsed(permission);
    const form = new URLSearchParams({
      grant_type: UMA_TICKET,
      audience: clientId,
      response_mode: 'decision',
      permission: scope === null ? resource : `${resource}#${scope}`,
    });
    let authorization = `Bearer ${token}`;
    if (claims !== undefined) {
      form.set('claim_token', Buffer.from(JSON.stringify(claims)).toString('base64'));
      form.set('claim_token_format', CLAIM_FORMAT);
      form.set('subject_token', token);
      authorization = basic(clientId, clientSecret ?? '');
    }
    try {
      return await fetch(tokenUrl, {
        method: 'POST',
        headers: { authorization, accept: 'application/json' },
        body: form,
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch (cause) {
      throw unavailable(cause);
    }
  }
}

function parsed(permission: string): { resource: string; scope: string | null } {
  const colon = permission.indexOf(':');
  return colon === -1
    ? { resource: permission, scope: null }
    : { resource: permission.slice(0, colon), scope: permission.slice(colon + 1) };
}

/** RFC 6749 §2.3.1. */
const basic = (id: string, secret: string): string =>
  `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`;

const unavailable = (cause: unknown): GuardError =>
  new GuardError('issuer_unavailable', 'the issuer does not decide just now', { cause });
