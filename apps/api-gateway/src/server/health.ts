import { type AnyElysia, Elysia } from 'elysia';
import { json } from '../pages/answers.js';
import type { Gateway } from '../gateway.js';

/**
 * Liveness: the process answers. Readiness: it can serve, and will for a while. A dependency that is away and that the
 * gateway can do without for some time shows in its entry, but makes nothing unready. Why is told on the management
 * port only: strangers learn no names of hosts and roles.
 */
export function healthRoutes(
  gateway: Pick<Gateway, 'health' | 'life'>,
  { withReasons }: { withReasons: boolean },
): AnyElysia {
  return new Elysia()
    .get('/health/live', () => json({ status: 'ok' }))
    .get('/health/ready', async () => {
      const { ready, body } = await readiness(gateway, withReasons);
      return new Response(JSON.stringify(body), {
        status: ready ? 200 : 503,
        headers: {
          'Content-Type': 'application/json',
          'Cache-Control': 'no-store',
          ...(ready ? {} : { 'Retry-After': '2' }),
        },
      });
    });
}

/** Whether the gateway can serve, and the state of each dependency. */
export interface Readiness {
  readonly ready: boolean;
  readonly body: { readonly status: string; readonly dependencies: Record<string, object> };
}

export async function readiness(
  { health, life }: Pick<Gateway, 'health' | 'life'>,
  withReasons: boolean,
): Promise<Readiness> {
  const found = await health();
  const ready =
    !life.stopping &&
    Object.values(found).every(({ reason, needed }) => reason === null || !needed);
  const notReady = life.stopping ? 'stopping' : 'not ready';
  return {
    ready,
    body: { status: ready ? 'ready' : notReady, dependencies: statusOf(found, withReasons) },
  };
}

function statusOf(
  found: Awaited<ReturnType<Gateway['health']>>,
  withReasons: boolean,
): Record<string, object> {
  return Object.fromEntries(
    Object.entries(found).map(([name, { reason }]) => [
      name,
      reason === null ? { status: 'ok' } : { status: 'down', ...(withReasons ? { reason } : {}) },
    ]),
  );
}
