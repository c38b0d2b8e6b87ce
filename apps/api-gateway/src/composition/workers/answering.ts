import process from 'node:process';
import type { Gateway } from '../../gateway.js';
import { readiness } from '../../server/health.js';
import type { FromWorker, ToWorker } from './messages.js';

const send = (message: FromWorker): void => void process.send?.(message);

/** Answers what the primary asks, and tells it that this worker listens. */
export function answerPrimary(gateway: Gateway): void {
  process.on('message', ({ kind, id, what }: ToWorker) => {
    if (kind !== 'ask') return;
    const answer =
      what === 'health' ? readiness(gateway, true) : gateway.metrics.registry.getMetricsAsJSON();
    answer.then(
      (found) => send({ kind: 'answer', id, answer: found }),
      () => send({ kind: 'answer', id, answer: null }),
    );
  });
  send({ kind: 'listening' });
}
