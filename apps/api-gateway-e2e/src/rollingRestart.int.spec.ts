import { Agent, createServer, request as ask } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, until } from '@session-gateway/testkit';
import { type Stack, startStack } from './stack.js';

/** `RESTARTS=50` is the whole of it; each change is held to a few. */
const RESTARTS = Number(process.env['RESTARTS'] ?? 4);

describe('two gateways behind a load balancer', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await startStack({ gateways: 2, redis: false, env: { SHUTDOWN_DELAY: '2' } });
  });
  afterAll(() => stack.dispose());

  test(
    'are restarted in turn, under load, without a failed request',
    async () => {
      const ready = stack.gateways.map(() => true);
      const watch = setInterval(() => {
        for (const [i, { url }] of stack.gateways.entries())
          fetch(`${url}/health/ready`).then(
            ({ status }) => (ready[i] = status === 200),
            () => (ready[i] = false),
          );
      }, 100);
      // As simple as they come: it asks those that say they are ready, keeps connections, and never tries again.
      const agent = new Agent({ keepAlive: true });
      let turn = 0;
      const balancer = createServer((request, response) => {
        turn++;
        const to = ready[turn % 2] ? turn % 2 : (turn + 1) % 2;
        const { port } = stack.gateways[to]!;
        const passed = ask(
          {
            host: '127.0.0.1',
            port,
            path: request.url,
            method: request.method,
            headers: request.headers,
            agent,
          },
          (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.headers);
            answer.pipe(response);
          },
        );
        passed.on('error', (error) => response.writeHead(599).end(String(error)));
        request.pipe(passed);
      });
      const port = await freePort();
      await new Promise<void>((resolve) => balancer.listen(port, '127.0.0.1', resolve));

      const browser = await stack.login();
      const cookie = `session=${browser.cookies.get('session')!.value}`;
      const outcomes: Record<string, number> = {};
      const load = { on: true };
      const worker = async (path: string, method: string): Promise<void> => {
        while (load.on) {
          const outcome = await fetch(`http://127.0.0.1:${port}${path}`, {
            method,
            headers: { cookie, 'x-csrf': '1' },
          }).then(async (answer) => {
            const text = await answer.text();
            return answer.status === 200 ? '200' : `${answer.status} ${text.slice(0, 100)}`;
          }, String);
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        }
      };
      const workers = [
        ['/api/x', 'GET'],
        ['/api/x', 'POST'],
        ['/auth/session', 'GET'],
        ['/auth/refresh?force=true', 'POST'],
        ['/api/slow/300', 'GET'],
        ['/api/download/200000', 'GET'],
      ].map(([path = '', method = '']) => worker(path, method));
      try {
        for (let i = 0; i < RESTARTS; i++) {
          const index = i % 2;
          const old = stack.gateways[index]!;
          old.signal('SIGTERM');
          expect(await old.exited).toBe(0);
          await stack.restartGateway(index);
          await until(() => ready[index] === true, {
            what: 'its being ready again',
            timeoutMs: 60_000,
          });
        }
      } finally {
        load.on = false;
        await Promise.all(workers);
        clearInterval(watch);
        agent.destroy();
        balancer.closeAllConnections();
        balancer.close();
      }
      expect(Object.keys(outcomes)).toEqual(['200']);
      expect(outcomes['200']).toBeGreaterThan(20 * RESTARTS);
    },
    60_000 + RESTARTS * 30_000,
  );
});
