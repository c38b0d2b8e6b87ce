import { errors } from 'jose';

/** Signatures that are taken: asymmetric ones only, never a shared secret, never none. */
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

/** @throws TypeError when the list is empty or has an algorithm that is not asymmetric */
export function checkedAlgorithms(list: readonly string[] | undefined): string[] {
  const algorithms = [...(list ?? SIGNATURE_ALGORITHMS)];
  const wrong = algorithms.filter((one) => !SIGNATURE_ALGORITHMS.includes(one));
  if (wrong.length > 0 || algorithms.length === 0)
    throw new TypeError(
      `algorithms: ${wrong.join(', ') || 'an empty list'}; possible are ${SIGNATURE_ALGORITHMS.join(', ')}`,
    );
  return algorithms;
}

/** Which rule a JWT breaks; `unusable` for a key or signature that the algorithm cannot take. */
export type JwtFault =
  'malformed' | 'algorithm' | 'key_unknown' | 'signature' | 'expired' | 'claim' | 'unusable';

export function faultOf(error: unknown): { fault: JwtFault; claim?: string } {
  if (error instanceof errors.JWTExpired) return { fault: 'expired' };
  if (error instanceof errors.JWTClaimValidationFailed)
    return { fault: 'claim', claim: error.claim };
  if (error instanceof errors.JWSSignatureVerificationFailed) return { fault: 'signature' };
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return { fault: 'key_unknown' };
  if (error instanceof errors.JOSEAlgNotAllowed) return { fault: 'algorithm' };
  if (error instanceof errors.JOSEError) return { fault: 'malformed' };
  return { fault: 'unusable' };
}
