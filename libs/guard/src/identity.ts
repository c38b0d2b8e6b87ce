import { type AccessTokenClaims, fieldOf, textsOf } from './claims.js';

/** Who a request speaks for, by an access token that has been verified. */
export class Identity {
  readonly #clientId: string;

  constructor(
    /** The access token, for calls to other services on behalf of the same person. */
    readonly token: string,
    readonly claims: AccessTokenClaims,
    clientId: string,
  ) {
    this.#clientId = clientId;
  }

  /** The claim `sub`. */
  get subject(): string {
    return this.claims.sub ?? '';
  }

  /** The client that asked for the token: `azp`, or `client_id` (RFC 9068 §2.2). */
  get party(): string | null {
    const party = this.claims['azp'] ?? this.claims['client_id'];
    return typeof party === 'string' ? party : null;
  }

  /** How strongly the person has logged in (RFC 9470 §4). */
  get acr(): string | null {
    const { acr } = this.claims as { acr?: unknown };
    return typeof acr === 'string' ? acr : null;
  }

  /** When the person logged in. */
  get authenticatedAt(): Date | null {
    const seconds = this.claims['auth_time'];
    return typeof seconds === 'number' ? new Date(seconds * 1000) : null;
  }

  get expiresAt(): Date {
    return new Date((this.claims.exp ?? 0) * 1000);
  }

  /** RFC 6749 §3.3. */
  get scopes(): readonly string[] {
    const { scope } = this.claims as { scope?: unknown };
    return typeof scope === 'string' ? scope.split(' ').filter(Boolean) : textsOf(scope);
  }

  /** Whether the token is bound to a key (RFC 9449 §6). */
  get bound(): boolean {
    return this.claims['cnf'] !== undefined;
  }

  /**
   * Whether the person has a role, written as keycloak-connect writes it: `realm:NAME`, `CLIENT:NAME`, or `NAME` for a
   * role of this service's own client. The first colon separates; role names may hold more of them.
   */
  hasRole(expression: string): boolean {
    const colon = expression.indexOf(':');
    const owner = colon === -1 ? this.#clientId : expression.slice(0, colon);
    const name = expression.slice(colon + 1);
    const access =
      colon !== -1 && owner === 'realm'
        ? this.claims['realm_access']
        : fieldOf(this.claims['resource_access'], owner);
    const roles = fieldOf(access, 'roles');
    return name !== '' && Array.isArray(roles) && roles.includes(name);
  }
}
