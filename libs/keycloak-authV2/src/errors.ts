import type { Reason } from './reasons.js';

/**
 * Every way in which this library fails; the gateway's table maps each code to a status, a cookie effect and a metric.
 */
export type AuthErrorCode =
  | 'keyring_invalid'
  | 'key_provider_rejected'
  | 'key_provider_unavailable'
  | 'token_unreadable'
  | 'provider_unavailable'
  | 'provider_rejected'
  | 'storage_unavailable'
  | 'reauthentication_required'
  | 'callback_rejected'
  | 'logout_token_invalid'
  | 'bearer_invalid';

/** Those that only a start, a reload or a command meets, never a request. */
export type KeyErrorCode = Extract<AuthErrorCode, `key${string}`>;

export interface AuthErrorOptions {
  /** Finer than the code, for logs and metrics; never shown to a client. */
  reason?: Reason | undefined;
  /** The provider's own `error` and `error_description`, as `providerWords` makes them. */
  providerSaid?: string | undefined;
  /** Seconds after which another try is worthwhile (RFC 9110 §10.2.3). */
  retryAfterSeconds?: number | undefined;
  cause?: unknown;
}

/** The one error class of this library. Messages are for operators and hold no token, key, cookie or ciphertext. */
export class AuthError extends Error {
  override readonly name = 'AuthError';
  readonly reason: Reason | undefined;
  readonly providerSaid: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    readonly code: AuthErrorCode,
    message: string,
    options: AuthErrorOptions = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = options.reason;
    this.providerSaid = options.providerSaid;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export function isAuthError<Code extends AuthErrorCode>(
  error: unknown,
  ...codes: Code[]
): error is AuthError & { code: Code } {
  return (
    error instanceof AuthError &&
    (codes.length === 0 || (codes as AuthErrorCode[]).includes(error.code))
  );
}
