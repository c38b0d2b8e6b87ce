import { type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { SIGNATURE_ALGORITHMS } from '../../client/KeycloakClient.js';
import { AuthError } from '../../errors.js';
import { COMPACT_JWT, jwtFault, mediaTypeOf } from '../token/JWTValidator.js';

/** What a logout token asks for: the end of one session of the provider, or of all of a subject's. */
export interface LogoutRequest {
  readonly subject: string | null;
  readonly sid: string | null;
  readonly jti: string;
  readonly expiresAt: Date;
}

const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout';
const CLOCK_TOLERANCE_SECONDS = 15;
/** A logout token is for now: an older one is refused even if it is still valid. */
const MAX_AGE_SECONDS = 600;

/**
 * Validates a logout token: OpenID Connect Back-Channel Logout 1.0 §2.6, with `iat`, `exp` and `jti` required. Whether
 * the `jti` was seen before is for the caller to decide, in the transaction that ends the sessions.
 * @throws AuthError `logout_token_invalid`, or `provider_unavailable` when the keys cannot be fetched
 */
export async function validateLogoutToken(
  token: string,
  options: { issuer: string; clientId: string; jwks: () => Promise<JWTVerifyGetKey>; typ: 'required' | 'if-present'; now?: () => number },
): Promise<LogoutRequest> {
  if (!COMPACT_JWT.test(token)) throw refused('malformed');
  const jwks = await options.jwks();
  let verified: { payload: JWTPayload; protectedHeader: { typ?: unknown } };
  try {
    verified = await jwtVerify(token, jwks, {
      issuer: options.issuer,
      audience: options.clientId,
      algorithms: SIGNATURE_ALGORITHMS,
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      maxTokenAge: MAX_AGE_SECONDS,
      requiredClaims: ['iat', 'exp', 'jti', 'events'],
      ...(options.now ? { currentDate: new Date(options.now()) } : {}),
    });
  } catch (error) {
    throw jwtFault(error, 'logout_token_invalid');
  }
  const { payload, protectedHeader } = verified;
  const typ = mediaTypeOf(protectedHeader.typ);
  if (typ === undefined ? options.typ === 'required' : typ !== 'logout+jwt') throw refused('typ');
  if ('nonce' in payload) throw refused('nonce');
  const events: unknown = payload['events'];
  const event = typeof events === 'object' && events !== null ? (events as Record<string, unknown>)[LOGOUT_EVENT] : undefined;
  if (typeof event !== 'object' || event === null || Array.isArray(event)) throw refused('events');
  const { sub, sid, jti, exp } = payload as JWTPayload & { sid?: unknown };
  if ((sub !== undefined && !isText(sub)) || (sid !== undefined && !isText(sid)) || (sub === undefined && sid === undefined)) throw refused('sub_or_sid');
  if (!isText(jti)) throw refused('jti');
  const expiresAt = new Date((exp ?? 0) * 1000);
  // A number may be beyond all dates.
  if (Number.isNaN(expiresAt.getTime())) throw refused('exp');
  return { subject: sub ?? null, sid: isText(sid) ? sid : null, jti, expiresAt };
}

/** PostgreSQL takes no NUL in a text. */
const isText = (value: unknown): value is string => typeof value === 'string' && value.length > 0 && value.length <= 255 && !value.includes('\0');
const refused = (reason: string): AuthError => new AuthError('logout_token_invalid', 'the token is not acceptable', { reason });
