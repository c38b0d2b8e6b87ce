import { readFileSync } from 'node:fs';

/** What this project reads and changes of a realm file; everything else in it passes through. */
export interface RealmFile {
  realm: string;
  accessTokenLifespan: number;
  clients: {
    clientId: string;
    secret?: string;
    rootUrl?: string;
    redirectUris: string[];
    attributes?: Record<string, string>;
  }[];
  users: { username: string; credentials: { value: string }[] }[];
  [other: string]: unknown;
}

export interface RealmOptions {
  /** Where browsers reach the gateway. Keycloak sends logout tokens to the first only. */
  gatewayUrls?: readonly string[];
  accessTokenLifespanSeconds?: number;
}

export const GATEWAY_CLIENT_ID = 'api-gateway';

/** The development realm, for these gateways. */
export function renderRealm(options: RealmOptions = {}): RealmFile {
  const realm = JSON.parse(
    readFileSync(new URL('../realm/neurotracker-realm.json', import.meta.url), 'utf8'),
  ) as RealmFile;
  if (options.accessTokenLifespanSeconds !== undefined)
    realm.accessTokenLifespan = options.accessTokenLifespanSeconds;
  const gateways = (options.gatewayUrls ?? []).map((url) => url.replace(/\/$/, ''));
  const [first] = gateways;
  if (first === undefined) return realm;
  const client = gatewayClient(realm);
  client.rootUrl = first;
  client.redirectUris = gateways.map((url) => `${url}/auth/callback`);
  client.attributes = {
    ...client.attributes,
    'post.logout.redirect.uris': gateways
      .flatMap((url) => [`${url}/`, `${url}/auth/logged-out`])
      .join('##'),
    'backchannel.logout.url': `${first}/auth/backchannel-logout`,
  };
  return realm;
}

export function gatewayClient(realm: RealmFile): RealmFile['clients'][number] {
  const client = realm.clients.find(({ clientId }) => clientId === GATEWAY_CLIENT_ID);
  if (!client) throw new Error(`the realm file has no client ${GATEWAY_CLIENT_ID}`);
  return client;
}
