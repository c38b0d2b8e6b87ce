import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, startGateway, until } from '@session-gateway/testkit';
import { askedMetrics, metricsOf, missingMetrics } from './queries.js';
import { type Stack, startStack } from './stack.js';

interface OtlpSpan {
  traceId: string;
  parentSpanId?: string;
  spanId: string;
  name: string;
  attributes: { key: string; value: { stringValue?: string } }[];
}

describe('who runs the gateway', () => {
  let stack: Stack;
  let folder: string;
  const spans: OtlpSpan[] = [];
  const apiKeys = new Set<unknown>();
  const collector = createServer((request, response) => {
    apiKeys.add(request.headers['api-key']);
    let text = '';
    request
      .on('data', (piece) => (text += String(piece)))
      .on('end', () => {
        const { resourceSpans } = JSON.parse(text) as {
          resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[];
        };
        spans.push(
          ...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)),
        );
        response.end('{}');
      });
  });
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'operating-'));
    await writeFile(join(folder, 'secret'), 'development-only-secret\n');
    const collectorPort = await freePort();
    await new Promise<void>((resolve) => collector.listen(collectorPort, '127.0.0.1', resolve));
    stack = await startStack({
      redis: false,
      provider: { accessTokenLifespanSeconds: 2 },
      env: {
        LOG_LEVEL: 'debug',
        KEYCLOAK_CLIENT_SECRET: undefined,
        KEYCLOAK_CLIENT_SECRET_FILE: join(folder, 'secret'),
        SHUTDOWN_DELAY: '2',
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collectorPort}`,
      },
    });
  });
  afterAll(async () => {
    await stack.dispose();
    collector.close();
    await rm(folder, { recursive: true });
  });

  test.each<[string, Record<string, string>, string[], number, string[]]>([
    [
      'a usable configuration',
      { GATEWAY_ROUTES: '[{"path":"/api","upstream":"http://127.0.0.1:9"}]' },
      ['check-config'],
      0,
      ['usable', '1 routes', 'DATABASE_URL'],
    ],
    [
      'all that is wrong',
      { PORT: 'x', LOG_LEVEL: 'loud', REDIS_URL: 'http://x' },
      ['check-config'],
      78,
      ['PORT', 'LOG_LEVEL', 'REDIS_URL'],
    ],
    [
      'credentials where traces go, but not which',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://user:sesame@traces.example' },
      ['check-config'],
      78,
      ['OTEL_EXPORTER_OTLP_ENDPOINT must have no user'],
    ],
    ['a flag that there is not', {}, ['--check-confg'], 2, ['--check-confg']],
    ['a word too many', {}, ['check-config', 'now'], 2, ['check-config', 'now']],
    ['the commands', {}, ['--help'], 0, ['encrypt-tokens', 'sessions', 'exit codes']],
  ])('is told of %s without anything being started', async (_, env, flags, code, words) => {
    const gateway = await startGateway({ env, flags, waitUntilLive: false });
    expect(await gateway.exited).toBe(code);
    for (const word of words) expect(gateway.output()).toContain(word);
    expect(gateway.output()).not.toContain('sesame');
  });

  test('finds a request by its id in the answer, at the upstream and in the log, and its trace at the collector', async () => {
    const browser = await stack.login();
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const answer = await browser.get(`${stack.url}/api/x?secret=1`, {
      headers: {
        'x-request-id': 'request-0123456789',
        traceparent: `00-${traceId}-b7ad6b7169203331-01`,
      },
    });
    expect(answer.headers['x-request-id']).toBe('request-0123456789');
    const seen = stack.upstream.requests.at(-1)!;
    expect(seen.headers['x-request-id']).toBe('request-0123456789');
    expect(seen.headers['traceparent']).toMatch(
      new RegExp(`^00-${traceId}-(?!b7ad6b7169203331)[0-9a-f]{16}-01$`),
    );
    expect(seen.rawHeaders.filter((name) => name.toLowerCase() === 'traceparent')).toHaveLength(1);
    await until(() => spans.some((span) => span.traceId === traceId), {
      what: 'the span',
      timeoutMs: 20_000,
    });
    const span = spans.find((one) => one.traceId === traceId)!;
    expect(span.parentSpanId).toBe('b7ad6b7169203331');
    expect(seen.headers['traceparent']).toContain(span.spanId);
    expect(JSON.stringify(span)).not.toContain('secret');
    await stack.gateways[0]!.said('request-0123456789');
    const lines = stack.gateways[0]!.stdout()
      .split('\n')
      .filter((line) => line.includes('request-0123456789'))
      .map((line) => JSON.parse(line) as object);
    expect(lines).toEqual([
      expect.objectContaining({
        event: 'request',
        request: 'request-0123456789',
        trace: traceId,
        route: '/api',
        status: 200,
        method: 'GET',
      }),
    ]);
    const odd = await browser.get(`${stack.url}/auth/session`, {
      headers: { 'x-request-id': 'a b\tc' },
    });
    expect(odd.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('finds what the provider was asked for in the trace of who asked, if that one is kept at all', async () => {
    const browser = await stack.login();
    const [kept, dropped] = ['a'.repeat(32), 'b'.repeat(32)];
    const refresh = async (traceparent: string) =>
      expect(
        (
          await browser.post(`${stack.url}/auth/refresh?force=true`, undefined, {
            headers: { traceparent },
          })
        ).status,
      ).toBe(200);
    await refresh(`00-${dropped}-b7ad6b7169203331-00`);
    await refresh(`00-${kept}-b7ad6b7169203331-01`);
    await until(() => spans.filter(({ traceId }) => traceId === kept).length === 2, {
      what: 'both spans',
      timeoutMs: 20_000,
    });
    const [provider, request] = spans.filter(({ traceId }) => traceId === kept);
    expect(provider).toMatchObject({ name: 'provider token', parentSpanId: request!.spanId });
    // Logins too ask on behalf of a request.
    expect(
      spans.filter(({ name }) => name === 'provider token').map(({ parentSpanId }) => parentSpanId),
    ).not.toContain(undefined);
    expect(spans.map(({ traceId }) => traceId)).not.toContain(dropped);
  });

  test('finds no state of another trace at the upstream of one that begins here', async () => {
    const stateAtUpstream = async (headers: Record<string, string>) => {
      await stack.ask(0, '/open/x', { headers: { ...headers, tracestate: 'a=1', baggage: 'k=v' } });
      const seen = stack.upstream.requests.at(-1)!;
      expect(seen.headers['baggage']).toBe('k=v');
      return [
        seen.headers['tracestate'],
        seen.rawHeaders.filter((name) => name.toLowerCase() === 'tracestate').length,
      ];
    };
    expect(
      await stateAtUpstream({ traceparent: `00-${'c'.repeat(32)}-b7ad6b7169203331-01` }),
    ).toEqual(['a=1', 1]);
    for (const headers of [
      {},
      { traceparent: 'nonsense' },
      { traceparent: `ff-${'c'.repeat(32)}-b7ad6b7169203331-01` },
    ])
      expect(await stateAtUpstream(headers as Record<string, string>)).toEqual([undefined, 0]);
  });

  test('is told once that traces cannot be sent, and that they can again', async () => {
    const port = await freePort();
    await writeFile(join(folder, 'headers'), 'api-key=of%20ours\n');
    const gateway = await stack.startGateway({
      LOG_LEVEL: undefined,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_HEADERS_FILE: join(folder, 'headers'),
    });
    await fetch(`${gateway.url}/open/x`);
    await gateway.said(/"level":40,.*traces cannot be sent \(OTEL_EXPORTER_OTLP_ENDPOINT\)/);
    expect(gateway.output()).not.toContain(String(port));
    const late = createServer(
      (request, response) => void collector.emit('request', request, response),
    );
    await new Promise<void>((resolve) => late.listen(port, '127.0.0.1', resolve));
    await until(
      async () =>
        (await fetch(`${gateway.url}/open/x`)).ok &&
        gateway.output().includes('traces are sent again'),
      { what: 'traces being sent again', timeoutMs: 20_000 },
    );
    expect(apiKeys).toContain('of ours');
    expect(gateway.output().match(/traces cannot be sent/g)).toHaveLength(1);
    await gateway.kill();
    late.close();
  });

  test('is not alarmed by what browsers send', async () => {
    const name = `login-${createHash('sha256').update('s').digest('base64url').slice(0, 16)}`;
    for (const value of [
      'garbage',
      `v2.k1.${'A'.repeat(60)}`,
      `${'0'.repeat(32)}:${'0'.repeat(32)}:00`,
    ]) {
      expect(
        (await stack.ask(0, '/auth/callback?state=s&code=x', { cookie: `${name}=${value}` }))
          .status,
      ).toBe(303);
    }
    const text = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
    expect(text).toContain('session_gateway_logins_total{outcome="no_login_state"} 3');
    expect(text).not.toMatch(/^session_gateway_token_unreadable_total\{/m);
  });

  test('reads the numbers that matter, under labels from closed sets', async () => {
    const browser = await stack.login();
    for (const path of [
      '/api/x',
      '/api/status/503',
      '/auth/session',
      `/nothing/${'x'.repeat(100)}`,
    ])
      await browser.get(stack.url + path);
    const text = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
    for (const line of [
      'session_gateway_upstream_seconds_count{route="/api",outcome="2xx"}',
      'session_gateway_upstream_seconds_count{route="/api",outcome="5xx"}',
      'session_gateway_provider_seconds_count{endpoint="token",outcome="2xx"}',
      'session_gateway_session_lookups_total{answered_by="process"}',
      'session_gateway_logins_total{outcome="logged_in"}',
    ])
      expect(text).toContain(line);
    for (const name of [
      'refreshes_total',
      'sessions_ended_total',
      'token_unreadable_total',
      'problems_total',
      'client_secret_reloads_total',
    ])
      expect(text).toContain(`session_gateway_${name}`);
    expect(text).not.toContain('xxxx');
    for (const url of [`${stack.url}/metrics`, `${stack.gateways[0]!.managementUrl}/metric`]) {
      const nothing = await fetch(url);
      expect([nothing.status, await nothing.json()]).toEqual([
        404,
        expect.objectContaining({ code: 'not_found' }),
      ]);
    }
  });

  test('has panels and alerts that ask for nothing but what is there', async () => {
    const browser = await stack.login();
    await browser.post(`${stack.url}/auth/refresh?force=true`);
    await browser.get(`${stack.url}/api/status/503`);
    await browser.post(`${stack.url}/auth/logout`);
    const text = await (await fetch(`${stack.gateways[0]!.managementUrl}/metrics`)).text();
    const asked = askedMetrics();
    expect(asked.length).toBeGreaterThan(30);
    expect(missingMetrics(asked, text)).toEqual([]);
    const wrong =
      'sum by (outcme) (rate(session_gateway_logins_total{kind="x"}[5m])) + session_gateway_nothing';
    expect(missingMetrics(metricsOf(wrong), text)).toEqual([
      `session_gateway_logins_total{outcme} in ${wrong}`,
      `session_gateway_logins_total{kind} in ${wrong}`,
      `session_gateway_nothing in ${wrong}`,
    ]);
  });

  test("reads the API's description, but not in production", async () => {
    const description = (await (await fetch(`${stack.url}/openapi/json`)).json()) as {
      paths: object;
    };
    expect(Object.keys(description.paths)).toEqual(
      expect.arrayContaining(['/auth/session', '/admin/sessions/{id}', '/health/ready']),
    );
    expect((await fetch(`${stack.url}/openapi`)).headers.get('content-type')).toContain(
      'text/html',
    );
    const production = await stack.startGateway({
      NODE_ENV: 'production',
      ALLOW_INSECURE_HTTP: 'true',
      REDIS_URL: 'redis://127.0.0.1:1',
    });
    for (const path of ['/openapi', '/openapi/json', '/metrics'])
      expect((await fetch(production.url + path)).status).toBe(404);
    expect((await fetch(`${production.managementUrl}/metrics`)).status).toBe(200);
    await production.said('REDIS_URL names no password');
    expect(stack.gateways[0]!.output()).not.toContain('weak_link');
    await production.kill();
  });

  test('replaces the client secret without a restart, and no session is lost meanwhile', async () => {
    const browser = await stack.login();
    const refresh = async () => (await browser.post(`${stack.url}/auth/refresh?force=true`)).status;
    expect(await refresh()).toBe(200);
    await writeFile(join(folder, 'secret'), 'another-secret\n');
    await until(async () => (await refresh()) === 502, {
      what: 'the wrong secret being used',
      timeoutMs: 20_000,
    });
    await writeFile(join(folder, 'secret'), '');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await writeFile(join(folder, 'secret'), 'development-only-secret\n');
    await until(async () => (await refresh()) === 200, {
      what: 'the right secret being used',
      timeoutMs: 20_000,
    });
    expect(stack.gateways[0]!.output()).not.toContain('another-secret');
  });

  test('ends it without a failed request: unready first, then no new connections, then gone', async () => {
    const gateway = stack.gateways[0]!;
    const slow = fetch(`${stack.url}/open/slow/1500`);
    gateway.signal('SIGTERM');
    await until(async () => (await fetch(`${stack.url}/health/ready`)).status === 503, {
      what: 'it being unready',
    });
    const during = await fetch(`${stack.url}/open/x`);
    expect([during.status, during.headers.get('connection')]).toEqual([200, 'close']);
    expect(
      ((await (await fetch(`${stack.url}/health/ready`)).json()) as { status: string }).status,
    ).toBe('stopping');
    expect((await slow).status).toBe(200);
    expect(await gateway.exited).toBe(0);
  });
});
