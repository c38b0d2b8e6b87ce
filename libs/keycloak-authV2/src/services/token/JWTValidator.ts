import { createHash } from 'node:crypto';
import { keepNewest } from '@session-gateway/database';
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { rolesOf } from '../../client/identity.js';
import { SIGNATURE_ALGORITHMS } from '../../client/KeycloakClient.js';
import { AuthError } from '../../errors.js';

/** Who a bearer token speaks for. */
export interface BearerIdentity {
  readonly subject: string;
  readonly roles: readonly string[];
  /** Seconds since the epoch. */
  readonly expiresAt: number;
}

const CLOCK_TOLERANCE_SECONDS = 15;
const MAX_BEARER_LENGTH = 16_384;
/** A signed JWT in the one spelling that RFC 7515 §7.1 gives it: decoders skip what else may stand there. */
export const COMPACT_JWT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/**
 * Validates bearer access tokens: signature by the realm's keys, `iss`, `aud` or `azp`, `exp`, `nbf` (RFC 7519 §4.1,
 * RFC 9068 §4), and bound to no key. Its cache holds the SHA-256 of a token and the outcome, never the token; `exp` is
 * checked anew each time.
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
    if (!COMPACT_JWT.test(token)) throw invalid('malformed');
    const key = createHash('sha256').update(token).digest('base64url');
    const known = this.#outcomes.get(key);
    if (known) {
      if (this.#nowSeconds() < known.expiresAt + CLOCK_TOLERANCE_SECONDS) return known;
      this.#outcomes.delete(key);
      throw invalid('expired');
    }
    const identity = this.#judge(await this.#verify(token));
    keepNewest(this.#outcomes, key, identity, this.#options.maxEntries ?? 10_000);
    return identity;
  }

  async #verify(token: string): Promise<JWTPayload> {
    const jwks = await this.#options.jwks();
    try {
      const { payload, protectedHeader } = await jwtVerify(token, jwks, {
        issuer: this.#options.issuer,
        algorithms: SIGNATURE_ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(this.#nowSeconds() * 1000),
      });
      if (!['jwt', 'at+jwt', undefined].includes(mediaTypeOf(protectedHeader.typ))) throw invalid('type');
      return payload;
    } catch (error) {
      throw jwtFault(error, 'bearer_invalid');
    }
  }

  #judge(payload: JWTPayload): BearerIdentity {
    const { clientId } = this.#options;
    if (typeof payload.sub !== 'string' || payload.sub === '') throw invalid('subject');
    // Keycloak names the kind of its tokens; an ID, refresh or logout token is no access token, however well signed.
    if ((payload['typ'] !== undefined && payload['typ'] !== 'Bearer') || payload['at_hash'] !== undefined || payload['events'] !== undefined) throw invalid('type');
    // Bound to a key (RFC 9449 §7.1, RFC 8705 §3): whoever only shows it may have stolen it.
    if (payload['cnf'] !== undefined) throw invalid('sender_constrained');
    const audiences = Array.isArray(payload.aud) ? payload.aud : [payload.aud];
    if (!audiences.includes(clientId) && payload['azp'] !== clientId) throw invalid('audience');
    return { subject: payload.sub, roles: rolesOf(payload), expiresAt: payload.exp ?? 0 };
  }

  #nowSeconds(): number {
    return Math.floor((this.#options.now ?? Date.now)() / 1000);
  }
}

/** A `typ` header as RFC 7515 §4.1.9 has it compared: without case and `application/`. Any JSON may stand there: `none` for what is no text. */
export function mediaTypeOf(typ: unknown): string | undefined {
  if (typ === undefined) return undefined;
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : 'none';
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
