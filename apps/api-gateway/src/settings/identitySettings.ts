/** What a reverse proxy is told of who a request is from. */
export interface IdentitySettings {
  /** Whose roles: `realm` and names of clients, or all. */
  readonly roles: 'all' | readonly string[];
  /** Bytes of `X-Auth-Roles` at most. */
  readonly rolesMaxBytes: number;
}

/** `all`, `none` or a list with commas; null for anything else. */
export function parseIdentityRoles(text: string | undefined): IdentitySettings['roles'] | null {
  if (!text || text === 'all') return 'all';
  if (text === 'none') return [];
  const names = text.split(',').map((name) => name.trim());
  // A misspelt `all` among names must not become a client that nobody has.
  return names.every((name) => name !== '' && name !== 'all' && name !== 'none') ? names : null;
}
