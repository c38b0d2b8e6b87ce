import { createServer, type IncomingHttpHeaders } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createTracer } from './tracing.js';

interface Export {
  resourceSpans: { scopeSpans: { spans: Record<string, unknown>[] }[] }[];
}

describe('traces', () => {
  const received: {
    url: string | undefined;
    headers: IncomingHttpHeaders;
    body: Export;
  }[] = [];
  let status = 200;
  const server = createServer((request, response) => {
    let text = '';
    request
      .on('data', (piece) => (text += String(piece)))
      .on('end', () => {
        received.push({
          url: request.url,
          headers: request.headers,
          body: JSON.parse(text) as Export,
        });
        response.writeHead(status, status === 307 ? { Location: '/elsewhere' } : {}).end('{}');
      });
  });
  beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)));
  afterAll(() => void server.close());
  const endpoint = (): string => `http://127.0.0.1:${(server.address() as { port: number }).port}/`;

  test("go on where the caller's stand, begin anew where they make no sense, and end up at the collector", async () => {
    const tracer = createTracer({
      endpoint: endpoint(),
      headers: { 'api-key': 'k' },
      onChange: (problem) => {
        throw new Error(problem ?? 'none');
      },
    });
    const [traceId, parent] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
    const continued = tracer.begin('GET', 'server', `00-${traceId}-${parent}-01`);
    expect(continued).toMatchObject({ traceId, isContinued: true });
    expect(continued.traceparent).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
    expect(continued.traceparent).not.toContain(parent);
    const fresh = [
      null,
      'nonsense',
      `00-${'0'.repeat(32)}-${parent}-01`,
      `ff-${traceId}-${parent}-01`,
      `00-${traceId}-${parent}-01-x`,
    ].map((given) => tracer.begin('POST', 'server', given));
    expect(fresh.filter((span) => span.isContinued)).toEqual([]);
    expect(new Set([traceId, ...fresh.map((span) => span.traceId)]).size).toBe(6);
    const unsampled = tracer.begin('GET', 'server', `00-${traceId}-${parent}-00`);
    expect(unsampled.traceparent).toMatch(/-00$/);
    continued.end({ 'http.response.status_code': 200 }, false);
    unsampled.end({}, false);
    fresh[0]?.end({}, true);
    await tracer.stop();
    expect(received).toHaveLength(1);
    expect(received[0]).toMatchObject({
      url: '/v1/traces',
      headers: { 'api-key': 'k', 'content-type': 'application/json' },
    });
    const spans = received[0]?.body.resourceSpans[0]?.scopeSpans[0]?.spans;
    expect(spans).toEqual([
      expect.objectContaining({
        traceId,
        parentSpanId: parent,
        name: 'GET',
        kind: 2,
        status: { code: 0 },
        attributes: [{ key: 'http.response.status_code', value: { intValue: 200 } }],
      }),
      expect.objectContaining({ name: 'POST', status: { code: 2 } }),
    ]);
  });

  test('are dropped while the collector is away, in bounded memory', async () => {
    const problems: (string | null)[] = [];
    const tracer = createTracer({
      endpoint: 'http://127.0.0.1:1',
      onChange: (problem) => problems.push(problem),
      timeoutMs: 300,
    });
    for (let i = 0; i < 10_000; i++) tracer.begin('GET', 'server', null).end({}, false);
    await tracer.stop();
    expect(problems).toHaveLength(1);
  });

  test('that cannot be sent are told of once, and so is that they can again, without the address', async () => {
    const problems: (string | null)[] = [];
    const tracer = createTracer({
      endpoint: endpoint(),
      onChange: (problem) => problems.push(problem),
      timeoutMs: 300,
    });
    // The headers are for this collector: a redirection is not followed.
    for (status of [200, 307, 503, 200, 200, 503]) {
      tracer.begin('GET', 'server', null).end({}, false);
      await tracer.flush();
    }
    await tracer.stop();
    expect(problems).toEqual([
      'the collector answers 307',
      null,
      'the collector asks to be tried again later',
    ]);
    expect(received.map(({ url }) => url)).not.toContain('/elsewhere');
    const refused = createTracer({
      endpoint: 'http://user:sesame@127.0.0.1:1',
      onChange: (problem) => problems.push(problem),
      timeoutMs: 300,
    });
    refused.begin('GET', 'server', null).end({}, false);
    await refused.stop();
    expect(problems.at(-1)).toBe('ECONNREFUSED');
  });
});
