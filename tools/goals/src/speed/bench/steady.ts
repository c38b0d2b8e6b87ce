import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get } from 'node:http';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { randomOf } from '../../harness/random.js';

interface Plan {
  readonly port: number;
  readonly perSecond: number;
  readonly paths: readonly string[];
  readonly seed: number;
}

/** One request: when it was sent, in minutes from the start, what it took, and what came; 0 for no answer. */
export interface Answered {
  readonly minutes: number;
  readonly ms: number;
  readonly status: number;
}

/**
 * GET requests at a fixed rate, whether or not earlier ones were answered: a slow server must not make its own load
 * lighter. They come from a process of its own, which does nothing else, since the time of a request is the
 * server's only where its asker is not at work itself; each at a random moment of its turn, so that nothing
 * else keeps step with them.
 */
export class SteadyLoad {
  readonly #child: ChildProcess;
  /** So far. */
  sent = 0;

  constructor(plan: Plan) {
    this.#child = fork(fileURLToPath(import.meta.url), [], {
      execArgv: ['--import', 'tsx'],
      serialization: 'advanced',
      env: { ...process.env, STEADY_LOAD: JSON.stringify(plan) },
    });
    this.#child.on('message', (message) => {
      if (typeof message === 'number') this.sent = message;
    });
  }

  /** Whose cookies to send from now on. The first call begins. */
  as(cookies: readonly string[]): void {
    this.#child.send(cookies);
  }

  async end(): Promise<Answered[]> {
    const answered = new Promise<Answered[]>((resolve, reject) => {
      this.#child.on('message', (message) => {
        if (Array.isArray(message)) resolve(message as Answered[]);
      });
      this.#child.once('exit', (code) =>
        reject(new Error(`the load generator ended with ${code}`)),
      );
    });
    this.#child.send('end');
    return answered;
  }
}

async function load({ port, perSecond, paths, seed }: Plan): Promise<void> {
  const random = randomOf(seed);
  const agent = new Agent({ keepAlive: true });
  const answers: Answered[] = [];
  let [cookies, ended]: [readonly string[], boolean] = [[], false];
  process.on('message', (message) => {
    if (message === 'end') ended = true;
    else cookies = message as string[];
  });
  await once(process, 'message');
  const began = performance.now();
  const ask = (): Promise<void> =>
    new Promise((resolve) => {
      const sent = performance.now();
      const done = (status: number): void => {
        answers.push({ minutes: (sent - began) / 60_000, ms: performance.now() - sent, status });
        resolve();
      };
      get(
        {
          port,
          host: '127.0.0.1',
          path: random.pick(paths),
          headers: { cookie: random.pick(cookies) },
          agent,
        },
        (response) => {
          response
            .on('end', () => done(response.statusCode ?? 0))
            .on('error', () => done(0))
            .resume();
        },
      ).on('error', () => done(0));
    });
  const underWay = new Set<Promise<void>>();
  for (let turn = 0; !ended; turn++) {
    const at = began + ((turn + random.below(1_000) / 1_000) * 1_000) / perSecond;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, at - performance.now())));
    const one = ask().finally(() => underWay.delete(one));
    underWay.add(one);
    if (turn % perSecond === 0) process.send?.(turn);
  }
  await Promise.all(underWay);
  process.send?.(answers, () => process.disconnect());
}

if (process.send && process.env['STEADY_LOAD'])
  await load(JSON.parse(process.env['STEADY_LOAD']) as Plan);
