import * as oidc from 'openid-client';
import { AuthError, isAuthError } from '../errors.js';

/** What was asked of the provider when it failed: the same answer means different things. */
export type ProviderCallKind = 'authorization' | 'refresh' | 'other';

/** Our own misconfiguration, which no waiting mends (RFC 6749 §5.2). */
const REJECTIONS = new Set(['invalid_client', 'unauthorized_client', 'unsupported_grant_type', 'invalid_request', 'invalid_scope']);
const PASSING = new Set(['invalid_grant', 'temporarily_unavailable', 'slow_down', 'server_error']);
/** An authorization response or ID Token that must not be accepted. */
const UNACCEPTABLE = new Set([
  'OAUTH_INVALID_RESPONSE', 'OAUTH_JWT_CLAIM_COMPARISON_FAILED', 'OAUTH_JWT_TIMESTAMP_CHECK_FAILED', 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED', 'OAUTH_KEY_SELECTION_FAILED',
]);
/** However long the provider asks us to wait, its return is noticed within a minute. */
const MAX_RETRY_AFTER_SECONDS = 60;

/**
 * A failure by OAuth's `error` code and the HTTP status, never by text. Only a 400 `invalid_grant` says that a grant is
 * dead (RFC 6749 §5.2); whatever is no such clear word is `provider_unavailable`, which ends nothing.
 */
export function providerFault(error: unknown, kind: ProviderCallKind): AuthError {
  if (isAuthError(error)) return error;
  const rejected = (reason: string): AuthError => new AuthError('provider_rejected', 'the provider refuses this client', { reason, cause: error });
  if (error instanceof oidc.AuthorizationResponseError) {
    return new AuthError('callback_rejected', 'the provider answered the authorization request with an error', { reason: error.error, cause: error });
  }
  if (error instanceof oidc.ResponseBodyError && error.status < 500 && error.status !== 429) {
    if (error.error === 'invalid_grant' && error.status === 400) {
      return new AuthError('reauthentication_required', 'the provider ended the grant', { reason: 'invalid_grant', cause: error });
    }
    // A refresh that is refused in words that nobody knows is tried again; any other grant is refused for good.
    if (REJECTIONS.has(error.error) || (kind !== 'refresh' && !PASSING.has(error.error))) return rejected(error.error);
  }
  if (error instanceof oidc.WWWAuthenticateChallengeError && error.status === 401) return rejected('invalid_client');
  if (kind === 'authorization' && error instanceof oidc.ClientError && UNACCEPTABLE.has(error.code ?? '')) {
    return new AuthError('callback_rejected', 'the authorization response or its ID Token is not acceptable', { reason: error.code ?? 'invalid_response', cause: error });
  }
  const retryAfterSeconds = retryAfter(responseOf(error));
  return new AuthError('provider_unavailable', 'the provider gives no usable answer', {
    reason: reasonOf(error), cause: error, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

/** Whether a resource of the provider does not take an access token (RFC 6750 §3.1). */
export const refusesToken = (error: unknown): boolean => [401, 403].includes(responseOf(error)?.status ?? 0);

function reasonOf(error: unknown): string {
  const response = responseOf(error);
  if (response && response.status !== 200) return response.status === 429 ? 'overloaded' : response.status >= 500 ? 'server_error' : 'unexpected_status';
  if (error instanceof DOMException || (error instanceof Error && error.cause instanceof DOMException)) return 'timeout';
  return error instanceof TypeError ? 'no_answer' : 'malformed_answer';
}

function responseOf(error: unknown): Response | null {
  if (error instanceof oidc.ResponseBodyError || error instanceof oidc.WWWAuthenticateChallengeError) return error.response;
  return error instanceof Error && error.cause instanceof Response ? error.cause : null;
}

/** Seconds, or a date (RFC 9110 §10.2.3); undefined when the provider named none. */
function retryAfter(response: Response | null): number | undefined {
  const value = response?.headers.get('retry-after')?.trim();
  if (!value) return undefined;
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : Math.ceil((Date.parse(value) - Date.now()) / 1000);
  return seconds > 0 ? Math.min(seconds, MAX_RETRY_AFTER_SECONDS) : undefined;
}
