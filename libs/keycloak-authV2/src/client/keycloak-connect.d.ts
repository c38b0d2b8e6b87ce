declare module 'keycloak-connect/middleware/auth-utils/token.js' {
  /** The part of keycloak-connect's token that decides role expressions; the package's own typings leave it out. */
  export default class Token {
    constructor(token: string, clientId?: string);
    content: {
      realm_access?: { roles: string[] };
      resource_access?: Record<string, { roles: string[] }>;
    };
    hasRole(expression: string): boolean;
  }
}
