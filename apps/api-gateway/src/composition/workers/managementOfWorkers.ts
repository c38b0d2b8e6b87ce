import type { Worker } from 'node:cluster';
import { createServer, type Server, type ServerResponse } from 'node:http';
import {
  AggregatorRegistry,
  Gauge,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client';
import type { Readiness } from '../../server/health.js';
import { askWorker } from './messages.js';

type Metric = MetricObjectWithValues<MetricValue<string>>;

/** Of what never falls: the sum has to hold when the worker that counted is gone. */
const KEPT = ['counter', 'histogram'];

/** The metrics of all workers as those of one process, those that have ended included. */
export class SummedMetrics {
  /** The latest that each worker told. */
  readonly #latest = new Map<number, Metric[]>();
  #gone: Metric[][] = [];
  readonly #own = new Registry();

  constructor(countWorkers: () => number) {
    new Gauge({
      name: 'session_gateway_workers',
      help: 'Worker processes that listen',
      registers: [this.#own],
      collect() {
        this.set(countWorkers());
      },
    });
  }

  get contentType(): string {
    return this.#own.contentType;
  }

  async text(workers: readonly Worker[]): Promise<string> {
    await Promise.all(workers.map((worker) => this.look(worker)));
    const summed = AggregatorRegistry.aggregate([...this.#latest.values(), ...this.#gone]);
    return `${await summed.metrics()}\n${await this.#own.metrics()}`;
  }

  /** Notes what a worker has counted so far: also just before it is asked to end. */
  async look(worker: Worker): Promise<void> {
    const found = (await askWorker(worker, 'metrics')) as Metric[] | null;
    if (found !== null && !worker.isDead()) this.#latest.set(worker.id, found);
  }

  /** A worker has ended: what it counted stays. */
  ended({ id }: Worker): void {
    const last = this.#latest.get(id)?.filter(({ type }) => KEPT.includes(String(type)));
    this.#latest.delete(id);
    if (last === undefined) return;
    const sum = AggregatorRegistry.aggregate([...this.#gone, last]);
    void sum.getMetricsAsJSON().then((all) => {
      this.#gone = [all];
    });
  }
}

export interface WorkersAtWork {
  /** Those that listen. */
  readonly listening: () => readonly Worker[];
  readonly isStopping: () => boolean;
}

/** Health and metrics of all workers on one port. */
export function createManagementOfWorkers(
  { listening, isStopping }: WorkersAtWork,
  metrics: SummedMetrics,
): Server {
  const answers: Readonly<Record<string, (response: ServerResponse) => Promise<void>>> = {
    '/health/live': async (response) => sendJson(response, 200, { status: 'ok' }),
    '/health/ready': async (response) => {
      const { ready, body } = await readinessOf(listening());
      const status = isStopping() ? 'stopping' : body.status;
      sendJson(response, ready && !isStopping() ? 200 : 503, { ...body, status });
    },
    '/metrics': async (response) => {
      const text = await metrics.text(listening());
      response.writeHead(200, { 'Content-Type': metrics.contentType }).end(text);
    },
  };
  return createServer((request, response) => {
    const answer = answers[(request.url ?? '').split('?', 1)[0] ?? ''];
    if (answer === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(404).end();
      return;
    }
    answer(response).catch(() => response.writeHead(500).end());
  });
}

/** Ready while any worker is: the others are kept from requests by not listening. */
async function readinessOf(
  workers: readonly Worker[],
): Promise<{ ready: boolean; body: { status: string } & Record<string, unknown> }> {
  const answers = await Promise.all(
    workers.map(async (worker) => (await askWorker(worker, 'health')) as Readiness | null),
  );
  const found = answers.filter((answer) => answer !== null);
  const best = found.find(({ ready }) => ready) ?? found[0];
  const counts = { ready: found.filter(({ ready }) => ready).length, of: workers.length };
  return {
    ready: best?.ready ?? false,
    body: { status: 'not ready', ...best?.body, workers: counts },
  };
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response
    .writeHead(status, {
      'Content-Type': 'application/json',
      'Cache-Control': 'no-store',
      ...(status === 200 ? {} : { 'Retry-After': '2' }),
    })
    .end(JSON.stringify(body));
}
