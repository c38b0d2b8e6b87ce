import type { KeycloakClientOptions } from './clientOptions.js';

/** What the realm is asked about. */
export type RealmCheck =
  | 'metadata'
  | 'client'
  | 'redirect_uri'
  | 'login'
  | 'scope'
  | 'issuer_in_response'
  | 'post_logout'
  | 'par_lifespan'
  | 'clock'
  | 'backchannel'
  | 'frontchannel'
  | 'registration';

/** Something that is not as the gateway needs it. */
export interface RealmFinding {
  readonly check: RealmCheck;
  /** `unseen`: this client may not see it, and a person has to look. */
  readonly severity: 'problem' | 'warning' | 'unseen';
  /** What is wrong, with Keycloak's own words, and where to set it right. One line. */
  readonly message: string;
}

export interface RealmCheckOptions extends KeycloakClientOptions {
  /** The gateway's address as browsers know it. */
  readonly publicUrl: URL;
  /** Milliseconds since 1970; default: this machine's clock. */
  readonly now?: () => number;
}

/** The requests of one check. */
export interface Asking {
  readonly options: RealmCheckOptions;
  readonly ask: (url: string | URL, init?: RequestInit) => Promise<Response>;
}

const SETTINGS = 'Clients > %s > Settings';

/** Where in Keycloak's administration something of the client is set. */
export const clientPage = ({ clientId }: { clientId: string }, tab = SETTINGS): string =>
  `in Keycloak: ${tab.replace('%s', clientId)}`;
