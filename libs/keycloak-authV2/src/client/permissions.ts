import { createHash } from 'node:crypto';
import { keepNewest } from '@session-gateway/database';
import Token from 'keycloak-connect/middleware/auth-utils/token.js';
import type { KeycloakClient, Verdict } from './KeycloakClient.js';

/**
 * Whether roles (`realm:NAME`, `CLIENT:NAME`) satisfy a role expression of keycloak-connect's `protect`: `realm:NAME`,
 * `CLIENT:NAME`, or `NAME` for a role of our own client. keycloak-connect itself decides, on a token with those roles.
 */
export function hasRole(roles: readonly string[], expression: string, clientId: string): boolean {
  const realm: string[] = [];
  const clients: Record<string, { roles: string[] }> = Object.create(null) as Record<
    string,
    { roles: string[] }
  >;
  for (const role of roles) {
    const colon = role.indexOf(':');
    const [owner, name] = [role.slice(0, colon), role.slice(colon + 1)];
    if (owner === 'realm') realm.push(name);
    else (clients[owner] ??= { roles: [] }).roles.push(name);
  }
  const token = new Token('', clientId);
  token.content = { realm_access: { roles: realm }, resource_access: clients };
  return token.hasRole(expression);
}

interface Remembered {
  readonly verdict: Promise<Verdict>;
  readonly until: number;
}

/**
 * Whether a token has permissions of our client (`RESOURCE` or `RESOURCE:SCOPE`, all of them) by Keycloak's
 * authorization services. A verdict is kept briefly under a hash of token and permissions, and callers who ask the same
 * at once share one question; a failure is never kept.
 */
export class PermissionChecker {
  readonly #options: {
    client: Pick<KeycloakClient, 'decision'>;
    keptMs?: number;
    maxEntries?: number;
  };
  readonly #known = new Map<string, Remembered>();

  constructor(options: {
    client: Pick<KeycloakClient, 'decision'>;
    keptMs?: number;
    maxEntries?: number;
  }) {
    this.#options = options;
  }

  /** @throws AuthError `provider_unavailable`, or `provider_rejected` when Keycloak does not know what is asked for */
  check(token: string, permissions: readonly string[]): Promise<Verdict> {
    const key = createHash('sha256')
      .update(JSON.stringify([token, ...permissions]))
      .digest('base64url');
    const known = this.#known.get(key);
    if (known && known.until > Date.now()) return known.verdict;
    const verdict = this.#ask(token, permissions);
    verdict.then(
      (outcome) => outcome === 'token_rejected' && this.#known.delete(key),
      () => this.#known.delete(key),
    );
    keepNewest(
      this.#known,
      key,
      { verdict, until: Date.now() + (this.#options.keptMs ?? 10_000) },
      this.#options.maxEntries ?? 10_000,
    );
    return verdict;
  }

  async #ask(token: string, permissions: readonly string[]): Promise<Verdict> {
    for (const permission of permissions) {
      // One by one: asked together, any of them would do.
      const verdict = await this.#options.client.decision(token, permission.replace(':', '#'));
      if (verdict !== 'granted') return verdict;
    }
    return 'granted';
  }
}
