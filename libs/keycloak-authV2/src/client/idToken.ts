import { compactVerify, type JWTPayload } from 'jose';
import { AuthError } from '../errors.js';
import type { RefusalReason } from '../reasons.js';
import { acrOf, meetsAcr } from './identity.js';
import { jwtFault, SIGNATURE_ALGORITHMS } from './jwtFaults.js';
import type { ProviderKeySet } from './providerKeys.js';

/** OpenID Connect Core §2. */
const MAX_SUBJECT_LENGTH = 255;

/**
 * What the provider may sign ID Tokens and logout tokens with: `only` where that is set, else what its metadata lists
 * (`id_token_signing_alg_values_supported`), shared secrets left out; RS256 where it lists nothing of use.
 */
export function signedWith(
  only: string | undefined,
  listed: readonly string[] | undefined,
): string[] {
  if (only !== undefined) return [only];
  const usable = SIGNATURE_ALGORITHMS.filter((name) => listed?.includes(name));
  return usable.length > 0 ? usable : ['RS256'];
}

/**
 * Holds a login's ID Token to what openid-client leaves open: its signature, by the realm's keys even where TLS would
 * do; a `sub` of 1 to 255 characters; an `azp` that is ours; an `acr` that is one of those wanted (§3.1.3.7).
 * @throws AuthError `callback_rejected`, or `provider_unavailable` when the keys cannot be fetched
 */
export async function verifyIdToken(
  idToken: string,
  claims: JWTPayload,
  expected: {
    keys: ProviderKeySet;
    algorithms: string[];
    clientId: string;
    acrValues?: string | undefined;
  },
): Promise<void> {
  const { sub, azp } = claims;
  if (!isIdentifier(sub)) throw refused('subject');
  if (azp !== undefined && azp !== expected.clientId) throw refused('authorized_party');
  const { algorithms, keys, acrValues } = expected;
  await compactVerify(idToken, keys, { algorithms }).catch((error: unknown) => {
    throw jwtFault(error, 'callback_rejected');
  });
  if (acrValues !== undefined && !meetsAcr(acrOf(claims), acrValues)) throw refused('acr');
}

/**
 * Whether a claim is a text that can name a person, a session or a token, and that PostgreSQL stores as it is: another
 * one must not become the same.
 */
export const isIdentifier = (claim: unknown): claim is string =>
  typeof claim === 'string' &&
  claim.length > 0 &&
  claim.length <= MAX_SUBJECT_LENGTH &&
  !claim.includes('\0') &&
  Buffer.from(claim, 'utf8').toString('utf8') === claim;

const refused = (reason: RefusalReason): AuthError =>
  new AuthError('callback_rejected', 'the ID Token is not acceptable', { reason });
