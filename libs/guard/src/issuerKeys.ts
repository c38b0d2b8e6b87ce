import { createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey } from 'jose';
import { GuardError } from './errors.js';

/** A key that the issuer has withdrawn is trusted for no longer than this. */
const MAX_AGE_MS = 60_000;
/** While the issuer is away, the keys last read count on for so long. */
const MAX_AGE_AWAY_MS = 600_000;
/** Pause between two reads for the sake of keys that are unknown, and between two tries while the issuer is away. */
const PAUSE_MS = 1_000;
/** How long a request waits for keys: shorter where the last ones will do. */
const TIMEOUT_MS = 5_000;
const PATIENCE_MS = 1_000;

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/**
 * The issuer's signing keys (RFC 7517 §5), by jose. Read at the first use, again after a minute, and once a second at
 * most when a token names a key that is not among them. Callers who ask at once share one request.
 */
export class IssuerKeys {
  readonly #set: ReturnType<typeof createRemoteJWKSet>;
  readonly #fetch: Fetch;
  #published = '';
  #readAt = -Infinity;
  #failedAt = -Infinity;
  #generation = 0;

  constructor(url: URL, fetch: Fetch) {
    this.#fetch = fetch;
    this.#set = createRemoteJWKSet(url, {
      cacheMaxAge: MAX_AGE_MS,
      cooldownDuration: PAUSE_MS,
      timeoutDuration: TIMEOUT_MS,
      [customFetch]: (address, options) => this.#read(address, options),
    });
  }

  /** Another number means other keys: what was verified before counts no more. Null: the keys are to be read first. */
  get generation(): number | null {
    return this.#set.fresh ? this.#generation : null;
  }

  /** The key of a token. @throws GuardError `issuer_unavailable`, or what jose says of a key that is not there */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    try {
      return await this.#set(header, token);
    } catch (error) {
      if (error instanceof GuardError) throw error;
      const unknown = error instanceof errors.JWKSNoMatchingKey;
      // Keys that could not be read anew say nothing about a key that is not among the old ones.
      if (unknown ? this.#failedAt > this.#readAt : isFaultOfSet(error)) throw unavailable(error);
      throw error;
    }
  };

  /** What jose reads: the published keys, or for a while the last ones. */
  async #read(url: string, { signal, ...options }: RequestInit): Promise<Response> {
    const now = performance.now();
    const away = now - this.#readAt > MAX_AGE_AWAY_MS;
    try {
      if (now - this.#failedAt < PAUSE_MS) throw new Error('the last try has just failed');
      const text = await this.#request(url, {
        ...options,
        signal: away ? (signal ?? null) : AbortSignal.timeout(PATIENCE_MS),
      });
      if (text !== this.#published) this.#generation++;
      this.#published = text;
      this.#readAt = now;
    } catch (error) {
      if (now - this.#failedAt >= PAUSE_MS) this.#failedAt = performance.now();
      if (away) throw unavailable(error);
    }
    return new Response(this.#published);
  }

  async #request(url: string, options: RequestInit): Promise<string> {
    const response = await this.#fetch(url, options);
    if (response.status !== 200) throw new Error(`the issuer's keys: status ${response.status}`);
    const text = await response.text();
    const { keys } = JSON.parse(text) as { keys?: unknown };
    if (!Array.isArray(keys) || keys.length === 0 || !keys.every(isObject))
      throw new Error('the issuer publishes no keys');
    return text;
  }
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;

const isFaultOfSet = (error: unknown): boolean =>
  error instanceof errors.JWKSInvalid || error instanceof errors.JWKSTimeout;

const unavailable = (cause: unknown): GuardError =>
  new GuardError('issuer_unavailable', "the issuer's keys cannot be read", { cause });
