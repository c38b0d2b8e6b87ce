import { errors } from 'jose';
import { AuthError } from '../errors.js';
import type { RefusalReason } from '../reasons.js';

/** Signatures that a provider may make; never a shared secret, never none. */
export const SIGNATURE_ALGORITHMS: readonly string[] = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];

/** A signed JWT in the one spelling that RFC 7515 §7.1 gives it: decoders skip what else may stand there. */
export const COMPACT_JWT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

export const CLOCK_TOLERANCE_SECONDS = 15;

/**
 * A `typ` header as RFC 7515 §4.1.9 has it compared: without case and `application/`. Any JSON may stand there:
 * `none` for what is no text.
 */
export function mediaTypeOf(typ: unknown): string | undefined {
  if (typ === undefined) return undefined;
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : 'none';
}

const BY_CLAIM: Readonly<Record<string, RefusalReason>> = {
  iss: 'issuer',
  aud: 'audience',
  sub: 'subject',
  azp: 'authorized_party',
  nonce: 'nonce',
  exp: 'expired',
  nbf: 'not_yet_valid',
  iat: 'issued_at',
  auth_time: 'auth_time',
  events: 'events',
  jti: 'jti',
};

/** The rule about a claim that a token breaks. */
export const claimReason = (claim: unknown): RefusalReason =>
  (typeof claim === 'string' && Object.hasOwn(BY_CLAIM, claim) ? BY_CLAIM[claim] : undefined) ??
  'claim_invalid';

/** Which rule a token breaks; null where the failure says nothing about the token. */
function ruleOf(error: unknown): RefusalReason | null {
  if (error instanceof errors.JWTExpired) return 'expired';
  if (error instanceof errors.JWTClaimValidationFailed)
    return error.reason === 'missing' ? 'claim_missing' : claimReason(error.claim);
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature';
  if (error instanceof errors.JWKSNoMatchingKey) return 'key_unknown';
  // OpenID Connect Core §10.1: beside several keys the token has to name its own.
  if (error instanceof errors.JWKSMultipleMatchingKeys) return 'kid_missing';
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm';
  if (error instanceof errors.JOSENotSupported) return 'critical_header';
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return 'malformed';
  return null;
}

/** Tells a token that is wrong from keys that could not be fetched: only the first says anything about the token. */
export function jwtFault(
  error: unknown,
  code: 'bearer_invalid' | 'logout_token_invalid' | 'callback_rejected',
): AuthError {
  if (error instanceof AuthError) return error;
  const reason = ruleOf(error);
  return reason !== null
    ? new AuthError(code, 'the token is not acceptable', { reason, cause: error })
    : new AuthError('provider_unavailable', "the provider's keys cannot be used", {
        reason: 'jwks',
        retryAfterSeconds: 5,
        cause: error,
      });
}
