import { createServer, type Server } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Gateway } from '../gateway.js';
import { emptyApp } from './app.js';
import { healthRoutes } from './health.js';

/** Health and metrics, for those who run the gateway. */
export function createManagementServer(gateway: Gateway): Server {
  const app = emptyApp(gateway).use(healthRoutes(gateway, { withReasons: true }));
  const health = getRequestListener((request) => app.fetch(request));
  return createServer((request, response) => {
    if ((request.url ?? '').split('?', 1)[0] !== '/metrics') return void health(request, response);
    gateway.metrics.registry.metrics().then(
      (text) =>
        response.writeHead(200, { 'Content-Type': gateway.metrics.registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
}
