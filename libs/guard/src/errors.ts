/** What each refusal answers: a status, and OAuth's error code in the challenge where it has one. */
const CODES = {
  credentials_missing: [401, null],
  request_invalid: [400, 'invalid_request'],
  token_malformed: [401, 'invalid_token'],
  token_algorithm: [401, 'invalid_token'],
  token_key_unknown: [401, 'invalid_token'],
  token_signature: [401, 'invalid_token'],
  token_type: [401, 'invalid_token'],
  token_issuer: [401, 'invalid_token'],
  token_audience: [401, 'invalid_token'],
  token_party: [401, 'invalid_token'],
  token_expired: [401, 'invalid_token'],
  token_not_yet_valid: [401, 'invalid_token'],
  token_claims: [401, 'invalid_token'],
  token_revoked: [401, 'invalid_token'],
  token_bound: [401, 'invalid_token'],
  token_not_bound: [401, 'invalid_token'],
  proof_missing: [401, 'invalid_dpop_proof'],
  proof_malformed: [401, 'invalid_dpop_proof'],
  proof_algorithm: [401, 'invalid_dpop_proof'],
  proof_signature: [401, 'invalid_dpop_proof'],
  proof_key: [401, 'invalid_dpop_proof'],
  proof_request: [401, 'invalid_dpop_proof'],
  proof_time: [401, 'invalid_dpop_proof'],
  proof_token: [401, 'invalid_dpop_proof'],
  proof_replayed: [401, 'invalid_dpop_proof'],
  nonce_required: [401, 'use_dpop_nonce'],
  role_missing: [403, 'insufficient_scope'],
  scope_missing: [403, 'insufficient_scope'],
  permission_denied: [403, 'insufficient_scope'],
  not_allowed: [403, 'insufficient_scope'],
  authentication_insufficient: [401, 'insufficient_user_authentication'],
  issuer_rejected: [502, null],
  issuer_unavailable: [503, null],
  replay_memory_full: [503, null],
  replay_memory_unavailable: [503, null],
} as const satisfies Record<string, readonly [number, string | null]>;

/** Every way in which the guard refuses a request. */
export type GuardErrorCode = keyof typeof CODES;

/** All codes with their status, for tables and tests. */
export const GUARD_ERROR_STATUS: Readonly<Record<GuardErrorCode, number>> = Object.fromEntries(
  Object.entries(CODES).map(([code, [status]]) => [code, status]),
) as Record<GuardErrorCode, number>;

/** Seconds after which a request that met an outage is worth another try (RFC 9110 §10.2.3). */
const RETRY_AFTER_SECONDS = 2;

export interface GuardErrorOptions {
  /** More parameters of the challenge, such as `scope` (RFC 6750 §3) or `acr_values` (RFC 9470 §3). */
  challenge?: Readonly<Record<string, string | number>>;
  /** Fields of the answer. */
  headers?: Readonly<Record<string, string>>;
  cause?: unknown;
}

/**
 * The one error that the guard throws. `status`, `statusCode` and `headers` are what Express, Fastify and NestJS read
 * from an error. The message is for people; it holds no token, no proof and nothing that a client sent.
 */
export class GuardError extends Error {
  override readonly name = 'GuardError';
  readonly status: number;
  readonly statusCode: number;
  /** The message may be shown to clients, as NestJS asks for it. */
  readonly expose = true;
  /** OAuth's error code (RFC 6750 §3.1, RFC 9449 §7.1, RFC 9470 §3); null where the standards have none. */
  readonly error: string | null;
  readonly challenge: Readonly<Record<string, string | number>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly code: GuardErrorCode,
    message: string,
    options: GuardErrorOptions = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    [this.status, this.error] = CODES[code];
    this.statusCode = this.status;
    this.challenge = options.challenge ?? {};
    this.headers = {
      ...(this.status === 503 ? { 'retry-after': String(RETRY_AFTER_SECONDS) } : {}),
      ...options.headers,
    };
  }

  /** The same refusal with more fields of the answer. */
  with(headers: Readonly<Record<string, string>>): GuardError {
    return new GuardError(this.code, this.message, {
      challenge: this.challenge,
      headers: { ...this.headers, ...headers },
      cause: this.cause,
    });
  }

  /** The answer's body, a problem document (RFC 9457). */
  problem(): string {
    return JSON.stringify({
      type: 'about:blank',
      title: this.message,
      status: this.status,
      code: this.code,
    });
  }
}
