import type { AnsweredBy, KeyUse } from '@session-gateway/keycloak-auth';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Prometheus metrics; labels take values from closed sets only. */
export interface Metrics {
  readonly registry: Registry;
  readonly refreshes: Counter<'outcome'>;
  /** Counts a value that was sealed, opened or refused. */
  readonly keyUse: (use: KeyUse) => void;
  readonly keyringReloads: Counter<'outcome'>;
  readonly logins: Counter<'outcome'>;
  readonly sessionsEnded: Counter<'reason'>;
  /** What was sent to the provider for ended sessions. */
  readonly providerLogouts: Counter<'outcome'>;
  /** What waits to be sent, in the database: the same number on every instance. */
  readonly providerLogoutsPending: Gauge;
  readonly problems: Counter<'code'>;
  readonly refusals: Counter<'code' | 'reason'>;
  /** Connections of clients that were ended here. */
  readonly connectionsCut: Counter<'reason'>;
  readonly logLinesDropped: Counter;
  readonly unexpectedErrors: Counter;
  /** Counts a look-up of a session by what answered it. */
  readonly sessionLookup: (answeredBy: AnsweredBy) => void;
  /** Entries of the shared cache that no instance with a key of this keyring wrote for their place. */
  readonly cacheEntriesRefused: Counter;
  /** Shows how long ago changes of sessions were heard of; `heardAt` as `performance.now()` tells it. */
  readonly changesHeard: (heardAt: () => number) => void;
  readonly secretReloads: Counter<'outcome'>;
  /** Until the upstream's first byte, by the route's configured path. */
  readonly upstreamSeconds: Histogram<'route' | 'outcome'>;
  readonly providerSeconds: Histogram<'endpoint' | 'outcome'>;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counter = <Label extends string>(
    name: string,
    help: string,
    label: Label,
  ): Counter<Label> =>
    new Counter({
      name: `session_gateway_${name}_total`,
      help,
      labelNames: [label],
      registers: [registry],
    });
  const plainCounter = (name: string, help: string): Counter =>
    new Counter({ name: `session_gateway_${name}_total`, help, registers: [registry] });
  const seconds = <Label extends string>(
    name: string,
    help: string,
    labels: Label[],
  ): Histogram<Label> =>
    new Histogram({
      name: `session_gateway_${name}_seconds`,
      help,
      labelNames: labels,
      buckets: [0.005, 0.025, 0.1, 0.25, 1, 2.5, 5, 30],
      registers: [registry],
    });
  // Anything but v2 is left over from before.
  const tokenReads = counter(
    'token_reads',
    'Stored tokens opened, by the class of the stored value',
    'class',
  );
  const unreadable = counter(
    'token_unreadable',
    'Stored values that did not open, by reason',
    'reason',
  );
  const keyUses = new Counter({
    name: 'session_gateway_key_uses_total',
    help: 'Values sealed and opened under each key',
    labelNames: ['kid', 'operation'] as const,
    registers: [registry],
  });
  // Each session check counts one: in plain numbers until somebody asks, since a counter's labels
  // cost more than the check.
  const lookups: Record<AnsweredBy, number> = { process: 0, cache: 0, database: 0 };
  new Counter({
    name: 'session_gateway_session_lookups_total',
    help: 'Look-ups of sessions, by what answered: a copy in the process, the cache, or the database',
    labelNames: ['answered_by'] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const [answeredBy, count] of Object.entries(lookups))
        if (count > 0) this.inc({ answered_by: answeredBy }, count);
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
    providerLogouts: counter(
      'provider_logouts',
      'Ends of sessions sent to the identity provider, by outcome',
      'outcome',
    ),
    providerLogoutsPending: new Gauge({
      name: 'session_gateway_provider_logouts_pending',
      help: 'Ends of sessions that the identity provider has not been told yet, of all instances',
      aggregator: 'max',
      registers: [registry],
    }),
    sessionLookup(answeredBy) {
      lookups[answeredBy]++;
    },
    cacheEntriesRefused: new Counter({
      name: 'session_gateway_cache_entries_refused_total',
      help: 'Entries of the shared cache that were not authentic and not believed',
      registers: [registry],
    }),
    changesHeard(heardAt) {
      new Gauge({
        name: 'session_gateway_changes_heard_seconds',
        help: 'Time since changes of sessions were last read from PostgreSQL; beyond one second copies are not believed',
        aggregator: 'max',
        registers: [registry],
        collect() {
          this.set((performance.now() - heardAt()) / 1_000);
        },
      });
    },
    secretReloads: counter(
      'client_secret_reloads',
      'Client secrets read anew, by outcome',
      'outcome',
    ),
    upstreamSeconds: seconds(
      'upstream',
      'Time to the first byte of upstreams, by route and class of status',
      ['route', 'outcome'],
    ),
    providerSeconds: seconds(
      'provider',
      'Time of requests to the identity provider, by endpoint and class of status',
      ['endpoint', 'outcome'],
    ),
    connectionsCut: counter(
      'connections_cut',
      'Connections of clients that were ended here, by reason',
      'reason',
    ),
    logLinesDropped: plainCounter(
      'log_lines_dropped',
      'Lines that the log target did not take: full, gone or too slow',
    ),
    unexpectedErrors: plainCounter(
      'unexpected_errors',
      'Errors that no code expected; repeated ones make the instance unready',
    ),
    problems: counter('problems', 'Requests answered with a problem, by code', 'code'),
    refusals: new Counter({
      name: 'session_gateway_refusals_total',
      help: 'Refused authorization responses and tokens, and failures of the provider, by code and reason',
      labelNames: ['code', 'reason'] as const,
      registers: [registry],
    }),
  };
}
