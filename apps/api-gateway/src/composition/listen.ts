import type { Server } from 'node:http';
import { type Config, DEFAULT_MANAGEMENT_PORT } from '../settings/config.js';
import { StartError } from './exits.js';

/** Resolves once the server listens. @throws StartError that names `variable` where it cannot */
export function listen(
  server: Server,
  port: number,
  host: string,
  variable: string,
): Promise<void> {
  return new Promise((done, refuse) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      refuse(
        new StartError(
          error.code === 'EADDRINUSE'
            ? `port ${port} is in use: stop what uses it, or set ${variable}`
            : `cannot listen: ${error.code ?? 'unknown'}; see HOST and ${variable}`,
        ),
      ),
    );
    server.listen(port, host, () => done());
  });
}

/** A second gateway on a developer's machine is no mistake: without MANAGEMENT_PORT it takes any port. */
export async function listenForManagement(
  management: Server,
  { managementPort, managementHost }: Pick<Config, 'managementPort' | 'managementHost'>,
): Promise<void> {
  const listenOn = (port: number): Promise<void> =>
    listen(management, port, managementHost, 'MANAGEMENT_PORT');
  if (managementPort !== undefined) await listenOn(managementPort);
  else await listenOn(DEFAULT_MANAGEMENT_PORT).catch(() => listenOn(0));
}
