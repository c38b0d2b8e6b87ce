import type { GuardError } from './errors.js';

export type Scheme = 'Bearer' | 'DPoP';

export interface ChallengeOptions {
  /** How the request came; null: with no credentials. */
  scheme: Scheme | null;
  realm: string | null;
  /** Of DPoP proofs; null: DPoP is not in use here. */
  dpopAlgorithms: readonly string[] | null;
  dpopRequired: boolean;
}

/**
 * The field `WWW-Authenticate` of a refusal (RFC 6750 §3, RFC 9449 §7.1 and §7.2, RFC 9470 §3): the error with the
 * scheme that was used, and beside it the other scheme that would do. Null where no other credentials would help.
 */
export function challengeOf(refused: GuardError, options: ChallengeOptions): string | null {
  if (refused.error === null && refused.code !== 'credentials_missing') return null;
  const { dpopAlgorithms, dpopRequired } = options;
  const ofProof = refused.error === 'invalid_dpop_proof' || refused.error === 'use_dpop_nonce';
  const used = ofProof ? 'DPoP' : options.scheme;
  const schemes: Scheme[] = [
    ...(dpopRequired ? [] : (['Bearer'] as const)),
    ...(dpopAlgorithms === null ? [] : (['DPoP'] as const)),
  ];
  // An error of a scheme that is not taken at all is told with one that is.
  const told = schemes.find((one) => one === used) ?? schemes[0];
  return schemes.map((scheme) => one(scheme, scheme === told ? refused : null, options)).join(', ');
}

function one(scheme: Scheme, refused: GuardError | null, options: ChallengeOptions): string {
  const parameters: Record<string, string | number> = {};
  if (options.realm !== null) parameters['realm'] = options.realm;
  if (refused !== null && refused.error !== null) {
    parameters['error'] = refused.error;
    parameters['error_description'] = refused.message;
    Object.assign(parameters, refused.challenge);
  }
  if (scheme === 'DPoP') parameters['algs'] = (options.dpopAlgorithms ?? []).join(' ');
  const text = Object.entries(parameters).map(([name, value]) => `${name}="${quotable(value)}"`);
  return [scheme, text.join(', ')].filter(Boolean).join(' ');
}

/** What may stand between quotes in a challenge (RFC 6750 §3), all else left out. */
const quotable = (value: string | number): string =>
  String(value).replace(/[^\x20-\x7e]|["\\]/g, '');
