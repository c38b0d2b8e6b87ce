import {
  createLocalJWKSet,
  errors,
  type FlattenedJWSInput,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from 'jose';
import { AuthError } from '../errors.js';
import { LookBudget } from './lookBudget.js';

/**
 * Finds keys to verify with. `generation` tells key sets apart: another one, and verdicts by the last count no more.
 */
export type ProviderKeySet = JWTVerifyGetKey & { readonly generation?: number };

type VerificationKey = Awaited<ReturnType<JWTVerifyGetKey>>;

/**
 * Who brought a token whose key is unknown. The provider itself, in the answer to a request of ours, is worth a look at
 * once; what strangers may send costs a share of a budget, a budget for each kind.
 */
export type TokenSource = 'provider' | 'bearer' | 'logout';

/** A key that the provider has withdrawn is trusted for no longer. */
const MAX_AGE_MS = 60_000;
/** While the provider is away the keys last read count on for so long. */
const MAX_AGE_AWAY_MS = 600_000;
/** Pause between tries while it is away, and how long a caller waits for one. */
const RETRY_MS = 5_000;
const PATIENCE_MS = 1_000;
const CLOCK_TOLERANCE_SECONDS = 15;

export interface ProviderKeysOptions {
  issuer: string;
  /** Fetches the JWK Set. */
  read: () => Promise<unknown>;
  now?: () => number;
  sleep?: (ms: number) => Promise<void>;
}

/**
 * The realm's signing keys (RFC 7517 §5). Read at the first use, again after a minute, and when a token names a key
 * that is not among them: once, and bounded, however many such tokens come.
 */
export class ProviderKeys {
  readonly #o: ProviderKeysOptions;
  readonly #now: () => number;
  readonly #budgets: Readonly<Record<Exclude<TokenSource, 'provider'>, LookBudget>>;
  readonly #sets = new Map<TokenSource, ProviderKeySet>();
  #keys: JWTVerifyGetKey | undefined;
  #published = '';
  #generation = 0;
  /** When the request that brought the keys was sent, and when the latest one was. */
  #readAt = -Infinity;
  #triedAt = -Infinity;
  #reading: Promise<void> | undefined;

  constructor(options: ProviderKeysOptions) {
    this.#o = options;
    this.#now = options.now ?? (() => performance.now());
    const { now, sleep } = options;
    const clock = { ...(now ? { now } : {}), ...(sleep ? { sleep } : {}) };
    this.#budgets = {
      bearer: new LookBudget({
        burst: 5,
        refillMs: 1_000,
        maxWaiting: 32,
        maxVain: 12,
        ...clock,
      }),
      // Keycloak sends a logout token once and waits 5 s for the answer: none of its tokens may be sent away.
      logout: new LookBudget({
        burst: 5,
        refillMs: 1_000,
        maxWaiting: 500,
        maxVain: Infinity,
        ...clock,
      }),
    };
  }

  /**
   * The keys for tokens from a source, no older than a minute, or ten while the provider is away.
   * @throws AuthError `provider_unavailable`
   */
  async current(source: TokenSource): Promise<ProviderKeySet> {
    const age = this.#now() - this.#readAt;
    if (age >= MAX_AGE_AWAY_MS) await this.#read();
    else if (age >= MAX_AGE_MS && this.#now() - this.#triedAt >= RETRY_MS)
      await Promise.race([this.#read().catch(() => undefined), this.#patience()]);
    return this.#setFor(source);
  }

  #setFor(source: TokenSource): ProviderKeySet {
    let set = this.#sets.get(source);
    if (set === undefined) {
      const resolve: JWTVerifyGetKey = (header, token) => this.#resolve(source, header, token);
      set = Object.defineProperty(resolve, 'generation', { get: () => this.#generation });
      this.#sets.set(source, set);
    }
    return set;
  }

  async #resolve(
    source: TokenSource,
    ...[header, token]: Parameters<JWTVerifyGetKey>
  ): Promise<VerificationKey> {
    const asked = this.#now();
    for (;;) {
      try {
        if (this.#keys === undefined) throw new errors.JWKSNoMatchingKey();
        return await this.#keys(header, token);
      } catch (error) {
        const hopeless = this.#readAt >= asked || !mayBeOf(token, this.#o.issuer);
        if (!(error instanceof errors.JWKSNoMatchingKey) || hopeless) throw error;
      }
      // One that was sent before the token came may have missed its key.
      await (this.#reading ?? this.#look(source));
    }
  }

  async #look(source: TokenSource): Promise<void> {
    if (source === 'provider') return this.#read();
    const before = this.#generation;
    await this.#budgets[source].spend(async () => {
      await this.#read();
      return this.#generation !== before;
    });
  }

  #read(): Promise<void> {
    this.#reading ??= this.#fetch().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #fetch(): Promise<void> {
    const sentAt = this.#now();
    this.#triedAt = sentAt;
    try {
      const published = await this.#o.read();
      const text = JSON.stringify(published);
      if (text !== this.#published) {
        this.#keys = createLocalJWKSet(published as JSONWebKeySet);
        this.#published = text;
        this.#generation++;
      }
      this.#readAt = sentAt;
    } catch (error) {
      throw new AuthError('provider_unavailable', "the provider's keys cannot be fetched", {
        reason: 'jwks',
        retryAfterSeconds: 5,
        cause: error,
      });
    }
  }

  #patience(): Promise<void> {
    return this.#o.sleep?.(PATIENCE_MS) ?? shortly(PATIENCE_MS);
  }
}

function shortly(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/** Whether a token is this issuer's and alive by its own, unproven words: else its key is not worth a look. */
function mayBeOf({ payload }: FlattenedJWSInput, issuer: string): boolean {
  try {
    const text = typeof payload === 'string' ? Buffer.from(payload, 'base64url') : payload;
    const { iss, exp } = JSON.parse(Buffer.from(text).toString('utf8')) as Record<string, unknown>;
    return (
      iss === issuer && typeof exp === 'number' && exp + CLOCK_TOLERANCE_SECONDS > Date.now() / 1000
    );
  } catch {
    return false;
  }
}
