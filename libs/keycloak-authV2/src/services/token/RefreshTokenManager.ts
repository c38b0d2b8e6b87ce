import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isStorageUnavailable } from '@session-gateway/database';
import { CircuitBreaker, type Place } from '../../client/circuitBreaker.js';
import type { KeycloakClient, TokenSet } from '../../client/KeycloakClient.js';
import { AuthError, isAuthError } from '../../errors.js';
import type { SessionEvents } from '../audit/sessionEvents.js';
import { endSessions, revokeAtProvider } from '../logout/endSessions.js';
import type { Session } from '../session/sessionMetadata.js';
import type { SessionStore } from '../session/SessionStore.js';
import { BackOff } from './backOff.js';
import type { TokenVault } from './TokenVault.js';

/** The whole call to the provider. */
export const CALL_MS = 5_000;
/** The lease outlives the call and the write behind it. */
export const LEASE_MS = 8_000;
/** At least one lease and one refresh: a waiter outlives a holder that died. */
export const WAIT_MS = 20_000;
/** Less of the lease left than this and the call is not begun: a process that was paused must not spend what others took over. */
const LEASE_LEFT_MS = CALL_MS + 1_000;
/** How long new tokens wait for a PostgreSQL that is away. */
export const WRITE_MS = 60_000;
/** Callers are not to wait for that longer than this. */
const TELL_AFTER_MS = 500;
const POLL_MS = [25, 50, 100, 200] as const;

/** What became of one refresh, for metrics and logs. */
export type RefreshOutcome =
  | 'refreshed' | 'waited' | 'grant_ended' | 'subject_changed' | 'provider_unavailable' | 'provider_rejected' | 'late' | 'storage_unavailable'
  /** Not tried: the provider is left alone for a while. */
  | 'circuit_open';

export interface RefreshTokenManagerOptions {
  vault: TokenVault;
  store: SessionStore;
  client: KeycloakClient;
  events: SessionEvents;
  refreshAheadMs: number;
  absoluteTimeoutMs: number;
  idleTimeoutMs: number;
  breaker?: CircuitBreaker;
  onOutcome?: (outcome: RefreshOutcome, sessionId: string, error?: unknown) => void;
  now?: () => number;
}

/** New tokens on their way into PostgreSQL, after the callers have been told that it is away. */
interface Overdue { readonly done: Promise<Session>; readonly trouble: unknown }

/**
 * Renews a session's tokens exactly once, however many requests and processes ask at the same time. In the process,
 * callers for one session share one promise; between processes a lease on the row decides, with `version` as fence. No
 * transaction or connection is held while the provider is asked, and nothing depends on the client that asked first.
 * Holds no token between calls, but for those that PostgreSQL could not take yet.
 */
export class RefreshTokenManager {
  readonly #o: Required<Omit<RefreshTokenManagerOptions, 'onOutcome'>> & Pick<RefreshTokenManagerOptions, 'onOutcome'>;
  readonly #flights = new Map<string, Promise<Session>>();
  readonly #overdue = new Map<string, Overdue>();
  readonly #backOff = new BackOff();

  constructor(options: RefreshTokenManagerOptions) {
    this.#o = { now: Date.now, breaker: new CircuitBreaker(), ...options };
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
   * A session whose access token is good to use now. One that is due is refreshed behind the request's back, at a pace
   * that slows down while that fails.
   * @throws AuthError `reauthentication_required`, `provider_unavailable`, `provider_rejected`, `token_unreadable`; or storage faults
   */
  async usable(session: Session): Promise<Session> {
    const freshness = this.freshness(session);
    if (freshness === 'due') this.#refreshBehind(session);
    return freshness === 'expired' ? this.refresh(session) : session;
  }

  /**
   * The session after its tokens have been renewed since the caller saw it, by whomever. Joins a refresh that is under way.
   * One that has no refresh token is given back as it is while its access token lives.
   */
  async refresh(session: Session): Promise<Session> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      const flight = this.#flights.get(session.id) ?? this.#start(session);
      const refreshed = await inTime(flight, deadline - performance.now());
      // A flight that began before the caller's version was written brought nothing newer.
      if (refreshed.version > session.version || refreshed === session) return refreshed;
    }
  }

  /** Resolves when no refresh is under way: for a shutdown that loses no token. */
  async settled(): Promise<void> {
    while (this.#flights.size + this.#overdue.size > 0) await Promise.allSettled([...this.#flights.values(), ...[...this.#overdue.values()].map(({ done }) => done)]);
  }

  /** One background round: ends what a timeout has ended, then renews sessions in use that are due, a few at a time. */
  async sweep(): Promise<void> {
    const { vault, store, events, idleTimeoutMs, refreshAheadMs, breaker } = this.#o;
    events.tellEnded(await vault.endExpired(idleTimeoutMs, 500));
    const due = breaker.isOpen ? [] : await vault.due(idleTimeoutMs, refreshAheadMs, 200);
    const worker = async (): Promise<void> => {
      for (let id = due.pop(); id !== undefined && !breaker.isOpen; id = due.pop()) {
        if (this.#backOff.isHeldBack(id)) continue;
        const session = await store.reload(id);
        if (session && this.freshness(session) !== 'fresh') await this.refresh(session).catch(() => undefined);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
  }

  #refreshBehind(session: Session): void {
    if (this.#flights.has(session.id) || this.#o.breaker.isOpen || this.#backOff.isHeldBack(session.id)) return;
    this.refresh(session).catch(() => undefined);
  }

  #start(session: Session): Promise<Session> {
    const flight = this.#fly(session).finally(() => this.#flights.delete(session.id));
    const unchanged = (): void => this.#backOff.failed(session.id);
    flight.then((current) => (current === session ? unchanged() : this.#backOff.succeeded(session.id)), unchanged);
    this.#flights.set(session.id, flight);
    return flight;
  }

  async #fly(session: Session): Promise<Session> {
    const { vault, client, breaker } = this.#o;
    const overdue = this.#overdue.get(session.id);
    if (overdue) return Promise.race([overdue.done, delay(TELL_AFTER_MS).then(() => { throw overdue.trouble; })]);
    const owner = randomUUID();
    const deadline = performance.now() + WAIT_MS;
    for (let attempt = 0; ; attempt++) {
      const place = await breaker.enter().catch((error: unknown) => this.#unlessRenewed(session, error));
      if ('id' in place) return place;
      try {
        // Metadata first: a lease is not to be spent on waiting for discovery.
        await client.ready().catch((error: unknown) => {
          place.failed(error);
          this.#fail(error, session);
        });
        const askedAt = performance.now();
        const claim = await vault.claimRefresh(session.id, session.version, owner, LEASE_MS);
        if (claim.kind === 'ended') throw gone();
        if (claim.kind === 'moved') return await this.#renewedElsewhere(session);
        if (claim.kind === 'claimed') {
          if (LEASE_MS - (performance.now() - askedAt) > LEASE_LEFT_MS) return await this.#spend(session, claim, owner, place);
          await vault.releaseLease(session.id, owner);
        }
      } finally {
        place.unused();
      }
      if (performance.now() >= deadline) throw tooLong();
      await delay(POLL_MS[Math.min(attempt, POLL_MS.length - 1)]);
    }
  }

  /** With the lease in hand: asks the provider, writes what it answers. */
  async #spend(session: Session, { refreshToken, takenOver }: { refreshToken: string | null; takenOver: boolean }, owner: string, place: Place): Promise<Session> {
    const { vault, store, client, events } = this.#o;
    if (refreshToken === null) {
      if (this.freshness(session) === 'expired') return this.#endGrant(session, 'no_refresh_token');
      // There is nothing to renew it with, and no reason yet to end it.
      await vault.releaseLease(session.id, owner);
      return session;
    }
    let tokens: TokenSet;
    try {
      tokens = await client.refresh(refreshToken, session.subject);
      place.answered();
    } catch (error) {
      if (isAuthError(error, 'provider_unavailable')) place.failed(error);
      else place.answered();
      if (isAuthError(error, 'reauthentication_required')) return this.#endGrant(session, takenOver ? 'holder_died' : (error.reason ?? 'invalid_grant'), error);
      await vault.releaseLease(session.id, owner).catch(() => undefined);
      if (isAuthError(error)) await events.note({ event: 'refresh_failed', reason: error.reason ?? error.code, ...about(session), actor: 'provider' });
      return this.#fail(error, session);
    }
    if (tokens.identity.subject !== session.subject) {
      // OpenID Connect Core §12.2: the refreshed ID Token must be about the same person.
      this.#o.onOutcome?.('subject_changed', session.id);
      await endSessions({ vault, store, events }, { id: session.id }, 'subject_changed');
      await this.#revoke(session, tokens, 'subject_changed');
      throw gone();
    }
    return new Promise((resolve, reject) => {
      const tell = (trouble: unknown): void => {
        this.#overdue.set(session.id, { done, trouble });
        reject(trouble);
      };
      const done = this.#conclude(session, tokens, tell).finally(() => this.#overdue.delete(session.id));
      done.then(resolve, reject);
    });
  }

  /** Stores what the provider gave. `tell` is called when that takes longer than callers are to wait. */
  async #conclude(session: Session, tokens: TokenSet, tell: (trouble: unknown) => void): Promise<Session> {
    const written = await this.#write(session, tokens, tell);
    const current = await this.#o.store.reload(session.id);
    if (!written && !current) {
      // The session ended while the provider answered: what came must not live on.
      this.#o.onOutcome?.('late', session.id);
      await this.#revoke(session, tokens, 'grant_ended');
    }
    if (!current) throw gone();
    if (written) this.#o.onOutcome?.('refreshed', session.id);
    return current;
  }

  #revoke(session: Session, { refreshToken }: TokenSet, reason: 'subject_changed' | 'grant_ended'): Promise<void> {
    return revokeAtProvider(this.#o, [{ ...session, reason, refreshToken }]);
  }

  /** The old refresh token is spent by now, so an outage of PostgreSQL must not lose the new one. */
  async #write(session: Session, tokens: TokenSet, tell: (trouble: unknown) => void): Promise<boolean> {
    const began = performance.now();
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#o.vault.storeRefreshed(session.id, session.version, tokens, this.#o.absoluteTimeoutMs);
      } catch (error) {
        if (!isStorageUnavailable(error) || performance.now() - began >= WRITE_MS) {
          this.#o.onOutcome?.('storage_unavailable', session.id, error);
          throw error;
        }
        if (performance.now() - began >= TELL_AFTER_MS) tell(error);
        await delay(POLL_MS[Math.min(attempt, POLL_MS.length - 1)]);
      }
    }
  }

  /** `invalid_grant`: ends the session unless somebody has renewed it meanwhile; then that is what counts. */
  async #endGrant(session: Session, why: string, cause?: unknown): Promise<Session> {
    const { vault, store, events } = this.#o;
    const [ended] = await endSessions({ vault, store, events }, { id: session.id }, 'grant_ended', { seenVersion: session.version });
    if (!ended) {
      const current = await store.reload(session.id);
      if (current && current.version > session.version) return current;
    } else {
      const expired = ended.refreshExpiresAt !== null && ended.refreshExpiresAt.getTime() <= this.#o.now();
      const unexplained = why === 'invalid_grant' && !expired && !(await events.lostAnswer(session.id, issuedAt(session)));
      await events.note({ event: unexplained ? 'reuse_suspected' : 'refresh_failed', reason: expired ? 'refresh_expired' : why, ...about(session), actor: 'provider' });
    }
    this.#o.onOutcome?.('grant_ended', session.id, cause);
    throw gone(cause);
  }

  async #renewedElsewhere(session: Session): Promise<Session> {
    const current = await this.#o.store.reload(session.id);
    if (!current) throw gone();
    this.#o.onOutcome?.('waited', session.id);
    return current;
  }

  /** Another process may have better luck with the provider than this one. */
  async #unlessRenewed(session: Session, error: unknown): Promise<Session> {
    const current = await this.#o.store.reload(session.id);
    if (!current) throw gone();
    if (current.version > session.version) return current;
    this.#o.onOutcome?.('circuit_open', session.id, error);
    throw error;
  }

  #fail(error: unknown, session: Session): never {
    if (isAuthError(error, 'provider_unavailable', 'provider_rejected')) this.#o.onOutcome?.(error.code, session.id, error);
    throw error;
  }
}

/** The promise's own outcome, if it comes within `ms`. What it stands for goes on. */
async function inTime(flight: Promise<Session>, ms: number): Promise<Session> {
  const stop = new AbortController();
  const late = delay(Math.max(0, ms), undefined, { signal: stop.signal }).then(() => { throw tooLong(); });
  return Promise.race([flight, late]).finally(() => stop.abort());
}

/** When the session got the tokens that it has, by its own account. */
const issuedAt = ({ tokenExpiresAt, tokenLifetimeSeconds, createdAt }: Session): Date =>
  (tokenExpiresAt === null || tokenLifetimeSeconds === null ? createdAt : new Date(tokenExpiresAt.getTime() - tokenLifetimeSeconds * 1000));
const about = ({ id, subject, sid }: Session) => ({ sessionId: id, subject, sid });
const gone = (cause?: unknown): AuthError => new AuthError('reauthentication_required', 'the session can no longer be renewed', { cause });
const tooLong = (): AuthError => new AuthError('provider_unavailable', 'this session has been under refresh for too long', { reason: 'lease_wait', retryAfterSeconds: 2 });
