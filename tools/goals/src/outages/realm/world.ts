import type { KeycloakServer } from '@session-gateway/keycloak-server';
import type { Cluster, ClusterSession } from '@session-gateway/testkit';

/** Takes a change back. */
export type Undo = () => Promise<unknown>;

/** A realm, and a person who is logged in there and here when a change is made. */
export interface Scene {
  readonly cluster: Cluster;
  readonly keycloak: KeycloakServer;
  session: ClusterSession;
  /** The provider's session. */
  sid: string;
  /** `POST /auth/refresh?force=true` by the person: `200`, or status and code. */
  refresh(): Promise<string>;
  /** Logs the person in once more: the scene goes on with that session. */
  renew(): Promise<void>;
}

export type Make = (scene: Scene) => Promise<Undo | undefined>;

/** One change of a realm under a living session, and what is right then. */
export interface Change {
  readonly name: string;
  readonly make: Make;
  /** Of the first refresh after it. */
  readonly answer: string;
  /** What became of the session: `kept`, or the reason of its end. */
  readonly session: string;
  /** Event and reason of the audit trail's last word on it; null: nothing but the login. */
  readonly told: string | null;
  /** Whether the session has a role after that refresh. */
  readonly role?: { readonly name: string; readonly held: boolean };
  /** Of the first refresh after it was undone; default: `200` where the session was kept. */
  readonly later?: string;
}

interface ClientRepresentation {
  id: string;
  clientId: string;
  secret?: string;
  attributes?: Record<string, string>;
  [other: string]: unknown;
}

export async function clientOf({ keycloak }: Scene): Promise<ClientRepresentation> {
  const [client] = (await keycloak.admin(
    'GET',
    `/clients?clientId=${keycloak.clientId}`,
  )) as ClientRepresentation[];
  if (!client) throw new Error('the realm has no client of the gateway');
  return client;
}

/** Settings of the realm. */
export const realm =
  (patch: Record<string, unknown>): Make =>
  async ({ keycloak }) => {
    const before = (await keycloak.admin('GET', '')) as Record<string, unknown>;
    const old = Object.fromEntries(Object.keys(patch).map((name) => [name, before[name] ?? null]));
    await keycloak.setRealm(patch);
    return () => keycloak.setRealm(old);
  };

/** Settings of the gateway's client. */
export const client =
  (patch: Record<string, unknown>): Make =>
  async (scene) => {
    const before = await clientOf(scene);
    await scene.keycloak.setClient(patch);
    const names = Object.keys((patch['attributes'] as object | undefined) ?? {});
    const attributes = Object.fromEntries(
      names.map((name) => [name, before.attributes?.[name] ?? '']),
    );
    return () => scene.keycloak.setClient({ ...before, attributes });
  };

/** Settings of the person. */
export const person =
  (patch: Record<string, unknown>): Make =>
  async ({ keycloak, session }) => {
    const path = `/users/${session.subject}`;
    const before = (await keycloak.admin('GET', path)) as Record<string, unknown>;
    await keycloak.admin('PUT', path, { ...before, ...patch });
    return () => keycloak.admin('PUT', path, before);
  };

/** A call of the admin API that cannot be taken back, or need not. */
export const call =
  (method: string, path: (scene: Scene) => string, body?: unknown): Make =>
  async (scene) => {
    await scene.keycloak.admin(method, path(scene), body);
    return undefined;
  };

/** Another key of the realm, in use at once; `algorithm` as Keycloak names it. */
export const newKey =
  (providerId: string, algorithm: string): Make =>
  async ({ keycloak }) => {
    const { id } = (await keycloak.admin('GET', '')) as { id: string };
    const name = `new ${algorithm}`;
    await keycloak.admin('POST', '/components', {
      name,
      providerId,
      providerType: 'org.keycloak.keys.KeyProvider',
      parentId: id,
      config: { priority: ['900'], enabled: ['true'], active: ['true'], algorithm: [algorithm] },
    });
    const [made] = (await keycloak.admin(
      'GET',
      `/components?name=${encodeURIComponent(name)}`,
    )) as { id: string }[];
    return () => keycloak.admin('DELETE', `/components/${made?.id ?? ''}`);
  };

/** A new key, with the ones before that serve the same algorithm disabled. */
export const onlyNewKey =
  (providerId: string, algorithm: string): Make =>
  async (scene) => {
    const { keycloak } = scene;
    const all = (await keycloak.admin(
      'GET',
      '/components?type=org.keycloak.keys.KeyProvider',
    )) as Key[];
    const old = all.filter(
      (key) =>
        key.providerId === providerId && (key.config['algorithm']?.[0] ?? algorithm) === algorithm,
    );
    const remove = await newKey(providerId, algorithm)(scene);
    const enable = async (enabled: string): Promise<void> => {
      for (const key of old)
        await keycloak.admin('PUT', `/components/${key.id}`, {
          ...key,
          config: { ...key.config, enabled: [enabled], active: [enabled] },
        });
    };
    await enable('false');
    return async () => {
      await enable('true');
      await remove?.();
    };
  };

interface Key {
  id: string;
  providerId: string;
  config: Record<string, string[]>;
}

/** A default scope taken away from the client. */
export const withoutScope =
  (name: string): Make =>
  async (scene) => {
    const scopes = (await scene.keycloak.admin('GET', '/client-scopes')) as {
      id: string;
      name: string;
    }[];
    const { id } = await clientOf(scene);
    const scope = scopes.find((one) => one.name === name)?.id ?? '';
    const path = `/clients/${id}/default-client-scopes/${scope}`;
    await scene.keycloak.admin('DELETE', path);
    return () => scene.keycloak.admin('PUT', path);
  };

/** A mapper added to the client. */
export const mapper =
  (protocolMapper: string, config: Record<string, string>): Make =>
  async (scene) => {
    const { id } = await clientOf(scene);
    const path = `/clients/${id}/protocol-mappers/models`;
    await scene.keycloak.admin('POST', path, {
      name: 'added',
      protocol: 'openid-connect',
      protocolMapper,
      config,
    });
    const all = (await scene.keycloak.admin('GET', path)) as { id: string; name: string }[];
    const added = all.find((one) => one.name === 'added')?.id ?? '';
    return () => scene.keycloak.admin('DELETE', `${path}/${added}`);
  };

/** A realm role given to the person, or taken away. */
export const realmRole =
  (name: string, method: 'POST' | 'DELETE'): Make =>
  async ({ keycloak, session }) => {
    const role = await keycloak.admin('GET', `/roles/${name}`);
    const path = `/users/${session.subject}/role-mappings/realm`;
    await keycloak.admin(method, path, [role]);
    return () => keycloak.admin(method === 'POST' ? 'DELETE' : 'POST', path, [role]);
  };

/** Several changes as one. */
export const both =
  (...changes: Make[]): Make =>
  async (scene) => {
    const undo: (Undo | undefined)[] = [];
    for (const make of changes) undo.unshift(await make(scene));
    return async () => {
      for (const one of undo) await one?.();
    };
  };
