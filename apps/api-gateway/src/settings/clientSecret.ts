import { type Environment, type KeycloakClient, readSecret } from '@session-gateway/keycloak-auth';
import { onFileChange } from './fileChanges.js';
import type { Log } from '../observability/logging.js';
import type { Metrics } from '../observability/metrics.js';

/**
 * Keeps the client with the secret that its file holds now: a secret that is replaced at the provider needs no restart.
 */
export function keepClientSecret(
  env: Environment,
  client: KeycloakClient,
  { secretReloads }: Pick<Metrics, 'secretReloads'>,
  log: Log,
): { reload: () => void; stop: () => void } {
  const reload = (): void => {
    const problems: string[] = [];
    const secret = readSecret(env, 'KEYCLOAK_CLIENT_SECRET', problems);
    if (secret === undefined && problems.length === 0) return;
    if (secret === undefined || problems.length > 0) {
      secretReloads.inc({ outcome: 'refused' });
      log.error(
        { event: 'client_secret', problems },
        'the new client secret is not usable; the one before stays in use',
      );
      return;
    }
    if (!client.useSecret(secret)) return;
    secretReloads.inc({ outcome: 'loaded' });
    log.info({ event: 'client_secret' }, 'the client secret has been read anew');
  };
  const file = env['KEYCLOAK_CLIENT_SECRET_FILE'];
  return { reload, stop: file ? onFileChange(file, reload) : () => undefined };
}
