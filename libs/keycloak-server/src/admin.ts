/** What Keycloak's event store tells of one event; times in milliseconds since 1970. */
export interface KeycloakEvent {
  time: number;
  type: string;
  clientId?: string;
  userId?: string;
  sessionId?: string;
  error?: string;
  details?: Record<string, string>;
}

export interface EventFilter {
  type?: string | string[];
  username?: string;
  clientId?: string;
}

export interface KeycloakSession {
  id: string;
  username: string;
  userId: string;
  ipAddress: string;
  start: number;
  lastAccess: number;
  clients: Record<string, string>;
}

export interface AdminApi {
  /** An access token of the server's own administrator. */
  adminToken(): Promise<string>;
  /**
   * One call of the admin REST API below the realm; null for an answer without a body. Throws on
   * any other status than 2xx.
   */
  admin(method: string, path: string, body?: unknown): Promise<unknown>;
  /** Stored events, newest first, at most 1000. */
  events(filter?: EventFilter): Promise<KeycloakEvent[]>;
  clearEvents(): Promise<void>;
  /** The user's id, which is the subject of their tokens. */
  userId(username: string): Promise<string>;
  sessionsOf(username: string): Promise<KeycloakSession[]>;
  /** Ends all sessions of a user, with logout tokens to the clients. */
  logoutUser(username: string): Promise<void>;
  /** Ends one session by its `sid`. */
  deleteSession(sid: string): Promise<void>;
  setRealm(patch: Record<string, unknown>): Promise<void>;
  /** Changes a client (default: the gateway's); attributes are merged. */
  setClient(patch: Record<string, unknown>, clientId?: string): Promise<void>;
  setUserEnabled(username: string, enabled: boolean): Promise<void>;
}

/** Half of the lifespan of the master realm's access tokens. */
const TOKEN_KEPT_MS = 30_000;

/** The admin REST API of one realm. `forget` drops the cached token, as after a restart. */
export function connectAdmin(options: {
  baseUrl: string;
  realm: string;
  clientId: string;
  username: string;
  password: string;
}): { api: AdminApi; forget(): void } {
  const { baseUrl, realm, username: administrator, password } = options;
  let kept: { token: string; until: number } | undefined;

  async function adminToken(): Promise<string> {
    if (kept && kept.until > Date.now()) return kept.token;
    const response = await fetch(`${baseUrl}/realms/master/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'password',
        client_id: 'admin-cli',
        username: administrator,
        password,
      }),
    });
    if (!response.ok)
      throw new Error(
        `Keycloak refused its administrator: ${response.status} ${await response.text()}`,
      );
    const { access_token: token } = (await response.json()) as { access_token: string };
    kept = { token, until: Date.now() + TOKEN_KEPT_MS };
    return token;
  }

  async function admin(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${baseUrl}/admin/realms/${realm}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${await adminToken()}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  }

  async function userId(username: string): Promise<string> {
    const found = (await admin(
      'GET',
      `/users?exact=true&username=${encodeURIComponent(username)}`,
    )) as { id: string }[];
    if (!found[0]) throw new Error(`no user ${username}`);
    return found[0].id;
  }

  const api: AdminApi = {
    adminToken,
    admin,
    userId,
    async events(filter = {}) {
      const query = new URLSearchParams({ max: '1000' });
      for (const type of [filter.type ?? []].flat()) query.append('type', type);
      if (filter.clientId !== undefined) query.set('client', filter.clientId);
      if (filter.username !== undefined) query.set('user', await userId(filter.username));
      return (await admin('GET', `/events?${query}`)) as KeycloakEvent[];
    },
    clearEvents: async () => void (await admin('DELETE', '/events')),
    sessionsOf: async (username) =>
      (await admin('GET', `/users/${await userId(username)}/sessions`)) as KeycloakSession[],
    logoutUser: async (username) =>
      void (await admin('POST', `/users/${await userId(username)}/logout`)),
    deleteSession: async (sid) =>
      void (await admin('DELETE', `/sessions/${encodeURIComponent(sid)}`)),
    setRealm: async (patch) => void (await admin('PUT', '', patch)),
    async setClient(patch, clientId = options.clientId) {
      const [client] = (await admin(
        'GET',
        `/clients?clientId=${encodeURIComponent(clientId)}`,
      )) as { id: string; attributes?: object }[];
      if (!client) throw new Error(`no client ${clientId}`);
      const attributes = { ...client.attributes, ...(patch['attributes'] as object | undefined) };
      await admin('PUT', `/clients/${client.id}`, { ...client, ...patch, attributes });
    },
    async setUserEnabled(username, enabled) {
      const path = `/users/${await userId(username)}`;
      await admin('PUT', path, { ...((await admin('GET', path)) as object), enabled });
    },
  };
  return { api, forget: () => (kept = undefined) };
}
