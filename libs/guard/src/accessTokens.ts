import { hash } from 'node:crypto';
import { type JWTPayload, jwtVerify } from 'jose';
import { type AccessTokenClaims, frozen, textsOf } from './claims.js';
import { GuardError, type GuardErrorCode } from './errors.js';
import { Identity } from './identity.js';
import type { IssuerKeys } from './issuerKeys.js';
import { COMPACT_JWT, faultOf, type JwtFault } from './jwt.js';

const MAX_TOKEN_LENGTH = 16_384;
/** What an ID Token says and an access token does not (OpenID Connect Core §2, §3.1.3.6, §3.3.2.11). */
const OF_ID_TOKENS = ['nonce', 'auth_time', 'at_hash', 'c_hash', 's_hash'];
/** What tells an access token where nothing names its type (RFC 9068 §2.2, and Keycloak's roles). */
const OF_ACCESS_TOKENS = ['scope', 'scp', 'client_id', 'realm_access', 'resource_access'];

const BY_FAULT: Readonly<Record<JwtFault, GuardErrorCode>> = {
  malformed: 'token_malformed',
  algorithm: 'token_algorithm',
  key_unknown: 'token_key_unknown',
  signature: 'token_signature',
  expired: 'token_expired',
  claim: 'token_claims',
  unusable: 'token_signature',
};
const BY_CLAIM: Readonly<Record<string, GuardErrorCode>> = {
  iss: 'token_issuer',
  aud: 'token_audience',
  nbf: 'token_not_yet_valid',
};

export interface AccessTokenRules {
  issuer: string;
  audience: readonly string[];
  clientId: string;
  authorizedParties: readonly string[] | null;
  algorithms: readonly string[];
  toleranceSeconds: number;
  maxRemembered: number;
  keys: IssuerKeys;
  /** Milliseconds since the epoch. */
  now: () => number;
}

interface Remembered {
  readonly claims: AccessTokenClaims;
  readonly generation: number;
}

/**
 * Verifies access tokens: signature by the issuer's keys, `iss`, `aud`, `exp`, `nbf`, kind (RFC 7519 §4.1, RFC 9068
 * §4). Beside the keys it remembers the claims that they have verified, by the SHA-256 of the token and never the
 * token, so many at most: such an entry counts for as long as the keys do, and `exp` is looked at each time.
 */
export class AccessTokens {
  readonly #rules: AccessTokenRules;
  readonly #remembered = new Map<string, Remembered>();

  constructor(rules: AccessTokenRules) {
    this.#rules = rules;
  }

  /** @throws GuardError `token_*`, or `issuer_unavailable` when the keys cannot be read */
  async verify(token: string): Promise<Identity> {
    if (token.length > MAX_TOKEN_LENGTH || !COMPACT_JWT.test(token)) throw refusal('malformed');
    const key = hash('sha256', token, 'base64url');
    let claims = this.#known(key);
    if (claims === null) {
      claims = await this.#claims(token);
      this.#remember(key, claims);
    }
    return new Identity(token, claims, this.#rules.clientId);
  }

  #known(key: string): AccessTokenClaims | null {
    const known = this.#remembered.get(key);
    if (known === undefined) return null;
    if (known.generation !== this.#rules.keys.generation) {
      this.#remembered.delete(key);
      return null;
    }
    const { exp = 0 } = known.claims;
    if (this.#rules.now() / 1000 < exp + this.#rules.toleranceSeconds) return known.claims;
    this.#remembered.delete(key);
    throw refusal('expired');
  }

  #remember(key: string, claims: AccessTokenClaims): void {
    const { generation } = this.#rules.keys;
    if (generation === null || this.#rules.maxRemembered === 0) return;
    this.#remembered.set(key, { claims, generation });
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= this.#rules.maxRemembered) return;
      this.#remembered.delete(oldest);
    }
  }

  async #claims(token: string): Promise<AccessTokenClaims> {
    const { issuer, audience, algorithms, toleranceSeconds, keys, now } = this.#rules;
    try {
      const { payload, protectedHeader } = await jwtVerify(token, keys.find, {
        issuer,
        audience: [...audience],
        algorithms: [...algorithms],
        clockTolerance: toleranceSeconds,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(now()),
      });
      if (!isAccessToken(payload, mediaTypeOf(protectedHeader.typ)))
        throw new GuardError('token_type', 'the token is not an access token');
      this.#judge(payload);
      return frozen(payload);
    } catch (error) {
      if (error instanceof GuardError) throw error;
      const { fault, claim } = faultOf(error);
      throw refusal(fault, claim, error);
    }
  }

  #judge(payload: JWTPayload): void {
    const { authorizedParties } = this.#rules;
    if (typeof payload.sub !== 'string' || payload.sub === '') throw refusal('claim', 'sub');
    const [party] = textsOf(payload['azp'] ?? payload['client_id']);
    if (authorizedParties !== null && !authorizedParties.includes(party ?? ''))
      throw new GuardError('token_party', 'the token was issued to a client that may not call');
  }
}

/** A `typ` header as RFC 7515 §4.1.9 has it compared: without case and `application/`. Any JSON may stand there. */
function mediaTypeOf(typ: unknown): string | undefined {
  if (typ === undefined) return undefined;
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : 'none';
}

/**
 * Whether a token that the issuer has signed is an access token. Keycloak names the kind in the claim `typ`, RFC 9068
 * in the header. Where neither does, an ID Token or a logout token must not pass for one.
 */
function isAccessToken(payload: JWTPayload, headerType: string | undefined): boolean {
  const kind = payload['typ'];
  const has = (claims: readonly string[]): boolean =>
    claims.some((claim) => payload[claim] !== undefined);
  if (kind !== undefined && kind !== 'Bearer' && kind !== 'DPoP') return false;
  if (has(['events', 'at_hash'])) return false;
  if (headerType === 'at+jwt') return true;
  if (headerType !== undefined && headerType !== 'jwt') return false;
  return kind !== undefined || (!has(OF_ID_TOKENS) && has(OF_ACCESS_TOKENS));
}

function refusal(fault: JwtFault, claim?: string, cause?: unknown): GuardError {
  const named = claim !== undefined && Object.hasOwn(BY_CLAIM, claim) ? BY_CLAIM[claim] : undefined;
  const what = fault === 'expired' ? 'has expired' : 'is not acceptable';
  return new GuardError(
    named ?? BY_FAULT[fault],
    `the access token ${what}`,
    cause === undefined ? {} : { cause },
  );
}
