import cluster from 'node:cluster';
import process from 'node:process';
import { readSettings } from '../composition/settings.js';

/** Runs the gateway, or as many as `WORKERS` says; resolves once it listens. @throws ConfigError, StartError */
export async function serve(): Promise<void> {
  const config = await readSettings(process.env);
  if (config.workers > 1 && cluster.isPrimary) {
    const { runWorkers } = await import('../composition/workers/runWorkers.js');
    await runWorkers(config);
    return;
  }
  const { runGateway } = await import('../composition/runGateway.js');
  await runGateway(config);
}
