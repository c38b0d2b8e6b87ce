import type { AccessTokenClaims } from './claims.js';
import type { DpopOptions } from './dpop.js';
import type { Fetch } from './issuerKeys.js';
import { checkedAlgorithms } from './jwt.js';
import { listOf } from './requirement.js';

export interface GuardOptions {
  /** The realm, for example `https://id.example/realms/shop`. */
  issuer: string;
  /** This service's name in the claim `aud` of tokens; any of several. */
  audience: string | readonly string[];
  /** This service's own client, for roles without a prefix and for permissions. Default: the first audience. */
  clientId?: string;
  /** Only for claims that are pushed to Keycloak's policies. */
  clientSecret?: string;
  /** Clients whose tokens count (`azp`), for example the gateway's. Default: any. */
  authorizedParties?: readonly string[];
  /** Signatures of access tokens; default: every asymmetric one. */
  algorithms?: readonly string[];
  /** For clocks that differ; default 10. */
  clockToleranceSeconds?: number;
  /** Another address of the realm for the guard's own requests; the issuer stays what it is. */
  internalUrl?: string;
  /** Default: the realm's address with Keycloak's path behind it. */
  jwksUrl?: string;
  tokenUrl?: string;
  /** Fetch keys over plain http from other hosts than loopback. Default: false. */
  allowInsecureHttp?: boolean;
  /** DPoP is in use. Without it, tokens that are bound to a key are refused. */
  dpop?: DpopOptions;
  /** Asked for each request with a good token; anything but false refuses it. */
  isRevoked?: (claims: AccessTokenClaims) => boolean | Promise<boolean>;
  /** The `realm` of challenges (RFC 9110 §11.5). */
  realm?: string;
  /**
   * The claims of so many tokens are remembered, so that each is verified once; 0: none. Default 5,000, about 15 MB.
   */
  maxRememberedTokens?: number;
  /** For requests to Keycloak; default: Node's own. */
  fetch?: Fetch;
  /** Milliseconds since the epoch; default: the clock. */
  now?: () => number;
}

export interface Settings {
  issuer: string;
  audience: readonly string[];
  clientId: string;
  clientSecret: string | null;
  authorizedParties: readonly string[] | null;
  algorithms: readonly string[];
  toleranceSeconds: number;
  jwksUrl: string;
  tokenUrl: string;
  isRevoked: GuardOptions['isRevoked'];
  realm: string | null;
  maxRemembered: number;
  fetch: Fetch;
  now: () => number;
}

const KEYCLOAK = 'protocol/openid-connect';

/** @throws TypeError that names the option which is wrong */
export function settingsOf(options: GuardOptions): Settings {
  const audience = listOf(options.audience);
  const [first] = audience;
  if (first === undefined || !audience.every((one) => typeof one === 'string' && one !== ''))
    throw new TypeError('audience is missing: name this service as tokens name it in aud');
  const base = (options.internalUrl ?? addressed('issuer', options.issuer)).replace(/\/+$/, '');
  const settings: Settings = {
    issuer: options.issuer,
    audience,
    clientId: options.clientId ?? first,
    clientSecret: options.clientSecret ?? null,
    authorizedParties: options.authorizedParties ?? null,
    algorithms: checkedAlgorithms(options.algorithms),
    toleranceSeconds: numberOf('clockToleranceSeconds', options.clockToleranceSeconds ?? 10, 300),
    jwksUrl: addressed('jwksUrl', options.jwksUrl ?? `${base}/${KEYCLOAK}/certs`),
    tokenUrl: addressed('tokenUrl', options.tokenUrl ?? `${base}/${KEYCLOAK}/token`),
    isRevoked: options.isRevoked,
    realm: options.realm ?? null,
    maxRemembered: numberOf('maxRememberedTokens', options.maxRememberedTokens ?? 5_000, 1e7),
    fetch: options.fetch ?? ((url, init) => fetch(url, init)),
    now: options.now ?? Date.now,
  };
  for (const name of ['jwksUrl', 'tokenUrl'] as const)
    if (!options.allowInsecureHttp && !isPrivate(settings[name]))
      throw new TypeError(
        `${name} is plain http: use https, or set allowInsecureHttp where the network is trusted`,
      );
  return settings;
}

function addressed(name: string, url: string): string {
  if (typeof url !== 'string' || !/^https?:\/\//i.test(url) || !URL.canParse(url))
    throw new TypeError(`${name} is not an absolute http or https URL`);
  return url;
}

function numberOf(name: string, value: number, most: number): number {
  if (!(Number.isInteger(value) && value >= 0 && value <= most))
    throw new TypeError(`${name} must be a whole number from 0 to ${most}`);
  return value;
}

function isPrivate(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'https:' || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
}
