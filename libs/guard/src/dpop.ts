import { hash } from 'node:crypto';
import { calculateJwkThumbprint, EmbeddedJWK, type JWK, type JWTPayload, jwtVerify } from 'jose';
import { fieldOf } from './claims.js';
import { GuardError, type GuardErrorCode } from './errors.js';
import { checkedAlgorithms, COMPACT_JWT, faultOf, type JwtFault } from './jwt.js';
import type { NonceSource } from './nonces.js';
import { memoryOfProcess, type ReplayMemory } from './replayMemory.js';
import { requestUri, sameUri } from './requestUri.js';

export interface DpopOptions {
  /**
   * Under which addresses clients reach this service, for example `http://orders:8080` or `https://api.example/orders`:
   * with the path of the request behind it, what the proof names as `htu`. Never taken from the request's `Host`.
   */
  baseUrls: string | readonly string[];
  /** Refuse tokens that are bound to no key. Default: false. */
  required?: boolean;
  /** Of the proofs; default: every asymmetric one. */
  algorithms?: readonly string[];
  /** A proof counts for so long after its `iat`; default 30. */
  maxAgeSeconds?: number;
  /** Default: one of this process. */
  replayMemory?: ReplayMemory;
  /** With a source, every proof has to hold one of its nonces. */
  nonces?: NonceSource;
}

/** One request as a proof has to describe it. */
export interface ProvenRequest {
  method: string;
  url: string;
  proofs: readonly string[];
  token: string;
  /** The claim `cnf` of the token. */
  confirmation: unknown;
}

const MAX_PROOF_LENGTH = 8_192;

const BY_FAULT: Readonly<Record<JwtFault, GuardErrorCode>> = {
  malformed: 'proof_malformed',
  algorithm: 'proof_algorithm',
  key_unknown: 'proof_key',
  signature: 'proof_signature',
  expired: 'proof_time',
  claim: 'proof_malformed',
  unusable: 'proof_key',
};

/** Checks DPoP proofs by the rules of RFC 9449 §4.3, in full. */
export class DpopProofs {
  readonly algorithms: readonly string[];
  readonly required: boolean;
  readonly #baseUrls: readonly string[];
  readonly #maxAgeSeconds: number;
  readonly #toleranceSeconds: number;
  readonly #memory: ReplayMemory;
  readonly #nonces: NonceSource | undefined;
  readonly #now: () => number;

  /** @throws TypeError that names the option which is wrong */
  constructor(options: DpopOptions, clock: { toleranceSeconds: number; now: () => number }) {
    this.algorithms = checkedAlgorithms(options.algorithms);
    this.required = options.required ?? false;
    this.#baseUrls = [options.baseUrls].flat();
    for (const one of this.#baseUrls)
      if (!URL.canParse(one) || !/^https?:\/\/[^?#]+$/i.test(one))
        throw new TypeError(`dpop.baseUrls: ${one} is not an absolute http or https URL`);
    if (this.#baseUrls.length === 0) throw new TypeError('dpop.baseUrls is empty');
    this.#maxAgeSeconds = options.maxAgeSeconds ?? 30;
    if (!(this.#maxAgeSeconds > 0 && this.#maxAgeSeconds <= 300))
      throw new TypeError('dpop.maxAgeSeconds must be more than 0 and at most 300');
    this.#toleranceSeconds = clock.toleranceSeconds;
    this.#memory = options.replayMemory ?? memoryOfProcess();
    this.#nonces = options.nonces;
    this.#now = clock.now;
  }

  /**
   * Resolves with the nonce for the client's next request where it used an older one (§8.2), else with null.
   * @throws GuardError `proof_*`, `nonce_required`, `replay_memory_full`, `replay_memory_unavailable`
   */
  async check(request: ProvenRequest): Promise<string | null> {
    const [proof, ...others] = request.proofs;
    if (proof === undefined) throw refusal('proof_missing', 'a DPoP proof is missing');
    if (others.length > 0) throw refusal('proof_malformed', 'there are several DPoP proofs');
    const { payload, jwk } = await this.#verify(proof);
    this.#checkRequest(request, payload);
    this.#checkTime(payload);
    const thumbprint = await calculateJwkThumbprint(jwk);
    if (payload['ath'] !== hash('sha256', request.token, 'base64url'))
      throw refusal('proof_token', 'the DPoP proof is for another token');
    if (fieldOf(request.confirmation, 'jkt') !== thumbprint)
      throw refusal('proof_key', 'the token is bound to another key');
    const nonce = await this.#checkNonce(payload['nonce']);
    await this.#checkFirstUse(thumbprint, payload.jti ?? '');
    return nonce;
  }

  /** The nonce for an answer that refuses a request; null: none is asked for. */
  async nonce(): Promise<string | null> {
    return (await this.#nonces?.current()) ?? null;
  }

  async #verify(proof: string): Promise<{ payload: JWTPayload; jwk: JWK }> {
    if (proof.length > MAX_PROOF_LENGTH || !COMPACT_JWT.test(proof))
      throw refusal('proof_malformed', 'the DPoP proof is no signed JWT');
    try {
      const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, {
        typ: 'dpop+jwt',
        algorithms: [...this.algorithms],
        requiredClaims: ['jti', 'htm', 'htu', 'iat', 'ath'],
        clockTolerance: this.#toleranceSeconds,
        currentDate: new Date(this.#now()),
      });
      if (typeof payload.jti !== 'string' || payload.jti === '')
        throw refusal('proof_malformed', 'the DPoP proof has no usable jti');
      return { payload, jwk: protectedHeader.jwk ?? {} };
    } catch (error) {
      if (error instanceof GuardError) throw error;
      throw refusal(BY_FAULT[faultOf(error).fault], 'the DPoP proof is not acceptable', error);
    }
  }

  #checkRequest({ method, url }: ProvenRequest, { htm, htu }: JWTPayload): void {
    const asked = this.#baseUrls.map((base) => requestUri(base, url));
    if (htm !== method || !asked.some((one) => one !== null && sameUri(one, htu)))
      throw refusal('proof_request', 'the DPoP proof is for another request');
  }

  #checkTime({ iat = NaN }: JWTPayload): void {
    const age = this.#now() / 1000 - iat;
    if (!(age <= this.#maxAgeSeconds && age >= -this.#toleranceSeconds))
      throw refusal('proof_time', 'the DPoP proof is too old, or from the future');
  }

  async #checkNonce(nonce: unknown): Promise<string | null> {
    if (this.#nonces === undefined) return null;
    if (typeof nonce !== 'string' || !(await this.#nonces.accepts(nonce)))
      throw new GuardError('nonce_required', 'the DPoP proof has to hold the nonce of this answer');
    const current = await this.#nonces.current();
    return current === nonce ? null : current;
  }

  async #checkFirstUse(thumbprint: string, jti: string): Promise<void> {
    const id = hash('sha256', `${thumbprint} ${jti}`, 'base64url');
    // A second more: `iat` is in whole seconds.
    const ttlSeconds = this.#maxAgeSeconds + this.#toleranceSeconds + 1;
    // The application's own function: only `true` itself counts.
    let first: unknown;
    try {
      first = await this.#memory.firstUse(id, ttlSeconds);
    } catch (cause) {
      if (cause instanceof GuardError) throw cause;
      throw new GuardError('replay_memory_unavailable', 'DPoP proofs cannot be checked', { cause });
    }
    if (first !== true) throw refusal('proof_replayed', 'the DPoP proof was used before');
  }
}

const refusal = (code: GuardErrorCode, message: string, cause?: unknown): GuardError =>
  new GuardError(code, message, cause === undefined ? {} : { cause });
