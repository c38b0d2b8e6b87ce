import { createServer, type Server, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Agent, request } from 'undici';
import { type Stack, startStack } from './stack.js';

const MB = 1_048_576;
/** A gigabyte by hand: STREAM_MB=1024. */
const SIZE = Number(process.env['STREAM_MB'] ?? 256) * MB;
/** What buffers, the collector's leisure and Node itself may take; far less than what passes through. */
const GROWTH_MB = 96;

let stack: Stack;
let silent: Server;
const held = new Set<Socket>();
const agent = new Agent({ bodyTimeout: 0, headersTimeout: 0 });
beforeAll(async () => {
  // Accepts, and never reads a byte.
  silent = createServer({ pauseOnConnect: true }, (socket) => {
    held.add(socket.on('error', () => undefined));
  });
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const { port } = silent.address() as { port: number };
  stack = await startStack({ redis: false, start: false });
  await stack.startGateway({
    GATEWAY_ROUTES: JSON.stringify([
      { path: '/silent', upstream: `http://127.0.0.1:${port}`, auth: 'none' },
      { path: '/open', upstream: stack.upstream.url, auth: 'none' },
    ]),
  });
});
afterAll(async () => {
  await agent.destroy();
  for (const socket of held) socket.destroy();
  silent.close();
  await stack.dispose();
});

async function residentMb(): Promise<number> {
  const text = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]) / MB;
}

/** How far the gateway's memory rises above what it was, while something passes through. */
async function growthDuring(work: () => Promise<void>): Promise<number> {
  const before = await residentMb();
  let peak = before;
  let over = false;
  const watching = (async () => {
    while (!over) {
      peak = Math.max(peak, await residentMb());
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  await work().finally(() => {
    over = true;
  });
  await watching;
  return peak - before;
}

const piece = Buffer.alloc(65_536, 'x');
function* pieces(
  bytes: number,
  onSent: (total: number) => void = () => undefined,
): Generator<Buffer> {
  for (let sent = 0; sent < bytes;) {
    sent += piece.length;
    onSent(sent);
    yield piece;
  }
}

describe(`a body of ${SIZE / MB} MB`, () => {
  test('goes up in bounded memory', async () => {
    const growth = await growthDuring(async () => {
      const answer = await request(`${stack.url}/open/upload`, {
        method: 'POST',
        body: Readable.from(pieces(SIZE)),
        dispatcher: agent,
      });
      expect((await answer.body.json()) as object).toMatchObject({ bodyBytes: SIZE });
    });
    expect(growth).toBeLessThan(GROWTH_MB);
  });

  test('comes down in bounded memory', async () => {
    const growth = await growthDuring(async () => {
      const answer = await request(`${stack.url}/open/download/${SIZE}`, { dispatcher: agent });
      let bytes = 0;
      for await (const chunk of answer.body) bytes += (chunk as Buffer).length;
      expect(bytes).toBe(SIZE);
    });
    expect(growth).toBeLessThan(GROWTH_MB);
  });

  test('waits where the upstream does not read', async () => {
    let sent = 0;
    const abort = new AbortController();
    const growth = await growthDuring(async () => {
      const sending = request(`${stack.url}/silent`, {
        method: 'POST',
        body: Readable.from(
          pieces(SIZE, (total) => {
            sent = total;
          }),
        ),
        dispatcher: agent,
        signal: abort.signal,
      });
      await stalled(() => sent);
      abort.abort();
      await expect(sending).rejects.toThrow();
    });
    expect([sent > 0, sent < SIZE / 4, growth < GROWTH_MB]).toEqual([true, true, true]);
  });

  test('waits where the client does not read', async () => {
    const growth = await growthDuring(async () => {
      const answer = await request(`${stack.url}/open/download/${SIZE}`, { dispatcher: agent });
      let readings = 0;
      await stalled(() => (readings = stack.upstream.open()));
      expect(readings).toBe(1);
      answer.body.on('error', () => undefined).destroy();
    });
    expect(growth).toBeLessThan(GROWTH_MB);
  });
});

/** Resolves once a number has stayed the same for a second. */
async function stalled(look: () => number): Promise<void> {
  for (let last = -1, same = 0; same < 10;) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const now = look();
    same = now === last ? same + 1 : 0;
    last = now;
  }
}
