import {
  CircuitBreaker,
  isAuthError,
  ProviderLogouts,
  type RefreshOutcome,
  RefreshTokenManager,
  shownId,
} from '@session-gateway/keycloak-auth';
import { type Log, reasonOf } from '../observability/logging.js';
import type { Metrics } from '../observability/metrics.js';

interface Observers {
  readonly metrics: Metrics;
  readonly log: Log;
}
type LogoutOptions = ConstructorParameters<typeof ProviderLogouts>[0];
type RefreshOptions = ConstructorParameters<typeof RefreshTokenManager>[0];

/** Outcomes of a refresh that somebody has to look at. */
const ALARMING: readonly RefreshOutcome[] = [
  'subject_changed',
  'provider_rejected',
  'storage_unavailable',
  'tokens_lost',
];

/** Ends of sessions on their way to the provider, counted and told in the log. */
export function createProviderLogouts(
  parts: Omit<LogoutOptions, 'onPending' | 'onOutcome'>,
  { metrics, log }: Observers,
): ProviderLogouts {
  return new ProviderLogouts({
    ...parts,
    onPending: (rows) => metrics.providerLogoutsPending.set(rows),
    onOutcome(outcome, session, error) {
      metrics.providerLogouts.inc({ outcome });
      if (outcome !== 'postponed' && outcome !== 'refused') return;
      log.warn(
        {
          event: 'provider_logout',
          outcome,
          session: shownId(session),
          error: error && reasonOf(error),
        },
        outcome === 'postponed'
          ? "the provider's session could not be ended yet; trying again"
          : "the provider does not end its session: it lives until the provider's own time-out",
      );
    },
  });
}

/** Keeps requests from a provider that does not answer, and tells when. */
export function createBreaker(log: Log): CircuitBreaker {
  return new CircuitBreaker({
    onChange: (state, openMs) =>
      log.warn(
        { event: 'provider', state, ms: Math.round(openMs) },
        state === 'open'
          ? 'the identity provider is left alone for a while'
          : 'the identity provider is back',
      ),
  });
}

/** Renewals of tokens, counted by outcome and told in the log where they fail. */
export function createRefresher(
  parts: Omit<RefreshOptions, 'onOutcome'>,
  { metrics, log }: Observers,
): RefreshTokenManager {
  return new RefreshTokenManager({
    ...parts,
    onOutcome(outcome, session, error) {
      metrics.refreshes.inc({ outcome });
      if (outcome === 'refreshed' || outcome === 'waited' || outcome === 'circuit_open') return;
      const level = ALARMING.includes(outcome) ? 'error' : 'warn';
      log[level](
        {
          event: 'refresh',
          outcome,
          session: shownId(session),
          error: error instanceof Error ? error.message : undefined,
          ...(isAuthError(error) ? { reason: error.reason, provider: error.providerSaid } : {}),
        },
        outcome === 'tokens_lost'
          ? 'PostgreSQL did not take the new tokens of a session: the session is lost'
          : 'a session could not be refreshed',
      );
    },
  });
}
