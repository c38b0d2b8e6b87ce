import { setTimeout as delay } from 'node:timers/promises';
import { isStatementFault, isStorageUnavailable } from '@session-gateway/database';
import type { TokenSet } from '../../client/tokenSet.js';
import { AuthError, isAuthError } from '../../errors.js';
import type { Session } from '../session/sessionMetadata.js';
import type { TokenVault } from './TokenVault.js';

/** How long new tokens wait for a PostgreSQL that does not take them. */
export const WRITE_MS = 600_000;
/** How long a process that ends waits for that. */
export const SETTLE_MS = 10_000;
/** Callers are not to wait for that longer than this. */
export const TELL_AFTER_MS = 500;
/** After a rehearsal has failed, the next one comes no sooner. */
const REHEARSE_EVERY_MS = 500;
const PAUSES_MS = [25, 50, 100, 200] as const;
const RETRY_AFTER_SECONDS = 2;

export interface TokenWritesOptions {
  vault: TokenVault;
  absoluteTimeoutMs: number;
  leaseMs: number;
  /** The tokens are given up: PostgreSQL has not taken them in time, or the process ends. */
  onLost: (session: Session, error: unknown) => void;
}

/** A session whose refresh lease this process holds, as `owner`. */
export interface Held {
  readonly session: Session;
  readonly owner: string;
}

/**
 * Writes refreshed tokens, whose old refresh token is spent by then: a write that fails, for whatever reason, is tried
 * again for `WRITE_MS` while the lease is kept. From a failed write on, no refresh token of this process is spent
 * before the very write that would follow has been rehearsed: while writes fail, nobody loses a session.
 */
export class TokenWrites {
  readonly #o: TokenWritesOptions;
  readonly #stop = new AbortController();
  /** The latest write failed. */
  #inDoubt = false;
  #refusal: { readonly cause: unknown; readonly until: number } | null = null;

  constructor(options: TokenWritesOptions) {
    this.#o = options;
  }

  /** Whether a rehearsal has failed just now, so that nothing should be asked of the provider. */
  get areRefused(): boolean {
    return this.#refusal !== null && performance.now() < this.#refusal.until;
  }

  /** @throws AuthError `storage_unavailable` shortly after a rehearsal has failed */
  refuseWhileFailing(): void {
    if (this.#refusal !== null && this.areRefused) throw storageFault(this.#refusal.cause);
  }

  /**
   * Passes when new tokens can be written. Costs nothing while writes work. `always`: also then.
   * @throws AuthError `storage_unavailable`
   */
  async rehearse({ session, owner }: Held, token: string, always: boolean): Promise<void> {
    if (!this.#inDoubt && !always) return;
    const { vault, absoluteTimeoutMs } = this.#o;
    try {
      await vault.rehearseStore(session.id, session.version, token, absoluteTimeoutMs);
      this.#inDoubt = false;
      this.#refusal = null;
    } catch (error) {
      this.#inDoubt = true;
      this.#refusal = { cause: error, until: performance.now() + REHEARSE_EVERY_MS };
      await vault.releaseLease(session.id, owner).catch(() => undefined);
      throw storageFault(error);
    }
  }

  /**
   * Stores new tokens; false when the session ended or was written to meanwhile. `tell` is called once when that takes
   * longer than callers are to wait.
   * @throws AuthError `storage_unavailable` when the tokens are given up
   */
  async store(held: Held, tokens: TokenSet, tell: (trouble: AuthError) => void): Promise<boolean> {
    const began = performance.now();
    const lifeMs = (tokens.refreshExpiresAt?.getTime() ?? Infinity) - Date.now();
    let leasedAt = began;
    let told = false;
    for (let attempt = 0; ; attempt++) {
      try {
        const written = await this.#tryStore(held.session, tokens);
        this.#inDoubt = false;
        return written;
      } catch (error) {
        this.#inDoubt = true;
        const elapsedMs = performance.now() - began;
        if (elapsedMs >= Math.min(WRITE_MS, lifeMs) || this.#stop.signal.aborted) {
          this.#o.onLost(held.session, error);
          throw storageFault(error);
        }
        if (!told && elapsedMs >= TELL_AFTER_MS) {
          told = true;
          tell(storageFault(error));
        }
        await this.#pause(attempt);
        if (performance.now() - leasedAt > this.#o.leaseMs / 4) {
          leasedAt = performance.now();
          await this.#keepLease(held);
        }
      }
    }
  }

  /** From now on each write has one more attempt. */
  giveUp(): void {
    this.#stop.abort();
  }

  async #tryStore({ id, version }: Session, tokens: TokenSet): Promise<boolean> {
    const { vault, absoluteTimeoutMs } = this.#o;
    if (await vault.storeRefreshed(id, version, tokens, absoluteTimeoutMs)) return true;
    // A trigger may swallow a write without an error.
    if (await vault.isStillAt(id, version))
      throw new Error('PostgreSQL dropped the write of refreshed tokens without an error');
    return false;
  }

  /** Where this fails too, the lease of another is refused in the same way. */
  async #keepLease({ session, owner }: Held): Promise<void> {
    await this.#o.vault.keepLease(session.id, owner, this.#o.leaseMs).catch(() => undefined);
  }

  /** Shorter than callers wait, so that they notice the end of an outage. */
  #pause(attempt: number): Promise<void> {
    const ms = PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)];
    return delay(ms, undefined, { signal: this.#stop.signal }).catch(() => undefined);
  }
}

/** A failure of PostgreSQL as callers get it; anything else as it is. */
export function asStorageFault(error: unknown): unknown {
  const isStorage = isStorageUnavailable(error) || isStatementFault(error);
  return !isAuthError(error) && isStorage ? storageFault(error) : error;
}

const storageFault = (cause: unknown): AuthError =>
  isAuthError(cause)
    ? cause
    : new AuthError('storage_unavailable', 'refreshed tokens cannot be stored just now', {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
        cause,
      });
