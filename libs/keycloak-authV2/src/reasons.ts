/**
 * Why something was refused or failed: finer than the code, for log lines and metrics, never shown to a client. A
 * closed set, so that it can be a metric's label; docs/operate/troubleshooting.md explains each.
 */
export const REASONS = [
  // Authorization responses
  'no_login_state',
  'response_type',
  'response_invalid',
  'issuer_missing',
  'logged_out',
  // Tokens of the provider: ID Token, bearer token, logout token
  'missing',
  'too_large',
  'malformed',
  'type',
  'token_type',
  'signature',
  'algorithm',
  'key_unknown',
  'kid_missing',
  'critical_header',
  'issuer',
  'audience',
  'authorized_party',
  'subject',
  'nonce',
  'expired',
  'not_yet_valid',
  'issued_at',
  'lifetime',
  'auth_time',
  'acr',
  'claim_missing',
  'claim_invalid',
  'sender_constrained',
  'not_served',
  'events',
  'sub_or_sid',
  'jti',
  'replay',
  // OAuth's and OpenID Connect's own error codes
  'access_denied',
  'account_selection_required',
  'consent_required',
  'insufficient_scope',
  'interaction_required',
  'invalid_client',
  'invalid_dpop_proof',
  'invalid_grant',
  'invalid_request',
  'invalid_request_object',
  'invalid_request_uri',
  'invalid_scope',
  'invalid_target',
  'invalid_token',
  'login_required',
  'request_not_supported',
  'request_uri_not_supported',
  'server_error',
  'slow_down',
  'temporarily_unavailable',
  'unauthorized_client',
  'unmet_authentication_requirements',
  'unsupported_grant_type',
  'unsupported_response_type',
  'use_dpop_nonce',
  'other_error',
  // What `invalid_grant` stands for, where the provider says so
  'client_session_gone',
  'invalid_refresh_token',
  'refresh_expired',
  'reuse',
  'session_not_active',
  'stale_token',
  'user_disabled',
  'user_not_found',
  // Requests to the provider
  'answer_lost',
  'circuit_open',
  'clock',
  'discovery',
  'issuer_mismatch',
  'issuer_unconfirmed',
  'jwks',
  'keys_busy',
  'lease_wait',
  'malformed_answer',
  'metadata',
  'no_answer',
  'no_id_token',
  'overloaded',
  'permission_unknown',
  'timeout',
  'unexpected_status',
] as const;

export type RefusalReason = (typeof REASONS)[number];
/** Why a stored value does not open: for logs, metrics and quarantine, never for a client. */
export type UnreadableReason =
  | 'malformed'
  | 'too_large'
  | 'refused_by_policy'
  | 'unknown_kid'
  | 'no_plan_key'
  | 'not_authentic'
  | 'not_text';
/** Values that the job does not seal as they stand. */
export type UnsealableReason = 'empty' | 'too_long' | 'looks_sealed' | 'not_storable';
/** What an AuthError may say of itself. */
export type Reason = RefusalReason | UnreadableReason | UnsealableReason;

const KNOWN: ReadonlySet<string> = new Set(REASONS);

/** An `error` code of the provider as one of ours; what no specification names is `other_error`. */
export const oauthReason = (error: string): RefusalReason =>
  KNOWN.has(error) ? (error as RefusalReason) : 'other_error';

const MAX_SAID_LENGTH = 200;

/**
 * The provider's own words for the log: its `error` and `error_description`, without control characters and cut. Both
 * come from outside: a browser may bring an authorization response that no provider made.
 */
export function providerWords(error: unknown, description: unknown): string | undefined {
  const words = [error, description]
    .filter((text): text is string => typeof text === 'string' && text !== '')
    .join(': ')
    // Words as long as a token say nothing to an operator, and might be one.
    .replace(/[^\s]{65,}/gu, '…')
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]+/gu, ' ')
    .trim();
  return words === '' ? undefined : words.slice(0, MAX_SAID_LENGTH);
}
