import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CircuitBreaker, type Place } from '../../client/circuitBreaker.js';
import type { KeycloakClient } from '../../client/KeycloakClient.js';
import type { TokenSet } from '../../client/tokenSet.js';
import { AuthError, isAuthError } from '../../errors.js';
import type { SessionEvents } from '../audit/sessionEvents.js';
import { endSessions } from '../logout/endSessions.js';
import type { ProviderLogouts } from '../logout/ProviderLogouts.js';
import type { Session } from '../session/sessionMetadata.js';
import type { SessionStore } from '../session/SessionStore.js';
import { MAX_CLOCK_SKEW_MS } from '../session/serverClock.js';
import { BackOff } from './backOff.js';
import type { Claimed, TokenVault } from './TokenVault.js';
import { asStorageFault, type Held, TELL_AFTER_MS, TokenWrites } from './TokenWrites.js';

/** The whole call to the provider. */
export const CALL_MS = 5_000;
/** The lease outlives the call and the write behind it. */
export const LEASE_MS = 8_000;
/** At least one lease and one refresh: a waiter outlives a holder that died. */
export const WAIT_MS = 20_000;
/**
 * Less of the lease left than this and the call is not begun: a process that was paused must not
 * spend what others took over.
 */
const LEASE_LEFT_MS = CALL_MS + 1_000;
/** Refusals that may mean that somebody else has used the refresh token; the provider explains the others. */
const SUSPICIOUS = new Set(['invalid_grant', 'stale_token', 'reuse', 'client_session_gone']);
/** How far the clocks that made two times of a session may differ. */
const CLOCKS_MS = 1_000;
const POLL_MS = [25, 50, 100, 200] as const;
/** By then this process may have been taken out of service, or its clock mended. */
const WRONG_CLOCK_RETRY_SECONDS = 10;

/** What became of one refresh, for metrics and logs. */
export type RefreshOutcome =
  | 'refreshed'
  | 'waited'
  | 'grant_ended'
  | 'subject_changed'
  | 'provider_unavailable'
  | 'provider_rejected'
  | 'late'
  | 'storage_unavailable'
  /** PostgreSQL did not take the new tokens for too long: the session is lost. */
  | 'tokens_lost'
  /** Not tried: the provider is left alone for a while. */
  | 'circuit_open';

export interface RefreshTokenManagerOptions {
  vault: TokenVault;
  store: SessionStore;
  client: KeycloakClient;
  events: SessionEvents;
  providerLogouts: Pick<ProviderLogouts, 'kick'>;
  refreshAheadMs: number;
  absoluteTimeoutMs: number;
  idleTimeoutMs: number;
  breaker?: CircuitBreaker;
  onOutcome?: (outcome: RefreshOutcome, sessionId: string, error?: unknown) => void;
  /** PostgreSQL's time in milliseconds since 1970, by which sessions are judged. */
  now: () => number;
  /** This machine's, by which tokens of the provider are judged. */
  ownNow?: () => number;
}

/** New tokens on their way into PostgreSQL, after the callers have been told that it is away. */
interface Overdue {
  readonly done: Promise<Session>;
  readonly trouble: unknown;
}

/**
 * Renews a session's tokens exactly once, however many requests and processes ask at the same time. In the process,
 * callers for one session share one promise; between processes a lease on the row decides, with `version` as fence. No
 * transaction or connection is held while the provider is asked, and nothing depends on the client that asked first.
 * Holds no token between calls, but for those that PostgreSQL could not take yet. One file, so that the order of claim,
 * call, write and release can be read at once.
 */
export class RefreshTokenManager {
  readonly #o: Required<Omit<RefreshTokenManagerOptions, 'onOutcome'>> &
    Pick<RefreshTokenManagerOptions, 'onOutcome'>;
  readonly #flights = new Map<string, Promise<Session>>();
  readonly #overdue = new Map<string, Overdue>();
  readonly #backOff = new BackOff();
  readonly #writes: TokenWrites;

  constructor(options: RefreshTokenManagerOptions) {
    this.#o = { ownNow: Date.now, breaker: new CircuitBreaker(), ...options };
    this.#writes = new TokenWrites({
      ...options,
      leaseMs: LEASE_MS,
      onLost: (session, error) => this.#o.onOutcome?.('tokens_lost', session.id, error),
    });
  }

  /** How the tokens stand: `fresh`, `due` (the access token is good, but one of them has little left), or `expired`. */
  freshness(session: Session): 'fresh' | 'due' | 'expired' {
    if (!session.tokenExpiresAt) return 'expired';
    const now = this.#o.now();
    const end = session.tokenExpiresAt.getTime();
    if (end <= now) return 'expired';
    const lifeMs =
      session.tokenLifetimeSeconds === null ? Infinity : session.tokenLifetimeSeconds * 1000;
    const isDue = (at: number): boolean =>
      at - now < Math.min(this.#o.refreshAheadMs, (at - (end - lifeMs)) / 2);
    return isDue(end) || (this.#endsWithRefreshToken(session) && isDue(session.expiresAt.getTime()))
      ? 'due'
      : 'fresh';
  }

  /** Whether the session ends before its absolute timeout unless it is renewed. Clocks may differ a little. */
  #endsWithRefreshToken({ createdAt, expiresAt }: Session): boolean {
    const absolute = createdAt.getTime() + this.#o.absoluteTimeoutMs;
    return expiresAt.getTime() < absolute - CLOCKS_MS;
  }

  /**
   * A session whose access token is good to use now. One that is due is refreshed behind the request's back, at a pace
   * that slows down while that fails.
   * @throws AuthError `reauthentication_required`, `provider_unavailable`, `provider_rejected`,
   * `token_unreadable`; or storage faults
   */
  async usable(session: Session): Promise<Session> {
    const freshness = this.freshness(session);
    if (freshness === 'due') this.#refreshBehind(session);
    return freshness === 'expired' ? this.refresh(session) : session;
  }

  /**
   * The session after its tokens have been renewed since the caller saw it, by whomever. Joins a refresh that is under
   * way. One that has no refresh token is given back as it is while its access token lives.
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

  /**
   * Resolves when no refresh is under way: for a shutdown that loses no token. Those that PostgreSQL has not taken
   * `withinMs` from now are given up, each told as `tokens_lost`.
   */
  async settled(withinMs?: number): Promise<void> {
    const timer =
      withinMs === undefined ? undefined : setTimeout(() => this.#writes.giveUp(), withinMs);
    while (this.#flights.size + this.#overdue.size > 0)
      await Promise.allSettled([
        ...this.#flights.values(),
        ...[...this.#overdue.values()].map(({ done }) => done),
      ]);
    clearTimeout(timer);
  }

  /** One background round: ends what a timeout has ended, then renews sessions in use that are due, a few at a time. */
  async sweep(): Promise<void> {
    const { vault, store, events, idleTimeoutMs, refreshAheadMs, breaker } = this.#o;
    events.tellEnded(await vault.endExpired(idleTimeoutMs, { limit: 500 }));
    const due =
      breaker.isOpen || this.#isClockWrong
        ? []
        : await vault.due(idleTimeoutMs, refreshAheadMs, 200);
    const worker = async (): Promise<void> => {
      for (
        let id = due.pop();
        id !== undefined && !breaker.isOpen && !this.#writes.areRefused;
        id = due.pop()
      ) {
        if (this.#backOff.isHeldBack(id)) continue;
        const session = await store.reload(id);
        if (session && this.freshness(session) !== 'fresh')
          await this.refresh(session).catch(() => undefined);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
  }

  #refreshBehind(session: Session): void {
    if (
      this.#flights.has(session.id) ||
      this.#o.breaker.isOpen ||
      this.#backOff.isHeldBack(session.id)
    )
      return;
    this.refresh(session).catch(() => undefined);
  }

  #start(session: Session): Promise<Session> {
    const flight = this.#fly(session)
      .catch((error: unknown) => {
        throw asStorageFault(error);
      })
      .finally(() => this.#flights.delete(session.id));
    const unchanged = (): void => this.#backOff.failed(session.id);
    flight.then(
      (current) => (current === session ? unchanged() : this.#backOff.succeeded(session.id)),
      unchanged,
    );
    this.#flights.set(session.id, flight);
    return flight;
  }

  async #fly(session: Session): Promise<Session> {
    const { vault, client, breaker } = this.#o;
    const overdue = this.#overdue.get(session.id);
    if (overdue)
      return Promise.race([
        overdue.done,
        delay(TELL_AFTER_MS).then(() => {
          throw overdue.trouble;
        }),
      ]);
    if (this.#isClockWrong)
      return this.#unlessRenewed(session, wrongClock(), 'provider_unavailable');
    this.#writes.refuseWhileFailing();
    const held = { session, owner: randomUUID() };
    const deadline = performance.now() + WAIT_MS;
    for (let attempt = 0; ; attempt++) {
      const place = await breaker
        .enter(session.subject)
        .catch((error: unknown) => this.#unlessRenewed(session, error));
      if ('id' in place) return place;
      try {
        // Metadata first: a lease is not to be spent on waiting for discovery.
        await client.ready().catch((error: unknown) => {
          place.failed(error);
          this.#fail(error, session);
        });
        const askedAt = performance.now();
        const claim = await vault.claimRefresh(session.id, session.version, held.owner, LEASE_MS);
        if (claim.kind === 'ended') throw gone();
        if (claim.kind === 'moved') return await this.#renewedElsewhere(session);
        const renewed =
          claim.kind === 'claimed' ? await this.#useLease(held, claim, place, askedAt) : null;
        if (renewed) return renewed;
      } finally {
        place.unused();
      }
      if (performance.now() >= deadline) throw tooLong();
      await delay(POLL_MS[Math.min(attempt, POLL_MS.length - 1)]);
    }
  }

  /**
   * A machine whose clock is wrong may refuse the provider's answer, and the refresh token would be spent for nothing.
   */
  get #isClockWrong(): boolean {
    return Math.abs(this.#o.ownNow() - this.#o.now()) > MAX_CLOCK_SKEW_MS;
  }

  /** Null where the rehearsal left too little of the lease, which is released then. */
  async #useLease(
    held: Held,
    claim: Claimed,
    place: Place,
    askedAt: number,
  ): Promise<Session | null> {
    if (claim.refreshToken !== null)
      await this.#rehearse(held, claim.refreshToken, claim.takenOver);
    if (LEASE_MS - (performance.now() - askedAt) > LEASE_LEFT_MS)
      return this.#spend(held, claim, place);
    await this.#o.vault.releaseLease(held.session.id, held.owner);
    return null;
  }

  /** Spends nothing that could not be replaced. A holder that died may have died of writes that fail. */
  async #rehearse(held: Held, refreshToken: string, takenOver: boolean): Promise<void> {
    try {
      await this.#writes.rehearse(held, refreshToken, takenOver);
    } catch (error) {
      this.#o.onOutcome?.('storage_unavailable', held.session.id, error);
      throw error;
    }
  }

  /** With the lease in hand: asks the provider, writes what it answers. */
  async #spend(
    held: Held,
    { refreshToken, isUsed, takenOver, accessTokenOver }: Claimed,
    place: Place,
  ): Promise<Session> {
    const { session, owner } = held;
    const { vault, client, events } = this.#o;
    if (refreshToken === null) {
      if (accessTokenOver) return this.#endGrant(session, 'no_refresh_token');
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
      if (isAuthError(error, 'reauthentication_required'))
        return this.#endGrant(session, whyRefused(error, { isUsed, takenOver }), error);
      await vault.releaseLease(session.id, owner).catch(() => undefined);
      if (isAuthError(error))
        await events.note({ ...failed(session, error.reason ?? error.code), actor: 'provider' });
      return this.#fail(error, session);
    }
    if (tokens.identity.subject !== session.subject) {
      // OpenID Connect Core §12.2: the refreshed ID Token must be about the same person.
      this.#o.onOutcome?.('subject_changed', session.id);
      await endSessions(this.#o, { id: session.id }, 'subject_changed');
      await this.#giveBack(session, tokens, 'subject_changed', 'end_session');
      throw gone();
    }
    return new Promise((resolve, reject) => {
      const tell = (trouble: AuthError): void => {
        this.#overdue.set(session.id, { done, trouble });
        this.#o.onOutcome?.('storage_unavailable', session.id, trouble);
        // Where the event can be written: a later refusal of the old token is no sign of theft then.
        void events.note({ ...failed(session, 'write_failed'), actor: 'gateway' });
        reject(trouble);
      };
      const done = this.#conclude(held, tokens, tell).finally(() =>
        this.#overdue.delete(session.id),
      );
      done.then(resolve, reject);
    });
  }

  /** Stores what the provider gave. `tell` is called when that takes longer than callers are to wait. */
  async #conclude(
    held: Held,
    tokens: TokenSet,
    tell: (trouble: AuthError) => void,
  ): Promise<Session> {
    const { session } = held;
    const written = await this.#writes.store(held, tokens, tell);
    const current = await this.#o.store.reload(session.id);
    if (!written && !current) {
      // The session ended while the provider answered: what came must not live on.
      this.#o.onOutcome?.('late', session.id);
      await this.#giveBack(session, tokens, 'grant_ended', 'revoke');
    }
    if (!current) throw gone();
    if (written) this.#o.onOutcome?.('refreshed', session.id);
    return current;
  }

  /** What comes too late must not live on at the provider: written down where that works, else asked for once. */
  async #giveBack(...given: Parameters<TokenVault['giveBack']>): Promise<void> {
    const [, { refreshToken }] = given;
    try {
      await this.#o.vault.giveBack(...given);
      this.#o.providerLogouts.kick();
    } catch {
      if (refreshToken !== null) await this.#o.client.revoke(refreshToken).catch(() => undefined);
    }
  }

  /** `invalid_grant`: ends the session unless somebody has renewed it meanwhile; then that is what counts. */
  async #endGrant(session: Session, why: string, cause?: unknown): Promise<Session> {
    const { store, events } = this.#o;
    const suspicious =
      SUSPICIOUS.has(why) && !(await events.lostAnswer(session.id, issuedAt(session)));
    const [ended] = await endSessions(this.#o, { id: session.id }, 'grant_ended', {
      seenVersion: session.version,
      // Who has the token may have the provider's session too.
      atProvider: suspicious,
    });
    if (!ended) {
      const current = await store.reload(session.id);
      if (current && current.version > session.version) return current;
    } else {
      const expired = ended.isRefreshTokenOver;
      await events.note({
        event: suspicious && !expired ? 'reuse_suspected' : 'refresh_failed',
        reason: expired ? 'refresh_expired' : why,
        ...about(session),
        actor: 'provider',
      });
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
  async #unlessRenewed(
    session: Session,
    error: unknown,
    outcome: RefreshOutcome = 'circuit_open',
  ): Promise<Session> {
    const current = await this.#o.store.reload(session.id);
    if (!current) throw gone();
    if (current.version > session.version) return current;
    this.#o.onOutcome?.(outcome, session.id, error);
    throw error;
  }

  #fail(error: unknown, session: Session): never {
    if (isAuthError(error, 'provider_unavailable', 'provider_rejected'))
      this.#o.onOutcome?.(error.code, session.id, error);
    throw error;
  }
}

/** The promise's own outcome, if it comes within `ms`. What it stands for goes on. */
async function inTime(flight: Promise<Session>, ms: number): Promise<Session> {
  const stop = new AbortController();
  const late = delay(Math.max(0, ms), undefined, { signal: stop.signal }).then(() => {
    throw tooLong();
  });
  return Promise.race([flight, late]).finally(() => stop.abort());
}

/** A token that we have used ourselves is refused for that, and no sign of theft. */
function whyRefused(
  { reason = 'invalid_grant' }: AuthError,
  { isUsed, takenOver }: Pick<Claimed, 'isUsed' | 'takenOver'>,
): string {
  if (takenOver) return 'holder_died';
  return isUsed && SUSPICIOUS.has(reason) ? 'no_refresh_token' : reason;
}

/** When the session got the tokens that it has, by its own account. */
const issuedAt = ({ tokenExpiresAt, tokenLifetimeSeconds, createdAt }: Session): Date =>
  tokenExpiresAt === null || tokenLifetimeSeconds === null
    ? createdAt
    : new Date(tokenExpiresAt.getTime() - tokenLifetimeSeconds * 1000);
const about = ({ id, subject, sid }: Session) => ({ sessionId: id, subject, sid });
const failed = (session: Session, reason: string) => ({
  ...about(session),
  event: 'refresh_failed' as const,
  reason,
});
const gone = (cause?: unknown): AuthError =>
  new AuthError('reauthentication_required', 'the session can no longer be renewed', { cause });
const wrongClock = (): AuthError =>
  new AuthError('provider_unavailable', "this machine's clock is not PostgreSQL's", {
    reason: 'clock',
    retryAfterSeconds: WRONG_CLOCK_RETRY_SECONDS,
  });
const tooLong = (): AuthError =>
  new AuthError('provider_unavailable', 'this session has been under refresh for too long', {
    reason: 'lease_wait',
    retryAfterSeconds: 2,
  });
