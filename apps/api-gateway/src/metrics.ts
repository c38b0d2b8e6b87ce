import type { AnsweredBy, KeyUse } from '@session-gateway/keycloak-auth';
import { collectDefaultMetrics, Counter, Histogram, Registry } from 'prom-client';

/** Prometheus metrics; labels take values from closed sets only. */
export interface Metrics {
  readonly registry: Registry;
  readonly refreshes: Counter<'outcome'>;
  /** Counts a value that was sealed, opened or refused. */
  readonly keyUse: (use: KeyUse) => void;
  readonly keyringReloads: Counter<'outcome'>;
  readonly logins: Counter<'outcome'>;
  readonly sessionsEnded: Counter<'reason'>;
  readonly problems: Counter<'code'>;
  /** Counts a look-up of a session by what answered it. */
  readonly sessionLookup: (answeredBy: AnsweredBy) => void;
  readonly secretReloads: Counter<'outcome'>;
  /** Until the upstream's first byte, by the route's configured path. */
  readonly upstreamSeconds: Histogram<'route' | 'outcome'>;
  readonly providerSeconds: Histogram<'endpoint' | 'outcome'>;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counter = <Label extends string>(name: string, help: string, label: Label): Counter<Label> =>
    new Counter({ name: `session_gateway_${name}_total`, help, labelNames: [label], registers: [registry] });
  const seconds = <Label extends string>(name: string, help: string, labels: Label[]): Histogram<Label> =>
    new Histogram({ name: `session_gateway_${name}_seconds`, help, labelNames: labels, buckets: [0.005, 0.025, 0.1, 0.25, 1, 2.5, 5, 30], registers: [registry] });
  // Anything but v2 is left over from before.
  const tokenReads = counter('token_reads', 'Stored tokens opened, by the class of the stored value', 'class');
  const unreadable = counter('token_unreadable', 'Stored values that did not open, by reason', 'reason');
  const keyUses = new Counter({ name: 'session_gateway_key_uses_total', help: 'Values sealed and opened under each key', labelNames: ['kid', 'operation'] as const, registers: [registry] });
  // Each session check counts one: in plain numbers until somebody asks, since a counter's labels cost more than the check.
  const lookups: Record<AnsweredBy, number> = { process: 0, cache: 0, database: 0 };
  new Counter({
    name: 'session_gateway_session_lookups_total', help: 'Look-ups of sessions, by what answered: a copy in the process, the cache, or the database', labelNames: ['answered_by'] as const, registers: [registry],
    collect() {
      this.reset();
      for (const [answeredBy, count] of Object.entries(lookups)) if (count > 0) this.inc({ answered_by: answeredBy }, count);
    },
  });
  return {
    registry,
    keyUse({ operation, storedClass, kid, refused }) {
      if (refused !== null) {
        unreadable.inc({ reason: refused });
        return;
      }
      if (operation === 'open') tokenReads.inc({ class: storedClass });
      if (kid !== null) keyUses.inc({ kid, operation });
    },
    refreshes: counter('refreshes', 'Token refreshes by outcome', 'outcome'),
    keyringReloads: counter('keyring_reloads', 'Keyrings read anew, by outcome', 'outcome'),
    logins: counter('logins', 'Authorization responses by outcome', 'outcome'),
    sessionsEnded: counter('sessions_ended', 'Sessions ended, by reason', 'reason'),
    sessionLookup(answeredBy) { lookups[answeredBy]++; },
    secretReloads: counter('client_secret_reloads', 'Client secrets read anew, by outcome', 'outcome'),
    upstreamSeconds: seconds('upstream', 'Time to the first byte of upstreams, by route and class of status', ['route', 'outcome']),
    providerSeconds: seconds('provider', 'Time of requests to the identity provider, by endpoint and class of status', ['endpoint', 'outcome']),
    problems: counter('problems', 'Requests answered with a problem, by code', 'code'),
  };
}
