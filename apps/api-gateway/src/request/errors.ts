import { isStorageUnavailable } from '@session-gateway/database';
import { type AuthErrorCode, isAuthError, type KeyErrorCode } from '@session-gateway/keycloak-auth';

/** Every way in which a request can fail, as clients see it. */
export type ProblemCode =
  | Exclude<AuthErrorCode, KeyErrorCode>
  | 'session_not_found'
  | 'session_expired'
  | 'insufficient_user_authentication'
  | 'cookie_ambiguous'
  | 'csrf_rejected'
  | 'navigation_required'
  | 'return_to_rejected'
  | 'path_ambiguous'
  | 'request_invalid'
  | 'method_not_allowed'
  | 'request_too_large'
  | 'address_too_long'
  | 'headers_too_large'
  | 'request_timeout'
  | 'rate_limited'
  | 'forbidden'
  | 'not_found'
  | 'upstream_unavailable'
  | 'upstream_timeout'
  | 'internal_error';

/** What helps a person who meets a problem: the first thing that its page offers. */
export type WayOn = 'login' | 'retry' | 'home';

interface ProblemKind {
  readonly status: number;
  readonly title: string;
  readonly way: WayOn;
  /** The session is over for good: the browser's cookie goes too. */
  readonly clearsCookie?: true;
}

/**
 * Code to status, title, way on and cookie effect; the only place where that is decided. Its
 * pages have their own words.
 */
export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = {
  session_not_found: {
    status: 401,
    way: 'login',
    title: 'There is no such session. Log in.',
    clearsCookie: true,
  },
  session_expired: {
    status: 401,
    way: 'login',
    title: 'The session has expired. Log in again.',
    clearsCookie: true,
  },
  reauthentication_required: {
    status: 401,
    way: 'login',
    title: 'The provider has ended the session. Log in again.',
    clearsCookie: true,
  },
  insufficient_user_authentication: {
    status: 401,
    way: 'login',
    title: 'This asks for a stronger login. Log in again.',
  },
  bearer_invalid: { status: 401, way: 'home', title: 'The bearer token is not acceptable.' },
  forbidden: { status: 403, way: 'home', title: 'You may not do this.' },
  csrf_rejected: {
    status: 403,
    way: 'home',
    title: "The request does not come from this site's own pages.",
  },
  navigation_required: {
    status: 403,
    way: 'login',
    title: 'Logging in works only as a page of its own, not inside another.',
  },
  callback_rejected: {
    status: 400,
    way: 'login',
    title: 'The login could not be completed. Start again.',
  },
  return_to_rejected: {
    status: 400,
    way: 'login',
    title: 'return_to must be a path of this site.',
  },
  cookie_ambiguous: {
    status: 400,
    way: 'retry',
    title: "The request has two session cookies. Delete this site's cookies and log in again.",
  },
  logout_token_invalid: { status: 400, way: 'home', title: 'The logout token is not acceptable.' },
  path_ambiguous: { status: 400, way: 'home', title: 'The path could be read in two ways.' },
  request_invalid: { status: 400, way: 'home', title: 'The request is not valid.' },
  method_not_allowed: { status: 405, way: 'home', title: 'This method is not served here.' },
  request_too_large: { status: 413, way: 'home', title: 'The request is too large.' },
  address_too_long: { status: 414, way: 'home', title: 'The address is too long.' },
  headers_too_large: { status: 431, way: 'retry', title: "The request's headers are too large." },
  request_timeout: { status: 408, way: 'retry', title: 'The request took too long to arrive.' },
  rate_limited: {
    status: 429,
    way: 'retry',
    title: 'Too many attempts from this address. Try again later.',
  },
  not_found: { status: 404, way: 'home', title: 'There is nothing here.' },
  token_unreadable: {
    status: 500,
    way: 'retry',
    title: 'A stored token cannot be read. The session is kept; the operator has been told.',
  },
  internal_error: { status: 500, way: 'retry', title: 'Something went wrong here.' },
  provider_rejected: {
    status: 502,
    way: 'retry',
    title:
      'The identity provider refuses this gateway. The session is kept; the operator has been told.',
  },
  upstream_unavailable: {
    status: 502,
    way: 'retry',
    title: 'The service behind this path cannot be reached.',
  },
  provider_unavailable: {
    status: 503,
    way: 'retry',
    title: 'The identity provider cannot be reached just now. The session is kept; try again.',
  },
  storage_unavailable: {
    status: 503,
    way: 'retry',
    title: 'The session storage cannot be reached just now. The session is kept; try again.',
  },
  upstream_timeout: {
    status: 504,
    way: 'retry',
    title: 'The service behind this path takes too long.',
  },
};

/**
 * Every 401 says what would do (RFC 9110 §15.5.2). No scheme is registered for a cookie; browsers pass over this one.
 */
const LOGIN_CHALLENGE = 'Cookie form-action="/auth/login"';
/** A bearer token is asked for and none came: no error code then (RFC 6750 §3.1). */
export const BEARER_CHALLENGE = 'Bearer';
export const ANY_CHALLENGE = `${BEARER_CHALLENGE}, ${LOGIN_CHALLENGE}`;

/** A failure with its code; everything that is thrown becomes one before it is answered. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly retryAfterSeconds: number | undefined;
  /** What another login would have to bring (`acr_values`): printable ASCII without quotes. */
  readonly acrValues: string | undefined;
  readonly #allow: readonly string[] | undefined;
  readonly #challenge: string | undefined;

  /**
   * `allow`: the methods that would do, which a 405 has to say (RFC 9110 §15.5.6). `challenge`: what a 401 asks for
   * where that is not what its code asks for.
   */
  constructor(
    readonly code: ProblemCode,
    options: {
      retryAfterSeconds?: number | undefined;
      allow?: readonly string[];
      challenge?: string;
      acrValues?: string;
      cause?: unknown;
    } = {},
  ) {
    super(PROBLEMS[code].title, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.acrValues = options.acrValues;
    this.#allow = options.allow;
    this.#challenge = options.challenge;
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }

  get way(): WayOn {
    return PROBLEMS[this.code].way;
  }

  get clearsCookie(): boolean {
    return PROBLEMS[this.code].clearsCookie === true;
  }

  /** RFC 9457 `application/problem+json` with our stable `code`. */
  body(): string {
    return JSON.stringify({
      type: 'about:blank',
      title: PROBLEMS[this.code].title,
      status: this.status,
      code: this.code,
    });
  }

  headers(): Record<string, string> {
    return {
      'Content-Type': 'application/problem+json',
      'Cache-Control': 'no-store',
      ...(this.retryAfterSeconds === undefined
        ? {}
        : { 'Retry-After': String(this.retryAfterSeconds) }),
      ...(this.#allow === undefined ? {} : { Allow: this.#allow.join(', ') }),
      ...(this.status === 401 ? { 'WWW-Authenticate': this.#challengeOfCode() } : {}),
    };
  }

  #challengeOfCode(): string {
    if (this.#challenge !== undefined) return this.#challenge;
    // RFC 9470 §3.
    if (this.acrValues !== undefined)
      return `Bearer error="insufficient_user_authentication", error_description="A stronger authentication is required", acr_values="${this.acrValues}"`;
    return this.code === 'bearer_invalid' ? 'Bearer error="invalid_token"' : LOGIN_CHALLENGE;
  }
}

const STORAGE_RETRY_AFTER_SECONDS = 2;

const isProblemCode = (code: string): code is ProblemCode => Object.hasOwn(PROBLEMS, code);

export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  // Before storage: a provider that cannot be reached is known by the same system errors, deeper down.
  if (isAuthError(error) && isProblemCode(error.code)) {
    const retryAfterSeconds =
      error.code === 'provider_unavailable' || error.code === 'storage_unavailable'
        ? (error.retryAfterSeconds ?? 2)
        : undefined;
    return new Problem(error.code, { retryAfterSeconds, cause: error });
  }
  if (isStorageUnavailable(error))
    return new Problem('storage_unavailable', {
      retryAfterSeconds: STORAGE_RETRY_AFTER_SECONDS,
      cause: error,
    });
  return new Problem('internal_error', { cause: error });
}
