import Token from 'keycloak-connect/middleware/auth-utils/token.js';

/**
 * Whether roles (`realm:NAME`, `CLIENT:NAME`) satisfy a role expression of keycloak-connect's `protect`: `realm:NAME`,
 * `CLIENT:NAME`, or `NAME` for a role of our own client. keycloak-connect itself decides, on a token with those roles.
 */
export function hasRole(roles: readonly string[], expression: string, clientId: string): boolean {
  const realm: string[] = [];
  const clients: Record<string, { roles: string[] }> = Object.create(null) as Record<string, { roles: string[] }>;
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
