import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/keycloak-server';
import { startUpstream, type Upstream, type UpstreamRequest } from './upstream.js';

describe('the upstream', () => {
  let upstream: Upstream;
  beforeAll(async () => void (upstream = await startUpstream()));
  afterEach(() => upstream.clear());
  afterAll(() => upstream.dispose());

  test('answers with what arrived: raw URL, headers, body hash and the claims of the bearer token', async () => {
    const token = `e30.${Buffer.from('{"sub":"s"}').toString('base64url')}.x`;
    const response = await fetch(`${upstream.url}/api/a%2Fb?q=1`, {
      method: 'POST',
      body: 'hello',
      headers: { authorization: `Bearer ${token}`, 'X-Odd': 'Y' },
    });
    const seen = (await response.json()) as UpstreamRequest;
    expect(seen).toMatchObject({
      method: 'POST',
      url: '/api/a%2Fb?q=1',
      bodyBytes: 5,
      bodySha256: createHash('sha256').update('hello').digest('hex'),
      bearer: token,
      claims: { sub: 's' },
    });
    expect(seen.headers['x-odd']).toBe('Y');
    expect([upstream.count(), upstream.requests.length]).toEqual([1, 1]);
  });

  test('answers with a status, after a time, in a stream, in events, or not', async () => {
    expect((await fetch(`${upstream.url}/x/status/418`)).status).toBe(418);
    const started = performance.now();
    await fetch(`${upstream.url}/x/slow/50`);
    expect(performance.now() - started).toBeGreaterThan(40);
    expect(
      (await (await fetch(`${upstream.url}/x/download/300001`)).arrayBuffer()).byteLength,
    ).toBe(300_001);
    expect((await (await fetch(`${upstream.url}/sse/3`)).text()).match(/^data:/gm)).toHaveLength(3);
    await expect(fetch(`${upstream.url}/reset`)).rejects.toThrow();
    await expect(
      fetch(`${upstream.url}/cut`).then((response) => response.text()),
    ).rejects.toThrow();
    expect((await fetch(`${upstream.url}/cookies`)).headers.getSetCookie()).toHaveLength(4);
  });

  test('sees a client leave', async () => {
    const leaving = new AbortController();
    const request = fetch(`${upstream.url}/hang`, { signal: leaving.signal });
    await until(() => upstream.open() === 1);
    leaving.abort();
    await expect(request).rejects.toThrow();
    await until(() => upstream.aborted() === 1 && upstream.open() === 0);
  });

  test('can be stopped and started on its port', async () => {
    await upstream.stop();
    await expect(fetch(upstream.url)).rejects.toThrow();
    await upstream.start();
    expect((await fetch(upstream.url)).status).toBe(200);
  });
});
