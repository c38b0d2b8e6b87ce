import type { Gateway } from '../gateway.js';
import { notingOutcome } from '../observability/notingOutcome.js';
import type { GatewayRoute } from '../settings/gatewayRoutes.js';

/** Asks a route's upstream, and times it until its answer's head. */
export function timedUpstream<Answer>(
  { metrics }: Pick<Gateway, 'metrics'>,
  route: Pick<GatewayRoute, 'path'>,
  ask: () => Promise<Answer>,
  statusOf: (answer: Answer) => number,
): Promise<Answer> {
  const end = metrics.upstreamSeconds.startTimer({ route: route.path });
  return notingOutcome((outcome) => void end({ outcome }), ask, statusOf);
}
