import { createHash } from 'node:crypto';
import { keepNewest } from '@session-gateway/database';
import { type JWTPayload, jwtVerify } from 'jose';
import { acrOf, rolesOf } from '../../client/identity.js';
import { isIdentifier } from '../../client/idToken.js';
import {
  CLOCK_TOLERANCE_SECONDS,
  COMPACT_JWT,
  jwtFault,
  mediaTypeOf,
  SIGNATURE_ALGORITHMS,
} from '../../client/jwtFaults.js';
import type { ProviderKeySet } from '../../client/providerKeys.js';
import { AuthError } from '../../errors.js';
import type { RefusalReason } from '../../reasons.js';

/** Who a bearer token speaks for. */
export interface BearerIdentity {
  readonly subject: string;
  /** RFC 9470 §4. */
  readonly acr: string | null;
  readonly roles: readonly string[];
  /** Seconds since the epoch. */
  readonly expiresAt: number;
}

interface JWTValidatorOptions {
  issuer: string;
  clientId: string;
  /** The realm's keys, as fresh as they are to be. */
  jwks: () => Promise<ProviderKeySet>;
  maxEntries?: number;
  now?: () => number;
}

interface Verdict {
  readonly identity: BearerIdentity;
  readonly givenAtSeconds: number;
  /** Of the keys that it was given by. */
  readonly generation: number | undefined;
}

const MAX_BEARER_LENGTH = 16_384;
/** Nobody ends a bearer token before it ends itself: one that lives for longer than a day is refused. */
const MAX_LIFETIME_SECONDS = 86_400;
const VERDICT_SECONDS = 60;
/** What an ID Token says and an access token does not (OpenID Connect Core §2, §3.1.3.6, §3.3.2.11). */
const OF_ID_TOKENS = ['nonce', 'auth_time', 'at_hash', 'c_hash', 's_hash'];
/** What tells an access token where nothing names its type (RFC 9068 §2.2, and Keycloak's roles). */
const OF_ACCESS_TOKENS = ['scope', 'scp', 'client_id', 'realm_access', 'resource_access'];

/**
 * Validates bearer access tokens: signature by the realm's keys, `iss`, `aud` or `azp`, `exp`, `nbf` (RFC 7519 §4.1,
 * RFC 9068 §4), a life of a day at most, and bound to no key. Its cache holds the SHA-256 of a token and the outcome,
 * never the token. An outcome counts for 60 s, and no longer than the keys that it was found by; `exp` is checked each
 * time.
 */
export class JWTValidator {
  readonly #options: JWTValidatorOptions;
  readonly #verdicts = new Map<string, Verdict>();

  constructor(options: JWTValidatorOptions) {
    this.#options = options;
  }

  /** @throws AuthError `bearer_invalid`, or `provider_unavailable` when the keys cannot be fetched */
  async validate(token: string): Promise<BearerIdentity> {
    if (token.length > MAX_BEARER_LENGTH) throw invalid('too_large');
    if (!COMPACT_JWT.test(token)) throw invalid('malformed');
    const keys = await this.#options.jwks();
    const key = createHash('sha256').update(token).digest('base64url');
    const known = this.#verdicts.get(key);
    const now = this.#nowSeconds();
    if (known) {
      if (now >= known.identity.expiresAt + CLOCK_TOLERANCE_SECONDS) {
        this.#verdicts.delete(key);
        throw invalid('expired');
      }
      if (known.generation === keys.generation && now - known.givenAtSeconds < VERDICT_SECONDS)
        return known.identity;
      this.#verdicts.delete(key);
    }
    const identity = this.#judge(await this.#verify(token, keys));
    // By the keys as they are now: the token itself may have led to new ones.
    const verdict = { identity, givenAtSeconds: now, generation: keys.generation };
    keepNewest(this.#verdicts, key, verdict, this.#options.maxEntries ?? 10_000);
    return identity;
  }

  async #verify(token: string, keys: ProviderKeySet): Promise<JWTPayload> {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, keys, {
        issuer: this.#options.issuer,
        algorithms: [...SIGNATURE_ALGORITHMS],
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(this.#nowSeconds() * 1000),
      });
      if (!isAccessToken(payload, mediaTypeOf(protectedHeader.typ))) throw invalid('type');
      return payload;
    } catch (error) {
      throw jwtFault(error, 'bearer_invalid');
    }
  }

  #judge(payload: JWTPayload): BearerIdentity {
    const { clientId } = this.#options;
    if (!isIdentifier(payload.sub)) throw invalid('subject');
    const audiences = Array.isArray(payload.aud) ? payload.aud : [payload.aud];
    if (!audiences.includes(clientId) && payload['azp'] !== clientId) throw invalid('audience');
    const expiresAt = payload.exp ?? 0;
    const now = this.#nowSeconds();
    if (expiresAt - Math.min(payload.iat ?? now, now) > MAX_LIFETIME_SECONDS)
      throw invalid('lifetime');
    // Bound to a key (RFC 9449 §7.1, RFC 8705 §3): whoever only shows it may have stolen it.
    if (payload['cnf'] !== undefined) throw invalid('sender_constrained');
    return { subject: payload.sub, acr: acrOf(payload), roles: rolesOf(payload), expiresAt };
  }

  #nowSeconds(): number {
    return Math.floor((this.#options.now ?? Date.now)() / 1000);
  }
}

/**
 * Whether a token that the provider has signed is an access token. Keycloak names the kind in the claim `typ` (`DPoP`
 * for one that is bound to a key), RFC 9068 in the header. Where neither does, an ID Token must not pass for one: it
 * shows nothing of an access token, or something of its own.
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

const invalid = (reason: RefusalReason): AuthError =>
  new AuthError('bearer_invalid', 'the token is not acceptable', { reason });
