import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Watcher } from './watcher.js';

type Progress = Parameters<Watcher['progress']>[0];

/** Prometheus' own name for its text format. */
const TEXT = 'text/plain; version=0.0.4; charset=utf-8';

/** Reasons to rest by their words; the label must not take a value for each number in them. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^held to/, 'rows_per_second'],
  [/^working/, 'duty'],
  [/^WAL/, 'wal'],
  [/^replica/, 'replication_lag'],
  [/wait for locks/, 'lock_waits'],
  [/other sessions/, 'active_sessions'],
  [/^statements/, 'slow_statements'],
];

/** `http://127.0.0.1:<port>/metrics` for as long as the job runs. Port 0 takes a free one. */
export async function serveMetrics(
  port: number,
): Promise<{ readonly port: number; progress(at: Progress): void; close(): Promise<void> }> {
  let last: Progress | null = null;
  const server = createServer((request, response) => {
    const found = request.method === 'GET' && request.url?.split('?')[0] === '/metrics';
    response.writeHead(found ? 200 : 404, {
      'Content-Type': found ? TEXT : 'text/plain; charset=utf-8',
    });
    response.end(found ? metricsText(last) : 'there is /metrics\n');
  });
  await new Promise<void>((resolve, reject) =>
    server.once('error', reject).listen(port, '127.0.0.1', resolve),
  );
  return {
    port: (server.address() as AddressInfo).port,
    progress(at) {
      last = at;
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // A scraper keeps its connection open for the next time, of which there is none.
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Counters are those of the run, resumed parts included; before the first batch there are none. */
export function metricsText(at: Progress | null): string {
  const reason =
    at === null || at.throttledBy === null
      ? null
      : (REASONS.find(([words]) => words.test(at.throttledBy ?? ''))?.[1] ?? 'other');
  const lines =
    at === null
      ? []
      : [
          metric('rows', 'gauge', 'Rows of the table, estimated where it is large', at.total),
          metric('sweep', 'gauge', 'The sweep under way, from 1', at.sweep),
          metric('sweep_rows', 'gauge', 'Rows looked at in the sweep under way', at.scanned),
          metric('rows_changed_total', 'counter', 'Rows rewritten by the run', at.changed),
          metric(
            'lost_races_total',
            'counter',
            'Rows that somebody else wrote first, met again in the next sweep',
            at.lostRace,
          ),
          ...[...REASONS.map(([, name]) => name), 'other'].map((name, index) =>
            metric(
              'throttled',
              'gauge',
              'Whether the job rests, by reason',
              name === reason ? 1 : 0,
              { name: 'reason', value: name, first: index === 0 },
            ),
          ),
        ];
  return `${metric('up', 'gauge', 'The job is running', 1)}${lines.join('')}`;
}

function metric(
  name: string,
  type: 'gauge' | 'counter',
  help: string,
  value: number,
  label?: { name: string; value: string; first: boolean },
): string {
  const full = `token_encryption_${name}`;
  const head = label && !label.first ? '' : `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n`;
  return `${head}${full}${label ? `{${label.name}="${label.value}"}` : ''} ${value}\n`;
}
