import { type AnyElysia, Elysia } from 'elysia';
import { json } from '../answers.js';
import type { Gateway } from '../gateway.js';

/**
 * Liveness: the process answers. Readiness: it can serve, and will for a while. A dependency that is away and that the
 * gateway can do without for some time shows in its entry, but makes nothing unready.
 */
export function healthRoutes({ health, life }: Pick<Gateway, 'health' | 'life'>): AnyElysia {
  return new Elysia()
    .get('/health/live', () => json({ status: 'ok' }))
    .get('/health/ready', async () => {
      const found = await health();
      const ready = !life.stopping && Object.values(found).every(({ reason, needed }) => reason === null || !needed);
      const dependencies = Object.fromEntries(Object.entries(found).map(([name, { reason }]) => [name, reason === null ? { status: 'ok' } : { status: 'down', reason }]));
      return new Response(JSON.stringify({ status: ready ? 'ready' : life.stopping ? 'stopping' : 'not ready', dependencies }), {
        status: ready ? 200 : 503,
        headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', ...(ready ? {} : { 'Retry-After': '2' }) },
      });
    });
}
