import * as oidc from 'openid-client';
import { AuthError, isAuthError } from '../errors.js';
import { oauthReason, providerWords, type RefusalReason } from '../reasons.js';
import { record } from './identity.js';
import { claimReason } from './jwtFaults.js';

/** What was asked of the provider when it failed: the same answer means different things. */
export type ProviderCallKind = 'authorization' | 'refresh' | 'other';

/** Our own misconfiguration, which no waiting mends (RFC 6749 §5.2). */
const REJECTIONS = new Set([
  'invalid_client',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_request',
  'invalid_scope',
]);
const PASSING = new Set(['invalid_grant', 'temporarily_unavailable', 'slow_down', 'server_error']);
/**
 * Why Keycloak refuses a refresh token, by its words. For the audit trail only: what follows is decided by `error`, and
 * other words, or none, are told as `invalid_grant`.
 */
const GRANT_REFUSALS: Readonly<Record<string, RefusalReason>> = {
  'user disabled': 'user_disabled',
  'user not found': 'user_not_found',
  'session not active': 'session_not_active',
  'offline session not active': 'session_not_active',
  "session doesn't have required client": 'client_session_gone',
  'token is not active': 'refresh_expired',
  'refresh token expired': 'refresh_expired',
  'invalid refresh token': 'invalid_refresh_token',
  'stale token': 'stale_token',
  'maximum allowed refresh token reuse exceeded': 'reuse',
};
function grantRefusal(description: unknown): RefusalReason {
  const words = String(description).toLowerCase();
  return (
    (Object.hasOwn(GRANT_REFUSALS, words) ? GRANT_REFUSALS[words] : undefined) ?? 'invalid_grant'
  );
}

/**
 * An authorization response, or an answer to its code, that must not be accepted: openid-client's code and the rule.
 */
const UNACCEPTABLE: Readonly<Record<string, RefusalReason>> = {
  OAUTH_INVALID_RESPONSE: 'response_invalid',
  OAUTH_JWT_CLAIM_COMPARISON_FAILED: 'claim_invalid',
  OAUTH_JWT_TIMESTAMP_CHECK_FAILED: 'expired',
  OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED: 'subject',
  OAUTH_KEY_SELECTION_FAILED: 'kid_missing',
  OAUTH_UNSUPPORTED_OPERATION: 'critical_header',
};
/** However long the provider asks us to wait, its return is noticed within a minute. */
const MAX_RETRY_AFTER_SECONDS = 60;

/**
 * A failure by OAuth's `error` code and the HTTP status, never by text. Only a 400 `invalid_grant` says that a grant is
 * dead (RFC 6749 §5.2); whatever is no such clear word is `provider_unavailable`, which ends nothing.
 */
export function providerFault(error: unknown, kind: ProviderCallKind): AuthError {
  if (isAuthError(error)) return error;
  const providerSaid = saidBy(error);
  const rejected = (reason: RefusalReason): AuthError =>
    new AuthError('provider_rejected', 'the provider refuses this client', {
      reason,
      providerSaid,
      cause: error,
    });
  if (error instanceof oidc.AuthorizationResponseError) {
    return new AuthError(
      'callback_rejected',
      'the provider answered the authorization request with an error',
      { reason: oauthReason(error.error), providerSaid, cause: error },
    );
  }
  if (error instanceof oidc.ResponseBodyError && error.status < 500 && error.status !== 429) {
    if (error.error === 'invalid_grant' && error.status === 400) {
      return new AuthError('reauthentication_required', 'the provider ended the grant', {
        reason: grantRefusal(error.error_description),
        providerSaid,
        cause: error,
      });
    }
    // A refresh that is refused in words that nobody knows is tried again; any other grant is refused for good.
    if (REJECTIONS.has(error.error) || (kind !== 'refresh' && !PASSING.has(error.error)))
      return rejected(oauthReason(error.error));
  }
  if (error instanceof oidc.WWWAuthenticateChallengeError && error.status === 401)
    return rejected('invalid_client');
  const rule = kind === 'authorization' ? brokenRule(error) : null;
  if (rule !== null) {
    return new AuthError(
      'callback_rejected',
      'the authorization response or its ID Token is not acceptable',
      { reason: rule, cause: error },
    );
  }
  const retryAfterSeconds = retryAfter(responseOf(error));
  return new AuthError('provider_unavailable', 'the provider gives no usable answer', {
    reason: reasonOf(error),
    providerSaid,
    cause: error,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

/** Whether a resource of the provider does not take an access token (RFC 6750 §3.1). */
export const refusesToken = (error: unknown): boolean =>
  [401, 403].includes(responseOf(error)?.status ?? 0);

/** Which rule an answer breaks that openid-client does not accept; null where it is none of the answer's faults. */
function brokenRule(error: unknown): RefusalReason | null {
  if (!(error instanceof oidc.ClientError)) return null;
  const general = UNACCEPTABLE[error.code ?? ''];
  if (general === undefined) return null;
  // The library's own error, and in it what that was about.
  const about = record(record(error.cause)['cause']);
  if ('claim' in about) return claimReason(about['claim']);
  if (general === 'critical_header' && 'body' in about) return 'token_type';
  return general === 'response_invalid' ? brokenResponse(about) : general;
}

/** What is wrong with a response, where it is something that is set at the provider. */
function brokenResponse(about: Record<string, unknown>): RefusalReason {
  if ('header' in about) return 'algorithm';
  const { parameters } = about;
  if (parameters instanceof URLSearchParams && !parameters.get('iss')) return 'issuer_missing';
  if ('body' in about && record(about['body'])['id_token'] === undefined) return 'no_id_token';
  return 'response_invalid';
}

/** The provider's own words in an OAuth error. */
const saidBy = (error: unknown): string | undefined =>
  error instanceof oidc.ResponseBodyError || error instanceof oidc.AuthorizationResponseError
    ? providerWords(error.error, error.error_description)
    : undefined;

function reasonOf(error: unknown): RefusalReason {
  // What Keycloak says for a realm that is disabled.
  if (error instanceof oidc.ResponseBodyError && error.error === 'access_denied')
    return 'access_denied';
  const response = responseOf(error);
  if (response?.status === 429) return 'overloaded';
  if (response && response.status !== 200)
    return response.status >= 500 ? 'server_error' : 'unexpected_status';
  if (
    error instanceof DOMException ||
    (error instanceof Error && error.cause instanceof DOMException)
  )
    return 'timeout';
  return error instanceof TypeError ? 'no_answer' : 'malformed_answer';
}

function responseOf(error: unknown): Response | null {
  if (
    error instanceof oidc.ResponseBodyError ||
    error instanceof oidc.WWWAuthenticateChallengeError
  )
    return error.response;
  return error instanceof Error && error.cause instanceof Response ? error.cause : null;
}

/** Seconds, or a date (RFC 9110 §10.2.3); undefined when the provider named none. */
function retryAfter(response: Response | null): number | undefined {
  const value = response?.headers.get('retry-after')?.trim();
  if (!value) return undefined;
  const seconds = /^\d{1,9}$/.test(value)
    ? Number(value)
    : Math.ceil((Date.parse(value) - Date.now()) / 1000);
  return seconds > 0 ? Math.min(seconds, MAX_RETRY_AFTER_SECONDS) : undefined;
}
