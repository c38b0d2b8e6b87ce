import { isStorageUnavailable } from '@session-gateway/database';
import { type AuthErrorCode, isAuthError, type KeyErrorCode } from '@session-gateway/keycloak-auth';

/** Every way in which a request can fail, as clients see it. */
export type ProblemCode =
  | Exclude<AuthErrorCode, KeyErrorCode>
  | 'session_not_found' | 'session_expired' | 'cookie_ambiguous' | 'csrf_rejected' | 'navigation_required' | 'return_to_rejected'
  | 'path_ambiguous' | 'request_invalid' | 'method_not_allowed' | 'request_too_large' | 'address_too_long' | 'headers_too_large' | 'request_timeout' | 'rate_limited' | 'forbidden' | 'not_found'
  | 'storage_unavailable' | 'upstream_unavailable' | 'upstream_timeout' | 'internal_error';

interface ProblemKind {
  readonly status: number;
  readonly title: string;
  /** The session is over for good: the browser's cookie goes too. */
  readonly clearsCookie?: true;
}

/** Code to status, title and cookie effect; the only place where that is decided. */
export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = {
  session_not_found: { status: 401, title: 'There is no such session. Log in.', clearsCookie: true },
  session_expired: { status: 401, title: 'The session has expired. Log in again.', clearsCookie: true },
  reauthentication_required: { status: 401, title: 'The provider has ended the session. Log in again.', clearsCookie: true },
  bearer_invalid: { status: 401, title: 'The bearer token is not acceptable.' },
  forbidden: { status: 403, title: 'You may not do this.' },
  csrf_rejected: { status: 403, title: 'The request does not come from this site\'s own pages.' },
  navigation_required: { status: 403, title: 'Logging in works only as a page of its own, not inside another.' },
  callback_rejected: { status: 400, title: 'The login could not be completed. Start again.' },
  return_to_rejected: { status: 400, title: 'return_to must be a path of this site.' },
  cookie_ambiguous: { status: 400, title: 'The request has two session cookies. Delete this site\'s cookies and log in again.' },
  logout_token_invalid: { status: 400, title: 'The logout token is not acceptable.' },
  path_ambiguous: { status: 400, title: 'The path could be read in two ways.' },
  request_invalid: { status: 400, title: 'The request is not valid.' },
  method_not_allowed: { status: 405, title: 'This method is not served here.' },
  request_too_large: { status: 413, title: 'The request is too large.' },
  address_too_long: { status: 414, title: 'The address is too long.' },
  headers_too_large: { status: 431, title: 'The request\'s headers are too large.' },
  request_timeout: { status: 408, title: 'The request took too long to arrive.' },
  rate_limited: { status: 429, title: 'Too many attempts from this address. Try again later.' },
  not_found: { status: 404, title: 'There is nothing here.' },
  token_unreadable: { status: 500, title: 'A stored token cannot be read. The session is kept; the operator has been told.' },
  internal_error: { status: 500, title: 'Something went wrong here.' },
  provider_rejected: { status: 502, title: 'The identity provider refuses this gateway. The session is kept; the operator has been told.' },
  upstream_unavailable: { status: 502, title: 'The service behind this path cannot be reached.' },
  provider_unavailable: { status: 503, title: 'The identity provider cannot be reached just now. The session is kept; try again.' },
  storage_unavailable: { status: 503, title: 'The session storage cannot be reached just now. The session is kept; try again.' },
  upstream_timeout: { status: 504, title: 'The service behind this path takes too long.' },
};

/** A failure with its code; everything that is thrown becomes one before it is answered. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly retryAfterSeconds: number | undefined;
  readonly #allow: readonly string[] | undefined;

  /** `allow`: the methods that would do, which a 405 has to say (RFC 9110 §15.5.6). */
  constructor(readonly code: ProblemCode, options: { retryAfterSeconds?: number | undefined; allow?: readonly string[]; cause?: unknown } = {}) {
    super(PROBLEMS[code].title, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.#allow = options.allow;
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }

  get clearsCookie(): boolean {
    return PROBLEMS[this.code].clearsCookie === true;
  }

  /** RFC 9457 `application/problem+json` with our stable `code`. */
  body(): string {
    return JSON.stringify({ type: 'about:blank', title: PROBLEMS[this.code].title, status: this.status, code: this.code });
  }

  headers(): Record<string, string> {
    return {
      'Content-Type': 'application/problem+json',
      'Cache-Control': 'no-store',
      ...(this.retryAfterSeconds === undefined ? {} : { 'Retry-After': String(this.retryAfterSeconds) }),
      ...(this.#allow === undefined ? {} : { Allow: this.#allow.join(', ') }),
      ...(this.code === 'bearer_invalid' ? { 'WWW-Authenticate': 'Bearer error="invalid_token"' } : {}),
    };
  }
}

const STORAGE_RETRY_AFTER_SECONDS = 2;

const isProblemCode = (code: string): code is ProblemCode => Object.hasOwn(PROBLEMS, code);

export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  // Before storage: a provider that cannot be reached is known by the same system errors, deeper down.
  if (isAuthError(error) && isProblemCode(error.code)) {
    const retryAfterSeconds = error.code === 'provider_unavailable' ? (error.retryAfterSeconds ?? 2) : undefined;
    return new Problem(error.code, { retryAfterSeconds, cause: error });
  }
  if (isStorageUnavailable(error)) return new Problem('storage_unavailable', { retryAfterSeconds: STORAGE_RETRY_AFTER_SECONDS, cause: error });
  return new Problem('internal_error', { cause: error });
}
