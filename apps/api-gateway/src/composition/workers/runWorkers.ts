import process from 'node:process';
import { createLog } from '../../observability/logging.js';
import { LogTarget, sinkOf } from '../../observability/logTarget.js';
import type { Config } from '../../settings/config.js';
import { listenForManagement } from '../listen.js';
import { takeSignals } from '../signals.js';
import { Fleet } from './Fleet.js';
import { createManagementOfWorkers, SummedMetrics } from './managementOfWorkers.js';

/** For the last lines of the log, where its target is slow. */
const LAST_LINES_MS = 1_000;

/** Keeps `config.workers` gateways on one port, and shows them as one; resolves once the first listens. */
export async function runWorkers(config: Config): Promise<void> {
  const target = new LogTarget(sinkOf(process.stdout), {
    onDropped: () => undefined,
    onRecovered: () => undefined,
  });
  const log = createLog(config.logLevel, target);
  const signals = takeSignals();
  const metrics: SummedMetrics = new SummedMetrics(() => fleet.listening().length);
  const fleet: Fleet = new Fleet({
    size: config.workers,
    log,
    beforeEnding: (worker) => metrics.look(worker),
    onEnded: (worker) => metrics.ended(worker),
    // It has said why on stderr itself.
    onRefused: (code) => {
      fleet.signal('SIGTERM');
      process.exit(code);
    },
  });
  const management = createManagementOfWorkers(
    { listening: () => fleet.listening(), isStopping: () => fleet.isStopping },
    metrics,
  );
  await listenForManagement(management, config);
  await fleet.start();
  log.info({ event: 'workers', count: config.workers }, 'the workers are listening');
  process.on('SIGHUP', () => fleet.signal('SIGHUP'));
  process.on('SIGUSR2', () => void fleet.restart());
  signals.ask(async () => {
    await fleet.stop();
    management.close();
    management.closeAllConnections();
    await target.flush(LAST_LINES_MS);
    process.exit(0);
  });
}
