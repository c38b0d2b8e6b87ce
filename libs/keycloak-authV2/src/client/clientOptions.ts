import type { ClientAuthMethod } from './clientAuthentication.js';
import type { DpopKeys } from './dpop.js';

export const DEFAULT_SCOPE = 'openid profile email';

export interface KeycloakClientOptions {
  issuer: string;
  clientId: string;
  clientSecret: string;
  /** Another address of the same realm for calls from server to server. */
  internalUrl?: string | undefined;
  clientAuth?: ClientAuthMethod;
  /** PEM, for `private_key_jwt`. */
  clientKey?: string | undefined;
  /** `kid` and `alg` of client assertions; default: the key's RFC 7638 thumbprint, and what provider and key can do. */
  clientKeyId?: string | undefined;
  clientKeyAlgorithm?: string | undefined;
  /** The only one for ID Tokens and logout tokens; default: what the provider's metadata names. */
  idTokenAlgorithm?: string | undefined;
  /** Of authorization requests; default `DEFAULT_SCOPE`. */
  scope?: string;
  /** Send authorization requests ahead, from server to server (RFC 9126). */
  pushedRequests?: boolean;
  /** Ask for access tokens that are bound to a key (RFC 9449). */
  dpop?: DpopKeys | undefined;
  /** Ask the userinfo endpoint too; its `sub` must match (OpenID Connect Core §5.3.2). */
  userinfo?: boolean;
  timeoutSeconds?: number;
  /** Sends the requests in place of Node's own. */
  fetch?: typeof fetch;
}
