import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isStorageUnavailable } from '@session-gateway/database';
import type { KeycloakClient, TokenSet } from '../../client/KeycloakClient.js';
import { AuthError, isAuthError } from '../../errors.js';
import { endSessions } from '../logout/endSessions.js';
import type { Session } from '../session/sessionMetadata.js';
import type { SessionStore } from '../session/SessionStore.js';
import type { TokenVault } from './TokenVault.js';

/** The lease outlives the provider call (5 s) and the write behind it. */
export const LEASE_MS = 8_000;
/** At least one lease and one refresh: a waiter outlives a holder that died. */
export const WAIT_MS = 20_000;
const WRITE_RETRY_MS = 15_000;
const POLL_MS = [25, 50, 100, 200] as const;

/** What became of one refresh, for metrics and logs. */
export type RefreshOutcome = 'refreshed' | 'waited' | 'grant_ended' | 'subject_changed' | 'provider_unavailable' | 'provider_rejected' | 'late' | 'storage_unavailable';

export interface RefreshTokenManagerOptions {
  vault: TokenVault;
  store: SessionStore;
  client: KeycloakClient;
  refreshAheadMs: number;
  absoluteTimeoutMs: number;
  idleTimeoutMs: number;
  onOutcome?: (outcome: RefreshOutcome, sessionId: string, error?: unknown) => void;
  now?: () => number;
}

/**
 * Renews a session's tokens exactly once, however many requests and processes ask at the same time. In the process,
 * callers for one session share one promise; between processes a lease on the row decides, with `version` as fence. No
 * transaction or connection is held while the provider is asked, and nothing depends on the client that asked first.
 * Holds no token between calls.
 */
export class RefreshTokenManager {
  readonly #o: Required<Omit<RefreshTokenManagerOptions, 'onOutcome'>> & Pick<RefreshTokenManagerOptions, 'onOutcome'>;
  readonly #flights = new Map<string, Promise<Session>>();

  constructor(options: RefreshTokenManagerOptions) {
    this.#o = { now: Date.now, ...options };
  }

  /** How the access token stands: `fresh`, `due` (still good, little left), or `expired`. */
  freshness(session: Session): 'fresh' | 'due' | 'expired' {
    if (!session.tokenExpiresAt) return 'expired';
    const leftMs = session.tokenExpiresAt.getTime() - this.#o.now();
    if (leftMs <= 0) return 'expired';
    const lifeMs = session.tokenLifetimeSeconds === null ? Infinity : session.tokenLifetimeSeconds * 1000;
    return leftMs < Math.min(this.#o.refreshAheadMs, lifeMs / 2) ? 'due' : 'fresh';
  }

  /**
   * A session whose access token is good to use now. One that is due is refreshed behind the request's back.
   * @throws AuthError `reauthentication_required`, `provider_unavailable`, `provider_rejected`, `token_unreadable`; or storage faults
   */
  async usable(session: Session): Promise<Session> {
    const freshness = this.freshness(session);
    if (freshness === 'due') this.refresh(session).catch(() => undefined);
    return freshness === 'expired' ? this.refresh(session) : session;
  }

  /** The session after its tokens have been renewed since the caller saw it, by whomever. Joins a refresh that is under way. */
  async refresh(session: Session): Promise<Session> {
    for (;;) {
      const flight = this.#flights.get(session.id) ?? this.#start(session);
      const refreshed = await flight;
      // A flight that began before the caller's version was written brought nothing newer.
      if (refreshed.version > session.version) return refreshed;
    }
  }

  /** Resolves when no refresh is under way: for a shutdown that loses no token. */
  async settled(): Promise<void> {
    while (this.#flights.size > 0) await Promise.allSettled(this.#flights.values());
  }

  /** One background round: ends what a timeout has ended, then renews sessions in use that are due, a few at a time. */
  async sweep(): Promise<void> {
    const { vault, store, idleTimeoutMs, refreshAheadMs } = this.#o;
    await vault.endExpired(idleTimeoutMs, 500);
    const due = await vault.due(idleTimeoutMs, refreshAheadMs, 200);
    const worker = async (): Promise<void> => {
      for (let id = due.pop(); id !== undefined; id = due.pop()) {
        const session = await store.reload(id);
        if (session && this.freshness(session) !== 'fresh') await this.refresh(session).catch(() => undefined);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
  }

  #start(session: Session): Promise<Session> {
    const flight = this.#fly(session).finally(() => this.#flights.delete(session.id));
    this.#flights.set(session.id, flight);
    return flight;
  }

  async #fly(session: Session): Promise<Session> {
    const { vault, store, client } = this.#o;
    const owner = randomUUID();
    const deadline = this.#o.now() + WAIT_MS;
    for (let attempt = 0; ; attempt++) {
      // Metadata first: a lease is not to be spent on waiting for discovery.
      await client.ready().catch((error: unknown) => this.#fail(error, session));
      const claim = await vault.claimRefresh(session.id, session.version, owner, LEASE_MS);
      switch (claim.kind) {
        case 'claimed':
          return this.#spend(session, claim.refreshToken, owner);
        case 'moved': {
          this.#o.onOutcome?.('waited', session.id);
          const current = await store.reload(session.id);
          if (!current) throw gone();
          return current;
        }
        case 'ended':
          throw gone();
        case 'held':
          if (this.#o.now() >= deadline) throw new AuthError('provider_unavailable', 'another process has been refreshing this session for too long', { reason: 'lease_wait', retryAfterSeconds: 2 });
          await delay(POLL_MS[Math.min(attempt, POLL_MS.length - 1)]);
      }
    }
  }

  /** With the lease in hand: asks the provider, writes what it answers. */
  async #spend(session: Session, refreshToken: string | null, owner: string): Promise<Session> {
    const { vault, store, client, absoluteTimeoutMs } = this.#o;
    if (refreshToken === null) return this.#endGrant(session, 'no_refresh_token');
    let tokens: TokenSet;
    try {
      tokens = await client.refresh(refreshToken, session.subject);
    } catch (error) {
      if (isAuthError(error, 'reauthentication_required')) return this.#endGrant(session, error);
      await vault.releaseLease(session.id, owner).catch(() => undefined);
      return this.#fail(error, session);
    }
    if (tokens.identity.subject !== session.subject) {
      // OpenID Connect Core §12.2: the refreshed ID Token must be about the same person.
      this.#o.onOutcome?.('subject_changed', session.id);
      await endSessions({ vault, store }, { id: session.id }, 'subject_changed');
      throw gone();
    }
    const written = await this.#write(session, tokens, absoluteTimeoutMs);
    const current = await store.reload(session.id);
    if (!written && !current) {
      // The session ended while the provider answered: what came must not live on.
      this.#o.onOutcome?.('late', session.id);
      if (tokens.refreshToken) await client.revoke(tokens.refreshToken).catch(() => undefined);
    }
    if (!current) throw gone();
    if (written) this.#o.onOutcome?.('refreshed', session.id);
    return current;
  }

  /** The old refresh token is spent by now, so a short outage of PostgreSQL must not lose the new one. */
  async #write(session: Session, tokens: TokenSet, absoluteTimeoutMs: number): Promise<boolean> {
    const giveUpAt = this.#o.now() + WRITE_RETRY_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#o.vault.storeRefreshed(session.id, session.version, tokens, absoluteTimeoutMs);
      } catch (error) {
        if (!isStorageUnavailable(error) || this.#o.now() >= giveUpAt) {
          this.#o.onOutcome?.('storage_unavailable', session.id, error);
          throw error;
        }
        await delay(POLL_MS[Math.min(attempt, POLL_MS.length - 1)]);
      }
    }
  }

  /** `invalid_grant`: ends the session unless somebody has renewed it meanwhile; then that is what counts. */
  async #endGrant(session: Session, cause: unknown): Promise<Session> {
    const { vault, store } = this.#o;
    const ended = await endSessions({ vault, store }, { id: session.id }, 'grant_ended', { seenVersion: session.version });
    if (ended.length === 0) {
      const current = await store.reload(session.id);
      if (current && current.version > session.version) return current;
    }
    this.#o.onOutcome?.('grant_ended', session.id, cause);
    throw gone(cause);
  }

  #fail(error: unknown, session: Session): never {
    if (isAuthError(error, 'provider_unavailable', 'provider_rejected')) this.#o.onOutcome?.(error.code, session.id, error);
    throw error;
  }
}

const gone = (cause?: unknown): AuthError => new AuthError('reauthentication_required', 'the session can no longer be renewed', { cause });
