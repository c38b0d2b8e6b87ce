import { type JWTPayload, jwtVerify } from 'jose';
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

/** What a logout token asks for: the end of one session of the provider, or of all of a subject's. */
export interface LogoutRequest {
  readonly subject: string | null;
  readonly sid: string | null;
  readonly jti: string;
  readonly expiresAt: Date;
}

const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout';
/** The `jti` is remembered until the end: one that is years away is refused. */
const MAX_LIFETIME_SECONDS = 86_400;

/**
 * Validates a logout token: OpenID Connect Back-Channel Logout 1.0 §2.6, with `iat`, `exp` and `jti` required. Whether
 * the `jti` was seen before is for the caller to decide, in the transaction that ends the sessions.
 * @throws AuthError `logout_token_invalid`, or `provider_unavailable` when the keys cannot be fetched
 */
export async function validateLogoutToken(
  token: string,
  options: {
    issuer: string;
    clientId: string;
    jwks: () => Promise<ProviderKeySet>;
    /** Default: any that is no shared secret. */
    algorithms?: readonly string[];
    typ: 'required' | 'if-present';
    now?: () => number;
  },
): Promise<LogoutRequest> {
  if (!COMPACT_JWT.test(token)) throw refused('malformed');
  const jwks = await options.jwks();
  let verified: { payload: JWTPayload; protectedHeader: { typ?: unknown } };
  try {
    verified = await jwtVerify(token, jwks, {
      issuer: options.issuer,
      audience: options.clientId,
      algorithms: [...(options.algorithms ?? SIGNATURE_ALGORITHMS)],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      requiredClaims: ['iat', 'exp', 'jti', 'events'],
      ...(options.now ? { currentDate: new Date(options.now()) } : {}),
    });
  } catch (error) {
    throw jwtFault(error, 'logout_token_invalid');
  }
  const { payload, protectedHeader } = verified;
  const typ = mediaTypeOf(protectedHeader.typ);
  if (typ === undefined ? options.typ === 'required' : typ !== 'logout+jwt') throw refused('type');
  if ('nonce' in payload) throw refused('nonce');
  const events: unknown = payload['events'];
  const event =
    typeof events === 'object' && events !== null
      ? (events as Record<string, unknown>)[LOGOUT_EVENT]
      : undefined;
  if (typeof event !== 'object' || event === null || Array.isArray(event)) throw refused('events');
  const { sub, sid, jti, exp = 0, iat = 0 } = payload as JWTPayload & { sid?: unknown };
  if (
    (sub !== undefined && !isIdentifier(sub)) ||
    (sid !== undefined && !isIdentifier(sid)) ||
    (sub === undefined && sid === undefined)
  )
    throw refused('sub_or_sid');
  // All three are stored, and held to the same rule.
  if (!isIdentifier(jti)) throw refused('jti');
  const nowSeconds = (options.now?.() ?? Date.now()) / 1000;
  if (iat > nowSeconds + CLOCK_TOLERANCE_SECONDS) throw refused('issued_at');
  if (exp - Math.min(iat, nowSeconds) > MAX_LIFETIME_SECONDS) throw refused('lifetime');
  const expiresAt = new Date(exp * 1000);
  return { subject: sub ?? null, sid: isIdentifier(sid) ? sid : null, jti, expiresAt };
}

const refused = (reason: RefusalReason): AuthError =>
  new AuthError('logout_token_invalid', 'the token is not acceptable', { reason });
