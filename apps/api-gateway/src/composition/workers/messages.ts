import type { Worker } from 'node:cluster';

/** What the primary asks a worker. */
export type Asked = 'health' | 'metrics';

/** From a worker: it listens, or the answer to what it was asked. */
export type FromWorker =
  | { readonly kind: 'listening' }
  | { readonly kind: 'answer'; readonly id: number; readonly answer: unknown };

export interface ToWorker {
  readonly kind: 'ask';
  readonly id: number;
  readonly what: Asked;
}

/** A worker that is busy or gone is not waited for longer than this. */
const ANSWER_WITHIN_MS = 1_000;

let asked = 0;

/** What a worker answers; null where it does not in time. */
export function askWorker(worker: Worker, what: Asked): Promise<unknown> {
  asked += 1;
  const id = asked;
  return new Promise((resolve) => {
    const settle = (answer: unknown): void => {
      clearTimeout(timer);
      worker.off('message', hear);
      worker.off('exit', giveUp);
      resolve(answer);
    };
    const hear = (message: FromWorker): void => {
      if (message.kind === 'answer' && message.id === id) settle(message.answer);
    };
    const giveUp = (): void => settle(null);
    const timer = setTimeout(giveUp, ANSWER_WITHIN_MS);
    worker.on('message', hear);
    worker.once('exit', giveUp);
    const ask: ToWorker = { kind: 'ask', id, what };
    // One that has just gone cannot be sent anything.
    worker.send(ask, (error) => {
      if (error) giveUp();
    });
  });
}
