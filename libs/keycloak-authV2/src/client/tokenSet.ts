import { decodeJwt, type JWTPayload } from 'jose';
import type * as oidc from 'openid-client';
import { AuthError } from '../errors.js';
import { keptToken } from './dpop.js';
import { type Identity, identityOf } from './identity.js';

/** The provider's answer to a grant. A refresh may leave out what stays as it was (RFC 6749 §6): null then. */
export interface TokenSet {
  /** As it is kept: see `credentialOf`. */
  readonly accessToken: string;
  readonly refreshToken: string | null;
  readonly idToken: string | null;
  readonly tokenExpiresAt: Date;
  readonly tokenLifetimeSeconds: number;
  /** Null when the provider sets no bound (`refresh_expires_in` 0 or absent). */
  readonly refreshExpiresAt: Date | null;
  readonly identity: Identity;
}

type Answer = oidc.TokenEndpointResponse & oidc.TokenEndpointResponseHelpers;

const DEFAULT_TOKEN_LIFETIME_SECONDS = 60;
/** Whatever an answer claims: a date beyond this cannot be stored. */
const MAX_LIFETIME_SECONDS = 315_360_000;
/** An `iat` that is further from our clock than this says that one of the clocks is wrong. */
const MAX_CLOCK_DIFFERENCE_SECONDS = 10;

/**
 * What a token answer comes to. `knownSubject` stands in where it brings no ID Token. An ID Token about another subject
 * than that is told as it is, and nothing is asked in the name of its access token (OpenID Connect Core §12.2).
 * @throws AuthError `provider_rejected` where nothing names a subject
 */
export async function tokenSetOf(
  response: Answer,
  options: {
    knownSubject: string | null;
    askUserinfo?: ((subject: string) => Promise<Record<string, unknown> | null>) | undefined;
    /** Of the key that new tokens are bound to. */
    thumbprint: string | undefined;
  },
): Promise<TokenSet> {
  const { knownSubject, askUserinfo, thumbprint } = options;
  const now = Date.now();
  const idClaims: JWTPayload = response.claims() ?? {};
  const subject = idClaims.sub ?? knownSubject;
  if (subject === null)
    throw new AuthError('provider_rejected', 'the provider sent no ID Token', {
      reason: 'no_id_token',
    });
  const isAnother = knownSubject !== null && subject !== knownSubject;
  const userinfo = askUserinfo && !isAnother ? await askUserinfo(subject) : {};
  const { access_token: token, token_type: type } = response;
  const accessClaims = claimsOf(token);
  const expiresAt = expiryOf(response, now);
  const refreshSeconds = Math.min(
    Number(response['refresh_expires_in'] ?? 0),
    MAX_LIFETIME_SECONDS,
  );
  return {
    accessToken: keptToken(token, type, thumbprint),
    refreshToken: response.refresh_token ?? null,
    idToken: response.id_token ?? null,
    tokenExpiresAt: expiresAt,
    tokenLifetimeSeconds: Math.round((expiresAt.getTime() - now) / 1000),
    refreshExpiresAt: refreshSeconds > 0 ? new Date(now + refreshSeconds * 1000) : null,
    identity: identityOf(
      typeof userinfo?.['sub'] === 'string' ? userinfo['sub'] : subject,
      accessClaims,
      userinfo,
      idClaims,
    ),
  };
}

/**
 * When an access token ends: the earlier of what the answer says (`expires_in`, from now on) and what the token says
 * itself (`exp`, by the provider's clock), since those that it is shown to go by the latter.
 */
export function expiryOf(
  { access_token: token, expires_in: expiresIn }: oidc.TokenEndpointResponse,
  now: number,
): Date {
  const { exp, iat } = claimsOf(token);
  const own = typeof exp === 'number' ? exp - now / 1000 : undefined;
  const isClockWrong =
    typeof iat === 'number' && Math.abs(iat - now / 1000) > MAX_CLOCK_DIFFERENCE_SECONDS;
  // Between clocks that differ only a length of time means the same.
  const left = isClockWrong && typeof exp === 'number' ? exp - iat : own;
  const seconds = Math.min(
    expiresIn ?? left ?? DEFAULT_TOKEN_LIFETIME_SECONDS,
    left ?? Infinity,
    MAX_LIFETIME_SECONDS,
  );
  return new Date(now + Math.max(0, seconds) * 1000);
}

/**
 * An access token is opaque to a client; where it is a JWT that came straight from the token endpoint
 * its claims are good to read.
 */
function claimsOf(token: string): JWTPayload {
  try {
    return decodeJwt(token);
  } catch {
    return {};
  }
}
