import { createHash } from 'node:crypto';
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { rolesOf } from '../../client/KeycloakClient.js';
import { AuthError } from '../../errors.js';

/** Who a bearer token speaks for. */
export interface BearerIdentity {
  readonly subject: string;
  readonly roles: readonly string[];
  /** Seconds since the epoch. */
  readonly expiresAt: number;
}

const CLOCK_TOLERANCE_SECONDS = 15;
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];
const MAX_BEARER_LENGTH = 16_384;

/**
 * Validates bearer access tokens: signature by the realm's keys, `iss`, `aud` or `azp`, `exp`, `nbf` (RFC 7519 §4.1,
 * RFC 9068 §4). Its cache holds the SHA-256 of a token and the outcome, never the token; `exp` is checked anew each time.
 */
export class JWTValidator {
  readonly #options: { issuer: string; clientId: string; jwks: () => Promise<JWTVerifyGetKey>; maxEntries?: number; now?: () => number };
  readonly #outcomes = new Map<string, BearerIdentity>();

  constructor(options: { issuer: string; clientId: string; jwks: () => Promise<JWTVerifyGetKey>; maxEntries?: number; now?: () => number }) {
    this.#options = options;
  }

  /** @throws AuthError `bearer_invalid`, or `provider_unavailable` when the keys cannot be fetched */
  async validate(token: string): Promise<BearerIdentity> {
    if (token.length > MAX_BEARER_LENGTH) throw invalid('too_large');
    const key = createHash('sha256').update(token).digest('base64url');
    const known = this.#outcomes.get(key);
    if (known) {
      if (this.#nowSeconds() < known.expiresAt + CLOCK_TOLERANCE_SECONDS) return known;
      this.#outcomes.delete(key);
      throw invalid('expired');
    }
    const identity = this.#judge(await this.#verify(token));
    this.#outcomes.set(key, identity);
    if (this.#outcomes.size > (this.#options.maxEntries ?? 10_000)) {
      const [oldest] = this.#outcomes.keys();
      if (oldest !== undefined) this.#outcomes.delete(oldest);
    }
    return identity;
  }

  async #verify(token: string): Promise<JWTPayload> {
    const jwks = await this.#options.jwks();
    try {
      const { payload, protectedHeader } = await jwtVerify(token, jwks, {
        issuer: this.#options.issuer,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(this.#nowSeconds() * 1000),
      });
      if (protectedHeader.typ !== undefined && !['jwt', 'at+jwt', 'application/at+jwt'].includes(protectedHeader.typ.toLowerCase())) throw invalid('type');
      return payload;
    } catch (error) {
      throw jwtFault(error, 'bearer_invalid');
    }
  }

  #judge(payload: JWTPayload): BearerIdentity {
    const { clientId } = this.#options;
    // Keycloak names the kind of its tokens; an ID, refresh or logout token is no access token, however well signed.
    if ((payload['typ'] !== undefined && payload['typ'] !== 'Bearer') || payload['at_hash'] !== undefined || payload['events'] !== undefined) throw invalid('type');
    const audiences = Array.isArray(payload.aud) ? payload.aud : [payload.aud];
    if (!audiences.includes(clientId) && payload['azp'] !== clientId) throw invalid('audience');
    return { subject: payload.sub ?? '', roles: rolesOf(payload), expiresAt: payload.exp ?? 0 };
  }

  #nowSeconds(): number {
    return Math.floor((this.#options.now ?? Date.now)() / 1000);
  }
}

/** Tells a token that is wrong from keys that could not be fetched: only the first says anything about the token. */
export function jwtFault(error: unknown, code: 'bearer_invalid' | 'logout_token_invalid'): AuthError {
  if (error instanceof AuthError) return error;
  const aboutToken = error instanceof errors.JOSEError && !(error instanceof errors.JWKSTimeout) && !(error instanceof errors.JWKSInvalid) && error.code !== 'ERR_JOSE_GENERIC';
  return aboutToken
    ? new AuthError(code, 'the token is not acceptable', { reason: error.code, cause: error })
    : new AuthError('provider_unavailable', 'the provider\'s keys cannot be fetched', { reason: 'jwks', retryAfterSeconds: 5, cause: error });
}

const invalid = (reason: string): AuthError => new AuthError('bearer_invalid', 'the token is not acceptable', { reason });
