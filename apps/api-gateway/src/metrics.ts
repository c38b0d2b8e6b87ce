import { collectDefaultMetrics, Counter, Registry } from 'prom-client';

/** Prometheus metrics; labels take values from closed sets only. */
export interface Metrics {
  readonly registry: Registry;
  readonly refreshes: Counter<'outcome'>;
  /** Stored values opened, by class: anything but v2 is left over from before. */
  readonly tokenReads: Counter<'class'>;
  readonly logins: Counter<'outcome'>;
  readonly sessionsEnded: Counter<'reason'>;
  readonly problems: Counter<'code'>;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counter = <Label extends string>(name: string, help: string, label: Label): Counter<Label> =>
    new Counter({ name: `session_gateway_${name}_total`, help, labelNames: [label], registers: [registry] });
  return {
    registry,
    refreshes: counter('refreshes', 'Token refreshes by outcome', 'outcome'),
    tokenReads: counter('token_reads', 'Stored tokens opened, by the class of the stored value', 'class'),
    logins: counter('logins', 'Authorization responses by outcome', 'outcome'),
    sessionsEnded: counter('sessions_ended', 'Sessions ended, by reason', 'reason'),
    problems: counter('problems', 'Requests answered with a problem, by code', 'code'),
  };
}
